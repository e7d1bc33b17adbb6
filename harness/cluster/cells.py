"""Which clocks and sources of delays each policy runs under, and which of them would execute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.clocks import CLOCK_OF, DelaySource, delay_steps
from harness.errors import UsageError
from harness.schedule.plan import IN_NO_TIME, TimingKey
from harness.spec import Suite
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS, ClockName


@dataclass(frozen=True, slots=True)
class LeftOutCell:
    """A policy under a clock and a source of delays that never executes anything."""

    variant: PolicyAtNfe
    clock: ClockName
    latency_source: str
    delay_steps: int
    """The shortest delay, control steps."""
    reason: str

    @property
    def sentence(self) -> str:
        """What is not run, and why."""
        return f"{self.variant.label}, {self.clock}, {self.latency_source} is not run: {self.reason}."


@dataclass(frozen=True, slots=True)
class Cells:
    """What is run of clocks × sources of delays × policies at their NFE."""

    timings: Mapping[PolicyAtNfe, Sequence[TimingKey]] = field(default_factory=dict)
    left_out: tuple[LeftOutCell, ...] = ()


def plan_cells(
    suite: Suite,
    sources: Sequence[DelaySource],
    variants: Sequence[PolicyAtNfe],
    infos: Mapping[str, PolicyInfo],
    *,
    whole: bool = True,
    timed: bool = False,
) -> Cells:
    """Cross clocks, sources and variants.

    Args:
        suite: The suite, with its clocks.
        sources: Its sources of delays, looked up.
        variants: Policies at their NFE.
        infos: Policy label → what it can do.
        whole: Whether `variants` are all that is run, so that something has to be left.
        timed: Whether that has to be under a clock that charges decisions their time.

    Raises:
        UsageError: A clock that a policy cannot do, a source that says nothing of a policy at an NFE, or nothing is
            left to run.
    """
    timings: dict[PolicyAtNfe, Sequence[TimingKey]] = {}
    left_out: list[LeftOutCell] = []
    for variant in variants:
        kept: list[TimingKey] = []
        for clock in suite.clock:
            if clock == SYNCHRONOUS:
                kept += IN_NO_TIME
                continue
            require_clock(clock, variant.policy_id or "", infos[variant.policy_id or ""])
            about = _sources_of(variant, sources)
            if CLOCK_OF[clock].real and len(about) > 1:
                raise UsageError(
                    f"Under the clock {clock!r} decisions take what they take, and a source of delays is the one "
                    f"prediction that they are held against; {len(about)} are given: "
                    f"{', '.join(source.name for source in about)}."
                )
            for source in about:
                _require_same_chunk(source, variant.policy_id or "", infos[variant.policy_id or ""])
                cell = _idle(suite, clock, source, variant, infos[variant.policy_id or ""].chunk_length)
                if cell is None:
                    kept.append((clock, source.name))
                else:
                    left_out.append(cell)
        timings[variant] = tuple(kept)
    kept_clocks = {clock for kept in timings.values() for clock, _ in kept}
    if whole and left_out and not kept_clocks - ({SYNCHRONOUS} if timed else set()):
        raise UsageError(
            f"Nothing is left to run under {', '.join(name for name in suite.clock if name not in kept_clocks)}: "
            + " ".join(cell.sentence for cell in left_out)
            + " Give a shorter delay"
            + (", or a policy with longer chunks." if any(CLOCK_OF[cell.clock].overlaps for cell in left_out) else ".")
        )
    return Cells(timings, tuple(left_out))


def require_clock(clock: ClockName, label: str, info: PolicyInfo) -> None:
    """Refuse a clock that a policy cannot do.

    Raises:
        UsageError: The clock asks the policy to continue its old chunk, which this one cannot, or for a policy behind a
            connection, which this one is not.
    """
    if CLOCK_OF[clock].real and not info.remote:
        raise UsageError(
            f"Policy {label!r} cannot run under the clock {clock!r}, which asks a policy over a connection: "
            "serve it (`harness serve --policy …`) and run openpi://HOST:PORT."
        )
    if CLOCK_OF[clock].freezes and not info.rtc:
        raise UsageError(
            f"Policy {label!r} cannot run under the clock {clock!r}: it does not make a chunk that continues the old "
            "one. flow, and pi05, pi0 and smolvla of LeRobot do, unless they are served over openpi://, compiled, "
            "replayed as graphs or with quantised activations. Use asynchronous or blocking."
        )


def _sources_of(variant: PolicyAtNfe, sources: Sequence[DelaySource]) -> list[DelaySource]:
    about = [source for source in sources if source.covers(variant.policy_id or "")]
    if not about:
        raise UsageError(f"No source of delays says what policy {variant.policy_id!r} takes; name one with --latency.")
    for source in about:
        if source.samples_of(variant) is None:
            known = ", ".join(sorted(each.label for each in source.by_variant))
            raise UsageError(f"{source.name} does not say what {variant.label} takes. It has: {known}.")
    return about


def _require_same_chunk(source: DelaySource, label: str, info: PolicyInfo) -> None:
    timed = source.facts.get("chunk_length")
    if timed is not None and int(timed) != info.chunk_length:
        raise UsageError(
            f"{source.name} timed {label!r} with chunks of {timed} actions, but it now makes chunks of "
            f"{info.chunk_length}; time it again, or say --latency-as {label!r} to use that timing all the same."
        )


def _idle(
    suite: Suite, clock: ClockName, source: DelaySource, variant: PolicyAtNfe, chunk_length: int
) -> LeftOutCell | None:
    least = delay_steps(source.least_ms(variant), suite.protocol.control_hz)
    longest = max((suite.protocol.max_steps_of(tasks.suite) for tasks in suite.tasks), default=0)
    reason = CLOCK_OF[clock].outlives(least, chunk_length, longest)
    return LeftOutCell(variant, clock, source.name, least, reason) if reason is not None else None


def timing_record(suite: Suite, sources: Sequence[DelaySource], cells: Cells) -> dict[str, Any]:
    """What `runs.timing` holds: the run's clocks, its sources, and the cells left out with why."""
    return {
        "clocks": list(suite.clock),
        "sources": {source.name: _source_record(source, cells.timings) for source in sources},
        "left_out": [
            {
                "policy_id": cell.variant.policy_id,
                "nfe": cell.variant.nfe,
                "clock": cell.clock,
                "latency_source": cell.latency_source,
                "delay_steps": cell.delay_steps,
                "reason": cell.reason,
            }
            for cell in cells.left_out
        ],
    }


def _source_record(source: DelaySource, variants: Mapping[PolicyAtNfe, Any]) -> dict[str, Any]:
    delays = {}
    for variant in variants:
        samples = source.samples_of(variant)
        if samples is not None:
            low, middle, high = np.quantile(samples.all_ms, [0.0, 0.5, 0.99])
            delays[variant.label] = {
                "samples": len(samples.all_ms),
                "launches": len(samples.launches),
                "min_ms": float(low),
                "median_ms": float(middle),
                "p99_ms": float(high),
                "sha256": samples.sha256,
            }
    terms = {"network": source.network, "sensor": source.sensor}
    medians = {f"{name}_ms": float(np.median(each.all_ms)) for name, each in terms.items() if each is not None}
    return {**source.facts, **medians, "delays": delays}

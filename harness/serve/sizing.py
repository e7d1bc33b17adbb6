"""How large a batch should be, and how long a request may wait for one: chosen from measured batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from harness.latency.inputs import synthetic_observations
from harness.policies.base import EpisodicPolicy, Policy
from harness.policies.registry import serving_options
from harness.schedule.batching import buckets, choose_batch
from harness.schedule.keys import decision_noise
from harness.spec.observation import Observation, PreviousChunk
from harness.time_source import TimeSource

BUDGET_S = 10.0
"""No larger batch is tried once measuring has taken this long, seconds."""
CALLS = 2
"""Timed calls of a batch size; the faster one counts, since whatever disturbs makes calls slower."""
PREPARE_S = 60.0
"""No larger batch is recorded once recording has taken this long, seconds."""
DEFAULT_WAIT_S = 0.005
"""Longest wait where nothing was measured, seconds."""
NOISE_KEY = "0" * 64


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a server will be asked for."""

    nfes: tuple[int, ...] = ()
    """NFE values, besides the policy's default."""
    continued: bool = False
    """Whether chunks will have to continue old ones (clock `rtc`)."""


DEFAULT_NFE = Awaited()
"""Decisions at the policy's default NFE, each on its own."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a server batches."""

    max_batch: int
    max_wait_s: float
    measured_ms: Mapping[int, float] = field(default_factory=dict)
    """Batch size → latency, milliseconds, where it was measured."""
    why: str = ""
    """One clause for people: where the numbers are from."""
    adaptive: bool = False
    """Whether the wait was chosen here, so that what is learned of arrivals may shorten it."""
    sizes: tuple[int, ...] = ()
    """Batch sizes that were recorded before anybody asked; empty where a policy takes any size as it comes."""
    prepared_s: float = 0.0
    """What recording them took, beyond the timed batches, seconds."""
    graphs: str = ""
    """Whether CUDA graphs are replayed, and why (not); empty where there is nothing to say."""

    @property
    def told(self) -> str:
        """What was prepared and what it took, in words; empty where nothing was."""
        sizes = ", ".join(map(str, self.sizes))
        prepared = f"batches of {sizes} recorded as CUDA graphs in {self.prepared_s:.1f} s" if sizes else ""
        return "; ".join(filter(None, [prepared, f"graphs {self.graphs}" if self.graphs else ""]))

    def record(self) -> dict[str, object]:
        """Plain data for the ledger."""
        sizes = {"sizes": list(self.sizes), "prepared_s": round(self.prepared_s, 3)} if self.sizes else {}
        return {
            **sizes,
            **({"prepared": self.told} if self.told else {}),
            "max_batch": self.max_batch,
            "max_wait_ms": round(self.max_wait_s * 1e3, 3),
            "why": self.why,
            "measured_ms": {str(size): round(ms, 3) for size, ms in self.measured_ms.items()},
        }


def asked_for(options: Mapping[str, object]) -> tuple[int | None, float | None]:
    """Batch size and wait that a policy's options ask for, e.g. `flow?max_batch=8&max_wait_ms=2`.

    Returns:
        (max_batch, longest wait in seconds); None for what is to be chosen.

    Raises:
        UsageError: A value that is no size or no time.
    """
    asked = serving_options(options)
    return asked.max_batch, None if asked.max_wait_ms is None else asked.max_wait_ms / 1e3


def plan_batches(
    policy: Policy, *, clock: TimeSource, max_batch: int | None = None, max_wait_s: float | None = None
) -> BatchPlan:
    """Choose batch size and wait, by timing a few batches unless both are given.

    Args:
        policy: What will be served; it is asked for a few decisions on invented observations.
        clock: Stopwatch.
        max_batch: Largest batch; None to choose.
        max_wait_s: Longest wait of a request for others, seconds; None to choose.
    """
    limit = min(max_batch or policy.info.max_batch, policy.info.max_batch)
    fallback_s = DEFAULT_WAIT_S if max_wait_s is None else max_wait_s
    if max_batch is not None and max_wait_s is not None:
        return BatchPlan(limit, fallback_s, why="as asked")
    if limit == 1:
        return BatchPlan(1, 0.0 if max_wait_s is None else max_wait_s, why="one observation at a time")
    adaptive = max_wait_s is None
    if policy.info.privileged:
        why = "not measured: it reads object poses, which cannot be invented"
        return BatchPlan(limit, fallback_s, why=why, adaptive=adaptive)
    measured = measure_batches(policy, clock=clock, largest=limit)
    shown = {size: seconds * 1e3 for size, seconds in measured.items()}
    if len(measured) < 2:
        why = "not measured: two batches would take too long, or failed"
        return BatchPlan(limit, fallback_s, shown, why, adaptive)
    size, wait_s = choose_batch(measured)
    wait_s = wait_s if max_wait_s is None else max_wait_s
    return BatchPlan(limit if max_batch else size, wait_s, shown, "chosen from measured batches", adaptive)


def prepare_serving(
    policy: Policy,
    *,
    clock: TimeSource,
    max_batch: int | None = None,
    max_wait_s: float | None = None,
    awaited: Awaited = DEFAULT_NFE,
) -> BatchPlan:
    """Get a policy ready to be served, so that nothing is left for its first decisions: graphs, sizes, warm-up.

    Args:
        policy: What will be served. One that can replay CUDA graphs and was not told whether to does so if its answers
            stay equal to the bit.
        clock: Stopwatch.
        max_batch: As for `plan_batches`.
        max_wait_s: As for `plan_batches`.
        awaited: What it will be asked for.

    Raises:
        UsageError: An NFE that the policy does not offer.
    """
    continued = awaited.continued and policy.info.rtc
    graphs = settle_graphs(policy, continued=continued)
    plan = replace(plan_batches(policy, clock=clock, max_batch=max_batch, max_wait_s=max_wait_s), graphs=graphs)
    if not getattr(policy, "records_sizes", False) or isinstance(policy, EpisodicPolicy):
        return plan
    asked = [policy.info.default_nfe, *(awaited.nfes if policy.info.nfe_options else [])]
    steps = tuple(dict.fromkeys(policy.info.resolve_nfe(nfe) for nfe in asked))
    began = clock.seconds()
    sizes: list[int] = []
    for size in buckets(plan.max_batch):
        try:
            for nfe in steps:
                policy.act(*_invented(policy, size), nfe=nfe)
                if continued:
                    policy.act(*_invented(policy, size, continued=True), nfe=nfe)
        except Exception as error:
            graphs = f"{graphs or 'on'}; a batch of {size} failed: {error}"
            break
        sizes.append(size)
        if clock.seconds() - began > PREPARE_S:
            break
    if not sizes:
        # What nobody asked for must not be tried again at every decision.
        if graphs_are_ours(policy):
            policy.drop_graphs()  # type: ignore[attr-defined]
        return replace(plan, graphs=graphs)
    # No larger batch than was recorded: one that comes in the middle of a run would hold everybody up.
    prepared_s = clock.seconds() - began
    return replace(plan, max_batch=sizes[-1], sizes=tuple(sizes), prepared_s=prepared_s, graphs=graphs)


def settle_graphs(policy: Policy, size: int = 2, *, continued: bool = False) -> str:
    """Let a policy replay CUDA graphs if nobody said whether to, it can, and its answers stay equal.

    Args:
        policy: May have `use_graphs`, `drop_graphs` and `graphs_asked`, as `flow` has.
        size: Batch to compare.
        continued: Whether to compare chunks that continue old ones too.

    Returns:
        What was done and why, for people; empty where there was nothing to decide.
    """
    on_cuda = getattr(getattr(policy, "device", None), "type", None) == "cuda"
    if not on_cuda or not graphs_are_ours(policy):
        return ""
    kinds = (False, True) if continued else (False,)
    inputs = [_invented(policy, min(size, policy.info.max_batch), continued=kind) for kind in kinds]
    expected = [policy.act(*each).actions for each in inputs]
    try:
        policy.use_graphs()  # type: ignore[attr-defined]
        found = [(was, policy.act(*each).actions) for _ in range(2) for was, each in zip(expected, inputs, strict=True)]
    except Exception as error:
        policy.drop_graphs()  # type: ignore[attr-defined]
        return f"off: {error}"
    if all(np.array_equal(was, now) for was, now in found):
        return "on: answers are equal to the bit"
    policy.drop_graphs()  # type: ignore[attr-defined]
    return f"off: answers differ by up to {max(float(np.abs(was - now).max()) for was, now in found):.2g}"


def graphs_are_ours(policy: Policy) -> bool:
    """Whether a policy can replay CUDA graphs, and nobody said whether to."""
    return hasattr(policy, "use_graphs") and getattr(policy, "graphs_asked", None) is None


def measure_batches(policy: Policy, *, clock: TimeSource, largest: int, budget_s: float = BUDGET_S) -> dict[int, float]:
    """Time batches of 1, 2, 4, … at the policy's default NFE, until more does not pay, or fails, or takes too long.

    A size that raises (out of memory, most likely) ends the search: the sizes before it are what the machine can do.

    Returns:
        Batch size → latency, seconds.
    """
    began = clock.seconds()
    measured: dict[int, float] = {}
    size = 1
    while size <= largest:
        try:
            measured[size] = _time(policy, size, clock)
        except Exception:
            break
        # Twice in a row, since one disturbed measurement should not decide.
        if choose_batch(measured)[0] < size // 2:
            break
        spent = clock.seconds() - began
        if spent + 2 * (CALLS + 1) * measured[size] > budget_s:
            break
        size *= 2
    return measured


def _time(policy: Policy, size: int, clock: TimeSource) -> float:
    """Seconds of one batch, after a call that warms it up."""
    observations, noise = _invented(policy, size)
    times = []
    for _ in range(CALLS + 1):
        start = clock.seconds()
        policy.act(observations, noise)
        times.append(clock.seconds() - start)
    return min(times[1:])


def _invented(
    policy: Policy, size: int, *, continued: bool = False
) -> tuple[list[Observation], NDArray[np.float32] | None]:
    """Observations and noise for a batch of `size`, with old chunks to continue if asked."""
    info = policy.info
    observations = synthetic_observations(size, cameras=info.cameras)
    if continued:
        old = PreviousChunk(np.zeros((info.chunk_length, info.action_dim), dtype=np.float32), frozen=1)
        observations = [replace(observation, previous=old) for observation in observations]
    if info.noise_shape is None:
        return observations, None
    return observations, np.stack([decision_noise(NOISE_KEY, n, info.noise_shape) for n in range(size)])

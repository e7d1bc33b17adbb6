"""Options of `harness run` that say how simulated time passes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError, unknown_name
from harness.spec.changes import SuiteChanges
from harness.spec.resolve import parse
from harness.spec.timing import CLOCKS, ClockName, Latency

if TYPE_CHECKING:
    from harness.clocks import DelaySource
    from harness.spec import PolicySpec, Suite


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """The options, as they were given."""

    clock: str | None = None
    latency: Sequence[str] = ()
    latency_from: Sequence[str] = ()
    device: str | None = None
    device_from: str | None = None
    latency_as: str | None = None
    network: str | None = None
    sensor: str | None = None

    @property
    def arguments(self) -> str:
        """The options again, for the command that resumes."""
        given = [("--clock", self.clock)]
        given += [("--latency", text) for text in self.latency] + [
            ("--latency-from", path) for path in self.latency_from
        ]
        given += [("--device", self.device), ("--device-from", self.device_from), ("--latency-as", self.latency_as)]
        given += [("--network", self.network), ("--sensor", self.sensor)]
        parts = [part for name, value in given if value is not None for part in (name, value)]
        return f" {shlex.join(parts)}" if parts else ""

    @property
    def latencies(self) -> tuple[Latency, ...]:
        """The sources of delays that they name.

        Raises:
            UsageError: Terms or another policy's timing without a source that they belong to.
            SpecError: A source that cannot be read.
        """
        sources = [text if ":" in text else f"constant:{text}" for text in self.latency]
        sources += [f"ledger:{path}" for path in self.latency_from]
        sources += [f"device:{name.strip()}" for name in (self.device or "").split(",") if name.strip()]
        extra = {"network": self.network, "sensor": self.sensor}
        terms = {name: value for name, value in extra.items() if value is not None}
        if not sources and (terms or self.latency_as or self.device_from):
            raise UsageError(
                "--network, --sensor, --latency-as and --device-from say more of a source of delays; name one with "
                "--latency, --latency-from or --device."
            )
        kinds = {source.partition(":")[0] for source in sources}
        if self.latency_as is not None and kinds == {"constant"}:
            raise UsageError(
                f"--latency-as {self.latency_as} names a policy that was timed, but {', '.join(sources)} is nobody's "
                "timing. Drop it, or name a source with --latency-from, --device or --latency published:PROFILE."
            )
        if self.device_from is not None and "device" not in kinds:
            raise UsageError(
                f"--device-from {self.device_from} says what a device is predicted from, but no device is named. "
                "Drop it, or name one with --device."
            )
        return tuple(self._latency(source, terms) for source in sources)

    def _latency(self, source: str, terms: dict[str, str]) -> Latency:
        kind = source.partition(":")[0]
        given = {"source": source, **terms}
        if kind != "constant" and self.latency_as is not None:
            given["timing_of"] = self.latency_as
        if kind == "device" and self.device_from is not None:
            given["predict_from"] = self.device_from
        return parse(Latency, given, source)

    def apply(self, suite: Suite) -> Suite:
        """The suite with clocks and sources as asked.

        Raises:
            UsageError: See `latencies` and `parse_clocks`.
            SpecError: A clock without a source, or a source without a clock that asks for one.
        """
        clocks = parse_clocks(self.clock) if self.clock is not None else ()
        return SuiteChanges(clock=clocks, latency=self.latencies).apply(suite)


def look_up(suite: Suite, policies: Sequence[PolicySpec] | None, nfe: Sequence[int] | None) -> tuple[DelaySource, ...]:
    """Look up a suite's sources of delays, if it has any.

    Raises:
        UsageError: A source is empty, or says nothing of a policy.
        LedgerError: A ledger that cannot be read.
    """
    if not suite.latency:
        return ()
    from harness.delays import sources_of_suite

    return sources_of_suite(suite, [spec.label for spec in policies or ()], nfe or ())


def parse_clocks(text: str) -> tuple[ClockName, ...]:
    """Parse "synchronous,asynchronous".

    Raises:
        UsageError: An unknown clock, answered with the nearest known one, or one given twice.
    """
    names = [name.strip() for name in text.split(",")]
    found: list[ClockName] = []
    for name in names:
        if name not in CLOCKS:
            raise unknown_name("clock", name, CLOCKS)
        if name in found:
            raise UsageError(f"--clock {text} names {name} twice.")
        found += [clock for clock in CLOCKS if clock == name]
    return tuple(found)

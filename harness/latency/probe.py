"""The probe: how long a policy's `act` takes, end to end and by component, with every raw sample kept.

A decision is timed either end to end, with nothing inside it but the policy's own work, or by component, with the
device synchronised at both ends of every span. The two kinds alternate, so that a drifting clock or a noisy neighbour
hits both alike; each decision has a sample number of its own, which its components share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError, UsageError
from harness.latency.convergence import is_enough, is_warm, unmet
from harness.latency.memory import peak_memory_bytes
from harness.latency.spans import DeviceEvents, Span, SpanRecorder, Synchronize, nothing, synchronizer
from harness.latency.telemetry import Energy, Telemetry
from harness.ledger.schema import COMPONENTS, Row
from harness.policies.base import Policy, TimedPolicy
from harness.policies.origin import origin_of
from harness.rollout.actions import check_answer
from harness.schedule.keys import decision_noise
from harness.spec.budget import Budget
from harness.spec.observation import Observation, PolicyInfo
from harness.time_source import TimeSource

SCOPE = (
    "e2e is one call of `act`: from observations in host memory (frames already rendered) to the action chunk in host "
    "memory, with the device idle before and synchronised after. It includes preprocessing, copies to the device, "
    "vision, prefix, every denoise step and postprocessing; it excludes simulation, queueing and transport."
)
"""What `e2e` includes, to be printed beside every number."""

EAGER = "eager"
"""`compile` of a policy that is not compiled, as policies say it."""

TELEMETRY_COLUMNS = ("sm_clock_mhz", "temperature_c", "power_w", "throttled", "memory_clock_mhz")

NOISE_KEY = "0" * 64
# The instrumented decisions of an eager policy cost what the others do, less what overlaps across a component's end.
COMPONENT_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Labels:
    """Columns that are the same in every row of a probe."""

    run_id: str = ""
    node_id: str = ""
    hardware: str | None = None
    """Name of the hardware profile."""
    compile: str | None = None
    """How the policy was compiled ("eager", "default", "max-autotune", …)."""
    policy_id: str | None = None
    """Name in the ledger; None for the policy's own."""
    variant: str | None = None
    """What sets the policy apart from its reference, e.g. "dtype=bfloat16,graphs=true"."""
    shared: bool | None = None
    """Whether another process computed on the accelerator; None when nobody could tell."""
    launch: int = 0
    """Which of the processes in which a configuration is measured, from 0."""


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """Why a configuration gave no or not all of its samples."""

    kind: Literal["error", "crash", "timeout"]
    message: str
    exit_signal: str | None = None
    """Name of the signal that ended the process, e.g. "SIGKILL"; None when it exited or raised."""


@dataclass(frozen=True, slots=True)
class ConfigurationResult:
    """What one launch measured of one (policy, NFE, batch size)."""

    policy_id: str
    nfe: int | None
    batch_size: int
    launch: int = 0
    """In which of its processes."""
    rows: tuple[Row, ...] = ()
    first_call_s: float | None = None
    """Duration of the very first call, seconds: lazy initialisation and compilation are in it, never in the rows."""
    warm: bool = False
    """Whether the latency settled before measuring began."""
    seconds: float = 0.0
    """Measuring time, without warm-up."""
    warnings: tuple[str, ...] = ()
    interrupted: bool = False
    failure: ProbeFailure | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What the policy says of its origin, for `runs.policies`; see `harness.policies.origin`."""

    def samples_ms(self, component: str = "e2e") -> list[float]:
        """Raw samples of a component, milliseconds, in order."""
        return [row["latency_ms"] for row in self.rows if row["component"] == component]

    @property
    def components_to_e2e(self) -> float | None:
        """Sum of components over end to end: the median over neighbouring decisions; None without components."""
        ratios = neighbour_ratios(
            [(row["sample"], row["latency_ms"]) for row in self.rows if row["component"] == "e2e"],
            [(row["sample"], row["latency_ms"]) for row in self.rows if row["component"] != "e2e"],
        )
        return median(ratios) if ratios else None


def neighbour_ratios(whole: Sequence[tuple[int, float]], parts: Sequence[tuple[int, float]]) -> list[float]:
    """Divide each instrumented decision's sum by the end-to-end time of the decision before it.

    Neighbours in time share the machine's state, so their ratio is steadier than that of two medians.

    Args:
        whole: (sample, duration) of end-to-end decisions.
        parts: (sample, duration) of components; those of one decision share the sample.
    """
    sums: dict[int, float] = {}
    for sample, duration in parts:
        sums[sample] = sums.get(sample, 0.0) + duration
    return [sums[sample + 1] / duration for sample, duration in whole if sample + 1 in sums]


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Every configuration of a probe, in the order asked."""

    configurations: tuple[ConfigurationResult, ...]
    scope: str = SCOPE
    interrupted: bool = False

    @property
    def rows(self) -> list[Row]:
        """Rows of all configurations, for `LedgerWriter.append("latency", …)`."""
        return [row for configuration in self.configurations for row in configuration.rows]

    @property
    def failures(self) -> list[ConfigurationResult]:
        """Configurations that failed."""
        return [configuration for configuration in self.configurations if configuration.failure is not None]

    @property
    def warnings(self) -> list[str]:
        """Warnings and failures of all configurations, each with its configuration."""
        return [
            f"{c.policy_id}, NFE {c.nfe}, batch {c.batch_size}: {warning}"
            for c in self.configurations
            for warning in (*c.warnings, *([c.failure.message] if c.failure else []))
        ]


def resolve_nfes(info: PolicyInfo, nfes: Sequence[int]) -> tuple[int | None, ...]:
    """Decide which NFE values to probe.

    Args:
        info: What the policy offers.
        nfes: Values asked for; empty for the policy's default.

    Returns:
        The values without repeats; `(None,)` for a policy without a denoising loop, which is probed once.

    Raises:
        UsageError: A value below 1, or one that the policy does not offer.
    """
    for nfe in nfes:
        if nfe < 1:
            raise UsageError(f"NFE {nfe} is below 1; ask for 1 or more function evaluations.")
    if not info.nfe_options:
        return (None,)
    return tuple(dict.fromkeys(map(info.resolve_nfe, nfes))) or (info.default_nfe,)


def probe(
    policy: Policy,
    *,
    observations: Sequence[Observation],
    clock: TimeSource,
    nfes: Sequence[int] = (),
    batch_sizes: Sequence[int] = (1,),
    budget: Budget | None = None,
    labels: Labels | None = None,
    telemetry: Telemetry | None = None,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ProbeResult:
    """Time a policy in this process (`run_isolated` does it in a process per configuration).

    Args:
        policy: What to time. If it has a `span`, its components are timed too; its timer is put back afterwards.
        observations: Inputs, used in turn; see `inputs.synthetic_observations`.
        clock: Time of day and stopwatch.
        nfes: NFE values; empty for the default. A policy without NFE is probed once.
        batch_sizes: Observations in one `act`.
        budget: Warm-up and stopping.
        labels: Constant columns of the rows.
        telemetry: A started telemetry, joined by time.
        on_rows: Receives the rows of each configuration when it ends, also when Ctrl-C ends it.
        should_stop: Asked between decisions; True ends the probe as Ctrl-C does.

    Returns:
        All configurations. After Ctrl-C (`interrupted`) the last one holds what was measured until then. A
        configuration in which `act` raised, or answered with a wrong shape or non-finite actions, carries a `failure`
        and the samples before it; the others are measured all the same.

    Raises:
        UsageError: An NFE or batch size that the policy does not offer, or no observations.
    """
    _check(policy.info, observations, batch_sizes)
    steps = resolve_nfes(policy.info, nfes)
    results: list[ConfigurationResult] = []
    for batch_size in dict.fromkeys(batch_sizes):
        for nfe in steps:
            run = _Configuration(policy, nfe, batch_size, observations, clock, budget or Budget(), should_stop)
            result = run.measure(labels or Labels(), telemetry)
            results.append(result)
            if on_rows is not None and result.rows:
                on_rows(result.rows)
            if result.interrupted:
                return ProbeResult(tuple(results), interrupted=True)
    return ProbeResult(tuple(results))


def _check(info: PolicyInfo, observations: Sequence[Observation], batch_sizes: Sequence[int]) -> None:
    if not observations:
        raise UsageError("A probe needs at least one observation.")
    for batch_size in batch_sizes:
        if not 1 <= batch_size <= info.max_batch:
            raise UsageError(f"Batch size {batch_size} is not in 1..{info.max_batch}, what {info.policy_id} takes.")


@dataclass(slots=True)
class _Samples:
    """Raw measurements of one configuration."""

    whole: list[tuple[int, Span]] = field(default_factory=list)
    parts: list[tuple[int, list[Span]]] = field(default_factory=list)
    device_ms: list[float] = field(default_factory=list)


class _Configuration:
    """The measurement of one (NFE, batch size)."""

    def __init__(
        self,
        policy: Policy,
        nfe: int | None,
        batch_size: int,
        observations: Sequence[Observation],
        clock: TimeSource,
        budget: Budget,
        should_stop: Callable[[], bool],
    ) -> None:
        self.policy, self.nfe, self.batch_size, self.budget = policy, nfe, batch_size, budget
        self.observations, self.clock, self.should_stop = observations, clock, should_stop
        self.synchronize: Synchronize = nothing
        self.samples = _Samples()
        self.warnings: list[str] = []
        self.first_call_s: float | None = None
        self.warmup: list[float] = []
        self.warm = False
        self.seconds = 0.0
        shape = policy.info.noise_shape
        # Enough distinct noise that nothing can be cached, drawn before anything is timed.
        self.noise = [None if shape is None else self._draw(n, shape) for n in range(max(4, len(observations)))]

    def measure(self, labels: Labels, telemetry: Telemetry | None) -> ConfigurationResult:
        """Warm up and measure; Ctrl-C ends either and keeps what there is."""
        interrupted, failure = False, None
        anchor = (self.clock.seconds(), self.clock.now())
        try:
            interrupted = not (self._warm_up() and self._sample())
        except KeyboardInterrupt:
            interrupted = True
        except UsageError:
            raise
        except Exception as error:
            failure = ProbeFailure("error", f"failed after {len(self.samples.whole)} samples: {_say(error)}")
        if interrupted:
            self.warnings.append(f"interrupted after {len(self.samples.whole)} samples; they are kept")
        elif failure is None:
            self._judge()
        rows = self._rows(labels, telemetry, anchor)
        return ConfigurationResult(
            policy_id=labels.policy_id or self.policy.info.policy_id,
            nfe=self.nfe,
            batch_size=self.batch_size,
            launch=labels.launch,
            rows=tuple(rows),
            first_call_s=self.first_call_s,
            warm=self.warm,
            seconds=self.seconds,
            warnings=tuple(self.warnings),
            interrupted=interrupted,
            failure=failure,
            origin=origin_of(self.policy),
        )

    def _warm_up(self) -> bool:
        """Call until the latency has settled; False when asked to stop."""
        # The first call may compile for minutes; what follows still has to settle.
        self._first_call()
        began = self.clock.seconds()
        budget = self.budget
        while not self.warm and self.clock.seconds() - began < budget.warmup_seconds:
            if self.should_stop():
                return False
            self.warmup.append(self._time(len(self.warmup)).ms)
            self.warm = is_warm(self.warmup, budget.warmup_window, budget.warmup_tolerance)
        return True

    def _first_call(self) -> None:
        start = self.clock.seconds()
        chunks = self.policy.act(self._batch(0), self._batch_noise(0), nfe=self.nfe)
        self.synchronize = synchronizer(self.policy)
        self.synchronize()
        self.first_call_s = self.clock.seconds() - start
        check_answer(self.policy.info, chunks, self.batch_size)

    def _sample(self) -> bool:
        """Measure until the budget is met; False when asked to stop."""
        events = DeviceEvents.of(self.policy, self.synchronize)
        recorder = SpanRecorder(self.clock.seconds, self.synchronize)
        timed = isinstance(self.policy, TimedPolicy)
        began = self.clock.seconds()
        index = 0
        try:
            while not is_enough(self.budget, self.seconds, len(self.samples.whole)):
                if self.should_stop():
                    return False
                self.samples.whole.append((index, self._time(index, events)))
                index += 1
                if timed and len(self.samples.whole) % self.budget.components_every == 0:
                    self.samples.parts.append((index, self._time_parts(index, recorder)))
                    index += 1
                self.seconds = self.clock.seconds() - began
        finally:
            self.seconds = self.clock.seconds() - began
        return True

    def _time(self, index: int, events: DeviceEvents | None = None) -> Span:
        """Time one decision end to end; with `events`, by the device's clock as well."""
        observations, noise = self._batch(index), self._batch_noise(index)
        self.synchronize()
        start = self.clock.seconds()
        if events is not None:
            events.start()
        self.policy.act(observations, noise, nfe=self.nfe)
        if events is not None:
            events.stop()
        self.synchronize()
        end = self.clock.seconds()
        if events is not None:
            self.samples.device_ms.append(events.ms())
        return Span("e2e", start, end)

    def _time_parts(self, index: int, recorder: SpanRecorder) -> list[Span]:
        """Time one decision by component."""
        policy: Any = self.policy
        timer, policy.span = policy.span, recorder
        try:
            self._time(index)
        finally:
            policy.span = timer
        return recorder.drain()

    def _judge(self) -> None:
        """Warn of what makes the numbers worth less than they look."""
        if not self.warm:
            self.warnings.append(
                f"the latency had not settled within {self.budget.warmup_tolerance:.0%} after "
                f"{self.budget.warmup_seconds:g} s of warm-up ({len(self.warmup)} calls): early samples may be slow"
            )
        missing = unmet(self.budget, self.seconds, len(self.samples.whole))
        if missing:
            self.warnings.append(f"stopped by max_seconds {self.budget.max_seconds:g} before {missing}")
        unknown = {span.name for _, spans in self.samples.parts for span in spans} - set(COMPONENTS)
        if unknown:
            self.warnings.append(f"spans of unknown name were dropped: {', '.join(sorted(unknown))}")
        self._judge_agreement()

    def _judge_agreement(self) -> None:
        """Compare sums of components, and the device's clock, with the end-to-end times."""
        if not self.samples.whole:
            return
        whole = median(span.ms for _, span in self.samples.whole)
        ratios = neighbour_ratios(
            [(index, span.ms) for index, span in self.samples.whole],
            [(index, span.ms) for index, spans in self.samples.parts for span in spans],
        )
        if ratios and abs(median(ratios) - 1) > COMPONENT_TOLERANCE + _uncertainty(ratios):
            self.warnings.append(
                f"components add up to {median(ratios):.1%} of e2e, beyond {COMPONENT_TOLERANCE:.0%}: they overlap on "
                "the device, waiting for it between them costs time, or the policy works outside its spans"
            )
        device = self.samples.device_ms
        if device and abs(median(device) / whole - 1) > COMPONENT_TOLERANCE:
            self.warnings.append(
                f"CUDA events give {median(device):.3f} ms where the host's clock gives {whole:.3f} ms: the policy "
                "queues work on another stream"
            )

    def _rows(self, labels: Labels, telemetry: Telemetry | None, anchor: tuple[float, datetime]) -> list[Row]:
        """Ledger rows of all samples, in order of sample."""
        info = self.policy.info
        constant: Row = {
            "run_id": labels.run_id,
            "node_id": labels.node_id,
            "hardware": labels.hardware,
            "policy_id": labels.policy_id or info.policy_id,
            "nfe": self.nfe,
            "dtype": info.dtype,
            "compile": labels.compile,
            "batch_size": self.batch_size,
            "memory_bytes": peak_memory_bytes(self.policy, telemetry.memory_rise_bytes if telemetry else None),
            "variant": labels.variant,
            "compile_s": self._compile_s(labels),
            "shared": labels.shared,
            "launch": labels.launch,
        }
        spans = [(index, span) for index, span in self.samples.whole]
        spans += [(index, span) for index, parts in self.samples.parts for span in parts if span.name in COMPONENTS]
        spans.sort(key=lambda item: (item[0], item[1].start_s))
        seconds, date = anchor
        return [
            {
                **constant,
                "component": span.name,
                "sample": index,
                "latency_ms": span.ms,
                "started_at": date + timedelta(seconds=span.start_s - seconds),
                **_telemetry_columns(telemetry, span),
            }
            for index, span in spans
        ]

    def _compile_s(self, labels: Labels) -> float | None:
        """What the first call of a compiled policy took beyond a usual one, seconds."""
        if labels.compile in (None, EAGER) or self.first_call_s is None or not self.samples.whole:
            return None
        return max(0.0, self.first_call_s - median(span.ms for _, span in self.samples.whole) / 1e3)

    def _batch(self, index: int) -> list[Observation]:
        first = index * self.batch_size
        return [self.observations[(first + n) % len(self.observations)] for n in range(self.batch_size)]

    def _batch_noise(self, index: int) -> NDArray[np.float32] | None:
        return self.noise[index % len(self.noise)]

    def _draw(self, n: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return decision_noise(NOISE_KEY, n, (self.batch_size, *shape))


def _say(error: Exception) -> str:
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"


def _uncertainty(ratios: Sequence[float]) -> float:
    """Half-width of a median's 95 % interval by the rule of box-plot notches (McGill, Tukey and Larsen 1978)."""
    low, high = np.percentile(ratios, [25, 75])
    return float(1.58 * (high - low) / len(ratios) ** 0.5)


def _telemetry_columns(telemetry: Telemetry | None, span: Span) -> Row:
    if telemetry is None:
        return {}
    reading = telemetry.at((span.start_s + span.end_s) / 2)
    energy = telemetry.energy(span.start_s, span.end_s) if span.name == "e2e" else Energy(None, None)
    columns = {name: getattr(reading, name) for name in TELEMETRY_COLUMNS}
    sources = {name: reading.sources.get(name) for name in TELEMETRY_COLUMNS} | {"energy_j": energy.source}
    told = ",".join(f"{name}={source}" for name, source in sources.items() if source is not None)
    return {**columns, "energy_j": energy.joules, "telemetry_source": told or None}

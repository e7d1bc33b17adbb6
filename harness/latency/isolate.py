"""Child processes that measure: an out-of-memory kill or a crash loses one configuration and no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.errors import HarnessError, PolicyError, UsageError
from harness.latency.calibrate import Calibration, calibrate
from harness.latency.counts import count_rows
from harness.latency.differences import Answers, answer
from harness.latency.neighbours import Neighbour, foreign_processes, require_alone
from harness.latency.node import find_accelerator
from harness.latency.probe import ConfigurationResult, Labels, ProbeFailure, ProbeResult, probe, resolve_nfes
from harness.latency.stopping import Budget
from harness.latency.telemetry import Reading, Telemetry, TelemetrySource, find_source
from harness.ledger.schema import Row
from harness.policies.base import Policy
from harness.rollout.time_source import TimeSource, WallTime
from harness.spec.observation import Observation
from harness.spec.profile import CPU_PROFILE

# How long a child may take to hand over what it has after it was asked to stop: one decision of a slow policy.
GRACE_S = 15.0
POLL_S = 0.2
# A process that was just ended may stand in the driver's list for a moment.
NEIGHBOUR_WAIT_S = 3.0

Configuration = tuple[int | None, int]
"""(NFE, batch size)."""


@dataclass(frozen=True, slots=True)
class IsolatedProbe:
    """What a child needs; everything in it is picklable."""

    make_policy: Callable[[], Policy]
    """Builds the policy, in the child; e.g. `functools.partial(make_policy, spec)`."""
    observations: tuple[Observation, ...]
    nfes: tuple[int, ...]
    """Values asked for; the child resolves them, since only it knows the policy."""
    budget: Budget
    labels: Labels
    clock: TimeSource
    telemetry: bool
    calibrate: bool
    count: bool
    timed: bool = True
    """False: only answer."""
    answer: bool = False
    """Whether to also send the answers that variants are compared by."""
    allow_shared: bool = False


@dataclass(frozen=True, slots=True)
class IsolatedResult:
    """A probe, and the ceilings of the device measured in the process of its first configuration."""

    probe: ProbeResult
    calibration: Calibration | None


def run_isolated(
    make_policy: Callable[[], Policy],
    *,
    observations: Sequence[Observation],
    nfes: Sequence[int] = (),
    batch_sizes: Sequence[int] = (1,),
    budget: Budget | None = None,
    labels: Labels | None = None,
    clock: TimeSource | None = None,
    telemetry: bool = True,
    calibrate: bool = False,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
    on_counts: Callable[[Sequence[Row]], object] | None = None,
    on_answers: Callable[[Configuration, ConfigurationResult, Answers], object] | None = None,
    allow_shared: bool = False,
    share_process: bool = False,
    timeout_s: float = 3600.0,
) -> IsolatedResult:
    """Time a policy, each (NFE, batch size) in a fresh process.

    Args:
        make_policy: Picklable factory, called in each child.
        observations: Inputs, used in turn.
        nfes: NFE values; empty for the default. A policy without NFE is probed once.
        batch_sizes: Observations in one `act`.
        budget: Warm-up and stopping.
        labels: Constant columns of the rows.
        clock: Picklable clock of the children.
        telemetry: Whether to join clocks, temperature and power.
        calibrate: Whether the first child also measures copy bandwidth, matmul rate and launch cost.
        on_rows: Receives the rows of each configuration when it ends.
        on_counts: Receives the rows of each configuration's `counts`; None counts nothing.
        on_answers: Receives the answers of each configuration (see `differences`); None asks for none.
        allow_shared: Measure, and mark the rows, while another process computes on the accelerator.
        share_process: Measure all configurations in one process, so that what the policy compiles or records is done
            once. If it dies, the ones after it are measured in a fresh one.
        timeout_s: A child that gives no result for so long is killed, seconds.

    Returns:
        All configurations; one whose process died, hung or raised carries a `failure`. After Ctrl-C the last one holds
        what was measured until then and `probe.interrupted` is set.

    Raises:
        UsageError: The request is wrong (NFE, batch size, or the policy's options), or the accelerator is in use.
        HarnessError: The policy cannot be built.
    """
    if not observations:
        raise UsageError("A probe needs at least one observation.")
    job = IsolatedProbe(
        make_policy,
        tuple(observations),
        tuple(nfes),
        budget or Budget(),
        labels or Labels(),
        clock or WallTime(),
        telemetry,
        calibrate,
        on_counts is not None,
        answer=on_answers is not None,
        allow_shared=allow_shared,
    )
    parent = _Parent(job, tuple(dict.fromkeys(batch_sizes)), share_process, timeout_s)

    def measured(result: ConfigurationResult) -> None:
        if on_rows is not None and result.rows:
            on_rows(result.rows)

    def receive(done: _Done) -> None:
        if on_counts is not None and done.counts:
            on_counts(done.counts)
        if on_answers is not None and done.answers is not None:
            on_answers((done.result.nfe, done.result.batch_size), done.result, done.answers)

    return parent.run(measured, receive)


def answers_of(
    make_policy: Callable[[], Policy],
    *,
    observations: Sequence[Observation],
    configurations: Sequence[Configuration],
    timeout_s: float = 3600.0,
) -> dict[Configuration, Answers]:
    """Ask a policy in a process of its own, untimed; for a reference that is not probed itself.

    Args:
        make_policy: Picklable factory, called in the child.
        observations: The same as the variants'.
        configurations: (NFE, batch size) to answer at.
        timeout_s: As for `run_isolated`.

    Returns:
        Answers by configuration; a configuration that failed is missing.

    Raises:
        HarnessError: The policy cannot be built, or the request is wrong.
    """
    nfes = tuple(dict.fromkeys(nfe for nfe, _ in configurations if nfe is not None))
    batches = tuple(dict.fromkeys(batch for _, batch in configurations))
    job = IsolatedProbe(
        make_policy,
        tuple(observations),
        nfes,
        Budget(),
        Labels(),
        WallTime(),
        telemetry=False,
        calibrate=False,
        count=False,
        timed=False,
        answer=True,
        allow_shared=True,
    )
    found: dict[Configuration, Answers] = {}

    def receive(done: _Done) -> None:
        if done.answers is not None:
            found[done.result.nfe, done.result.batch_size] = done.answers

    _Parent(job, batches, True, timeout_s).run(lambda result: None, receive)
    return found


@dataclass(slots=True)
class _Done:
    """One configuration, as far as it came."""

    result: ConfigurationResult
    counts: Sequence[Row] = ()
    """Of this configuration, or of all of the process, which counts last."""
    answers: Answers | None = None


class _Parent:
    """Starts children until every configuration is done."""

    def __init__(self, job: IsolatedProbe, batch_sizes: tuple[int, ...], share: bool, timeout_s: float) -> None:
        self.job, self.batch_sizes, self.share, self.timeout_s = job, batch_sizes, share, timeout_s
        self.steps: list[int | None] = list(dict.fromkeys(job.nfes)) or [None]

    def run(self, measured: Callable[[ConfigurationResult], None], receive: Callable[[_Done], None]) -> IsolatedResult:
        """Run children; each result goes to `measured` at once, and to `receive` with what follows it."""
        results: list[ConfigurationResult] = []
        calibration: Calibration | None = None
        finished: set[Configuration] = set()

        def finish(done: _Done) -> None:
            results.append(done.result)
            finished.add((done.result.nfe, done.result.batch_size))
            receive(done)

        while pending := self._pending(finished):
            wanted = pending if self.share else pending[:1]
            job = replace(self.job, calibrate=self.job.calibrate and calibration is None)
            child = _Child(job, wanted, measured, finish)
            child.run(self.timeout_s)
            # The NFE that was asked for stands for what the child made of it, e.g. None for the default.
            finished.add(wanted[0])
            if child.steps is not None:
                self.steps = child.steps
            calibration = calibration or child.calibration
            if child.interrupted or any(result.interrupted for result in results):
                return IsolatedResult(ProbeResult(tuple(results), interrupted=True), calibration)
        return IsolatedResult(ProbeResult(tuple(results)), calibration)

    def _pending(self, finished: Collection[Configuration]) -> list[Configuration]:
        every = [(nfe, batch) for batch in self.batch_sizes for nfe in self.steps]
        return [configuration for configuration in every if configuration not in finished]


class _Child:
    """A measuring process, seen from the parent."""

    def __init__(
        self,
        job: IsolatedProbe,
        wanted: Sequence[Configuration],
        measured: Callable[[ConfigurationResult], None],
        finish: Callable[[_Done], None],
    ) -> None:
        self.job, self.wanted, self.measured, self.finish = job, tuple(wanted), measured, finish
        self.steps: list[int | None] | None = None
        self.calibration: Calibration | None = None
        self.current: Configuration | None = self.wanted[0]
        """What it is measuring."""
        self.done: _Done | None = None
        """The result of it, of which counts and answers may follow."""
        self.policy_id = job.labels.policy_id or "?"
        self.interrupted = False

    def run(self, timeout_s: float) -> None:
        """Run the child to its end, whatever that is.

        Raises:
            HarnessError: The child says that the request is wrong or the policy cannot be built.
        """
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        stop = context.Event()
        process = context.Process(target=_serve, args=(self.job, self.wanted, sender, stop))
        with _interrupts_blocked():
            process.start()
        sender.close()
        try:
            timed_out = self._receive(process, receiver, stop, timeout_s)
        finally:
            _end(process)
            receiver.close()
        self._flush()
        if self.current is None:
            return
        failure = None if self.interrupted else _autopsy(process, timed_out, timeout_s)
        nfe, batch_size = self.current
        lost = ConfigurationResult(self.policy_id, nfe, batch_size, interrupted=self.interrupted, failure=failure)
        self.finish(_Done(lost))

    def _flush(self) -> None:
        """Hand over a configuration to which nothing can be added any more."""
        if self.done is not None:
            self.finish(self.done)
        self.done = None

    def _receive(self, process: SpawnProcess, receiver: Connection, stop: Any, timeout_s: float) -> bool:
        """Take messages until the child is done; True when it had to be given up."""
        clock = self.job.clock
        deadline = clock.seconds() + timeout_s
        while True:
            try:
                while clock.seconds() < deadline:
                    if receiver.poll(POLL_S):
                        self._take(receiver.recv())
                        if not self.interrupted:
                            deadline = clock.seconds() + timeout_s
                    elif not process.is_alive() and not receiver.poll(0):
                        return False
                return not self.interrupted
            except EOFError:
                process.join(GRACE_S)
                return False
            except KeyboardInterrupt:
                # The child, which ignores Ctrl-C, ends after the decision in hand and sends what it has.
                if self.interrupted:
                    raise
                self.interrupted = True
                stop.set()
                deadline = clock.seconds() + GRACE_S

    def _take(self, message: tuple[str, Any]) -> None:
        kind, value = message
        if kind == "policy":
            self.policy_id, self.steps = value
        elif kind == "begin":
            self._flush()
            self.current = value
        elif kind == "result":
            self.current, self.done = None, _Done(value)
            self.measured(value)
        elif kind == "calibration":
            self.calibration = value
        elif kind == "refused":
            raise value
        elif self.done is not None:
            self._add(self.done, kind, value)

    def _add(self, done: _Done, kind: str, value: Any) -> None:
        if kind == "counts":
            done.counts = [*done.counts, *value]
        elif kind == "answers":
            done.answers = value
        elif kind == "warning":
            done.result = replace(done.result, warnings=(*done.result.warnings, value))


def _autopsy(process: SpawnProcess, timed_out: bool, timeout_s: float) -> ProbeFailure:
    """Say how a child ended that sent no result."""
    if timed_out:
        return ProbeFailure("timeout", f"gave no result within {timeout_s:g} s and was killed")
    code = process.exitcode or 0
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else None
    how = f"exit code {code}" + (f", {name}" if name else "")
    hint = "; the kernel kills so when memory runs out" if name == "SIGKILL" else ""
    return ProbeFailure("crash", f"the process of this configuration died ({how}){hint}; the others are kept", name)


def _end(process: SpawnProcess) -> None:
    """Make sure that a child is gone."""
    process.join(1.0)
    if process.is_alive():
        process.kill()
        process.join(GRACE_S)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start a child that ignores Ctrl-C from its first instruction: it inherits the blocked signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(job: IsolatedProbe, wanted: Sequence[Configuration], sender: Connection, stop: Any) -> None:
    """Measure configurations one after the other, in the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # Before the policy exists, so that its own process is not among those on the device.
        source = find_source() if job.telemetry else None
        before = None if source is None else source.read()
        neighbours = _neighbours(source, job.clock)
        policy, steps = _build(job)
        device = _device(policy)
        if device is not None and device.startswith("cpu"):
            neighbours = None
        if neighbours and not job.allow_shared:
            require_alone(neighbours)
    except HarnessError as error:
        _send(sender, "refused", error)
        return
    _send(sender, "policy", (job.labels.policy_id or policy.info.policy_id, list(steps)))
    shared = None if neighbours is None else bool(neighbours)
    labels, relabelled = _label_device(_labels(job.labels, policy, shared), device)
    measuring = _Measuring(job, policy, labels, device, before, sender, stop)
    asked = [(nfe if nfe in steps else steps[0], batch) for nfe, batch in wanted]
    for configuration in dict.fromkeys(asked):
        _send(sender, "begin", configuration)
        try:
            if not measuring.run(configuration, relabelled):
                return
        except UsageError as error:
            _send(sender, "refused", error)
            return
    # Last, so that it can neither heat the device before a measurement nor add to the memory of one.
    if job.calibrate:
        _send(sender, "calibration", calibrate(device, job.clock.seconds))
    measuring.count()


@dataclass(slots=True)
class _Measuring:
    """What one child does for each of its configurations."""

    job: IsolatedProbe
    policy: Policy
    labels: Labels
    device: str | None
    before: Reading | None
    """Of the device, before the policy was built."""
    sender: Connection
    stop: Any
    uncounted: list[Configuration] = field(default_factory=list)

    def run(self, configuration: Configuration, warnings: Sequence[str]) -> bool:
        """Measure one configuration; False when there is no going on."""
        nfe, batch_size = configuration
        measured = self._time(nfe, batch_size) if self.job.timed else _untimed(self.labels, self.policy, configuration)
        _send(self.sender, "result", replace(measured, warnings=(*measured.warnings, *warnings)))
        if measured.interrupted:
            return False
        if measured.failure is None and self.job.answer:
            self._try("answers", "its answers could not be compared", lambda: self._answer(nfe, batch_size))
        if measured.failure is None and self.job.count:
            self.uncounted.append(configuration)
        return True

    def count(self) -> None:
        """Count what was measured, after everything else: a profiler that ran once slows later launches."""
        for nfe, batch_size in self.uncounted:
            if self.stop.is_set():
                return
            trouble = f"operators at NFE {nfe}, batch {batch_size} could not be counted"
            self._try("counts", trouble, partial(self._count, nfe, batch_size))

    def _time(self, nfe: int | None, batch_size: int) -> ConfigurationResult:
        job = self.job
        source = find_source(self.device) if job.telemetry else None
        with Telemetry(source, seconds=job.clock.seconds, before=self.before) as telemetry:
            result = probe(
                self.policy,
                observations=job.observations,
                clock=job.clock,
                nfes=() if nfe is None else (nfe,),
                batch_sizes=(batch_size,),
                budget=job.budget,
                labels=self.labels,
                telemetry=telemetry,
                should_stop=self.stop.is_set,
            )
        return result.configurations[0]

    def _answer(self, nfe: int | None, batch_size: int) -> Answers:
        return answer(self.policy, self.job.observations, nfe=nfe, batch_size=batch_size)

    def _count(self, nfe: int | None, batch_size: int) -> list[Row]:
        job = self.job
        return count_rows(self.policy, job.observations, job.clock.now(), self.labels, nfe=nfe, batch_size=batch_size)

    def _try(self, kind: str, trouble: str, work: Callable[[], Any]) -> None:
        """Send what `work` gives. The timings are sent already, so that whatever happens here costs none."""
        try:
            value = work()
        except Exception as error:
            _send(self.sender, "warning", f"{trouble}: {type(error).__name__}: {error}")
        else:
            _send(self.sender, kind, value)


def _untimed(labels: Labels, policy: Policy, configuration: Configuration) -> ConfigurationResult:
    return ConfigurationResult(labels.policy_id or policy.info.policy_id, *configuration)


def _neighbours(source: TelemetrySource | None, clock: TimeSource) -> tuple[Neighbour, ...] | None:
    """Other processes on the accelerator that stay there; None when nobody can tell."""
    deadline = clock.seconds() + NEIGHBOUR_WAIT_S
    while (found := foreign_processes(source)) and clock.seconds() < deadline:
        time.sleep(POLL_S)
    return found


def _labels(labels: Labels, policy: Policy, shared: bool | None) -> Labels:
    """Complete the labels by what only the child knows."""
    built = getattr(policy, "provenance", {}).get("compile")
    return replace(labels, compile=labels.compile or built, shared=shared)


def _device(policy: Policy) -> str | None:
    """Torch's name of the device that a policy says it runs on; None when it does not say."""
    device = getattr(policy, "device", None)
    return None if device is None else str(device)


def _label_device(labels: Labels, device: str | None) -> tuple[Labels, tuple[str, ...]]:
    """Keep the times of a policy that runs on the CPU from being filed under the node's accelerator."""
    on_accelerator = device is None or not device.startswith("cpu")
    if on_accelerator or labels.hardware in (None, CPU_PROFILE) or find_accelerator()[0] is None:
        return labels, ()
    warning = f"the policy runs on the CPU: its rows say hardware {CPU_PROFILE!r}, not {labels.hardware!r}"
    return replace(labels, hardware=CPU_PROFILE), (warning,)


def _build(job: IsolatedProbe) -> tuple[Policy, tuple[int | None, ...]]:
    """Build the policy and resolve the NFE values.

    Raises:
        HarnessError: As the factory says, or a `PolicyError` around whatever else it raised.
    """
    try:
        policy = job.make_policy()
    except HarnessError:
        raise
    except Exception as error:
        raise PolicyError(f"The policy cannot be built: {type(error).__name__}: {error}.") from error
    return policy, resolve_nfes(policy.info, job.nfes)


def _send(sender: Connection, kind: str, value: Any) -> None:
    """Send to the parent; a child whose parent is gone has nobody to measure for."""
    try:
        sender.send((kind, value))
    except BrokenPipeError:
        os._exit(1)

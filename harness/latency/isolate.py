"""One child process per configuration: an out-of-memory kill or a crash loses that configuration and no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.errors import HarnessError, PolicyError, UsageError
from harness.latency.calibrate import Calibration, calibrate
from harness.latency.counts import count_rows
from harness.latency.node import find_accelerator
from harness.latency.probe import (
    ConfigurationResult,
    Labels,
    ProbeFailure,
    ProbeResult,
    Row,
    probe,
    resolve_nfes,
)
from harness.latency.stopping import Budget
from harness.latency.telemetry import Telemetry, find_source
from harness.policies.base import Policy
from harness.rollout.clock import Clock, WallClock
from harness.spec.observation import Observation
from harness.spec.profile import CPU_PROFILE

# How long a child may take to hand over what it has after it was asked to stop: one decision of a slow policy.
GRACE_S = 15.0
POLL_S = 0.2


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
    clock: Clock
    telemetry: bool
    calibrate: bool
    count: bool


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
    clock: Clock | None = None,
    telemetry: bool = True,
    calibrate: bool = False,
    on_rows: Callable[[Sequence[Row]], None] | None = None,
    on_counts: Callable[[Sequence[Row]], object] | None = None,
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
        timeout_s: A child that has not ended by then is killed, seconds.

    Returns:
        All configurations; one whose process died, hung or raised carries a `failure`. After Ctrl-C the last one holds
        what was measured until then and `probe.interrupted` is set.

    Raises:
        UsageError: The request is wrong (NFE, batch size, or the policy's options).
        HarnessError: The policy cannot be built.
    """
    job = IsolatedProbe(
        make_policy,
        tuple(observations),
        tuple(nfes),
        budget or Budget(),
        labels or Labels(),
        clock or WallClock(),
        telemetry,
        calibrate,
        on_counts is not None,
    )
    if not observations:
        raise UsageError("A probe needs at least one observation.")
    results: list[ConfigurationResult] = []
    steps: list[int | None] = list(dict.fromkeys(nfes)) or [None]
    calibration: Calibration | None = None
    for batch_size in dict.fromkeys(batch_sizes):
        done: set[int | None] = set()
        while pending := [nfe for nfe in steps if nfe not in done]:
            child = _Child(replace(job, calibrate=job.calibrate and calibration is None), pending[0], batch_size)
            result = child.run(timeout_s)
            done.add(pending[0])
            if child.steps is not None:
                steps = child.steps
                done.add(result.nfe)
            calibration = calibration or child.calibration
            results.append(result)
            if on_rows is not None and result.rows:
                on_rows(result.rows)
            if on_counts is not None and child.counts:
                on_counts(child.counts)
            if result.interrupted:
                return IsolatedResult(ProbeResult(tuple(results), interrupted=True), calibration)
    return IsolatedResult(ProbeResult(tuple(results)), calibration)


class _Child:
    """One configuration's process, seen from the parent."""

    def __init__(self, job: IsolatedProbe, nfe: int | None, batch_size: int) -> None:
        self.job, self.nfe, self.batch_size = job, nfe, batch_size
        self.steps: list[int | None] | None = None
        self.calibration: Calibration | None = None
        self.result: ConfigurationResult | None = None
        self.counts: Sequence[Row] = ()
        self.uncounted: str | None = None
        self.policy_id = job.labels.policy_id or "?"
        self.interrupted = False

    def run(self, timeout_s: float) -> ConfigurationResult:
        """Run the child to its end, whatever that is.

        Raises:
            HarnessError: The child says that the request is wrong or the policy cannot be built.
        """
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        stop = context.Event()
        process = context.Process(target=_serve, args=(self.job, self.nfe, self.batch_size, sender, stop))
        with _interrupts_blocked():
            process.start()
        sender.close()
        try:
            timed_out = self._receive(process, receiver, stop, timeout_s)
        finally:
            _end(process)
            receiver.close()
        if self.result is not None:
            warnings = (self.uncounted,) if self.uncounted else ()
            return replace(self.result, warnings=(*self.result.warnings, *warnings))
        failure = None if self.interrupted else _autopsy(process, timed_out, timeout_s)
        return ConfigurationResult(
            self.policy_id, self.nfe, self.batch_size, interrupted=self.interrupted, failure=failure
        )

    def _receive(self, process: SpawnProcess, receiver: Connection, stop: Any, timeout_s: float) -> bool:
        """Take messages until the child is done; True when it had to be given up."""
        clock = self.job.clock
        deadline = clock.seconds() + timeout_s
        while True:
            try:
                while clock.seconds() < deadline:
                    if receiver.poll(POLL_S):
                        self._take(receiver.recv())
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
            self.policy_id, self.nfe, self.steps = value
        elif kind == "calibration":
            self.calibration = value
        elif kind == "result":
            self.result = value
        elif kind == "counts":
            self.counts = value
        elif kind == "uncounted":
            self.uncounted = value
        elif kind == "refused":
            raise value


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


def _serve(job: IsolatedProbe, nfe: int | None, batch_size: int, sender: Connection, stop: Any) -> None:
    """Run one configuration, in the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        policy, steps = _build(job)
    except HarnessError as error:
        _send(sender, "refused", error)
        return
    chosen = nfe if nfe in steps else steps[0]
    _send(sender, "policy", (job.labels.policy_id or policy.info.policy_id, chosen, list(steps)))
    device = _device(policy)
    labels, relabelled = _label_device(job.labels, device)
    source = find_source(device) if job.telemetry else None
    try:
        with Telemetry(source, seconds=job.clock.seconds) as telemetry:
            result = probe(
                policy,
                observations=job.observations,
                clock=job.clock,
                nfes=() if chosen is None else (chosen,),
                batch_sizes=(batch_size,),
                budget=job.budget,
                labels=labels,
                telemetry=telemetry,
                should_stop=stop.is_set,
            )
    except UsageError as error:
        _send(sender, "refused", error)
        return
    measured = result.configurations[0]
    _send(sender, "result", replace(measured, warnings=(*measured.warnings, *relabelled)))
    # After the measurement, so that a calibration cannot heat the device before it.
    if job.calibrate and not result.interrupted:
        _send(sender, "calibration", calibrate(device, job.clock.seconds))
    if job.count and not (result.interrupted or measured.failure):
        _count(job, policy, chosen, batch_size, labels, sender)


def _count(
    job: IsolatedProbe, policy: Policy, nfe: int | None, batch_size: int, labels: Labels, sender: Connection
) -> None:
    """Count what the policy asks of the device; the timings are sent, so that whatever happens here costs none."""
    try:
        rows = count_rows(policy, job.observations, job.clock.now(), labels, nfe=nfe, batch_size=batch_size)
    except Exception as error:
        _send(sender, "uncounted", f"its operators could not be counted: {type(error).__name__}: {error}")
    else:
        _send(sender, "counts", rows)


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

"""The measuring process, seen from inside: it builds one policy, times its configurations and says what it does."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from harness.errors import HarnessError, PolicyError
from harness.latency.calibrate import calibrate
from harness.latency.counts import count_rows
from harness.latency.differences import answer
from harness.latency.inputs import with_cameras
from harness.latency.neighbours import Neighbour, foreign_processes, require_alone
from harness.latency.node import find_accelerator
from harness.latency.probe import ConfigurationResult, Labels, probe, resolve_nfes
from harness.latency.reading import Reading, TelemetrySource
from harness.latency.telemetry import Telemetry, find_source
from harness.policies.base import Policy
from harness.spec.budget import Budget
from harness.spec.observation import Observation
from harness.spec.profile import CPU_PROFILE
from harness.time_source import TimeSource, WallTime

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
    nfes: tuple[int, ...] = ()
    """Values asked for; the child resolves them, since only it knows the policy."""
    budget: Budget = field(default_factory=Budget)
    labels: Labels = field(default_factory=Labels)
    clock: TimeSource = field(default_factory=WallTime)
    telemetry: bool = True
    calibrate: bool = False
    count: bool = False
    timed: bool = True
    """False: only answer."""
    answer: bool = False
    """Whether to also send the answers that variants are compared by."""
    allow_shared: bool = False
    imports: Callable[[], object] | None = None
    """What a child imports before its turn comes, e.g. `standby.PolicyCode`."""


def serve(connection: Connection, stop: Any, imports: Callable[[], object] | None = None) -> None:
    """Import, wait for a job, and measure its configurations one after the other; the body of the process.

    The job comes when it is this process's turn, and through the connection rather than with the process: one that
    dies while it starts would leave whoever hands it megabytes waiting for ever.

    Args:
        connection: To the parent. Messages are (kind, value): "started" comes first, "ready" when everything that can
            be imported before the job is known has been.
        stop: An event that asks for an early end.
        imports: Imports the policy's code.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _send(connection, "started", None)
    if imports is not None:
        # What cannot be imported is said when the policy is built.
        with contextlib.suppress(Exception):
            imports()
    _send(connection, "ready", None)
    try:
        job, wanted = connection.recv()
    except EOFError:
        return
    except Exception as error:
        _send(connection, "refused", PolicyError(f"The policy cannot be sent to its process: {_named(error)}."))
        return
    try:
        measure(job, wanted, connection, stop)
    except HarnessError as error:
        _send(connection, "refused", error)
    _leave(connection)


def _leave(connection: Connection) -> None:
    """End without taking the interpreter apart, which torch makes 0.7 s long: the next child waits for it."""
    connection.close()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)


def measure(job: IsolatedProbe, wanted: Sequence[Configuration], connection: Connection, stop: Any) -> None:
    """Build the policy and measure.

    Raises:
        HarnessError: The request is wrong, the accelerator is in use, or the policy cannot be built.
    """
    # Before the policy exists, so that its own process is not among those on the device.
    source = find_source() if job.telemetry else None
    before = None if source is None else source.read()
    neighbours = _neighbours(source, job.clock)
    policy, steps = _build(job)
    device = None if getattr(policy, "device", None) is None else str(policy.device)  # type: ignore[attr-defined]
    on_cpu = device is not None and device.startswith("cpu")
    if on_cpu:
        neighbours = None
    if neighbours and not job.allow_shared:
        require_alone(neighbours)
    _send(connection, "policy", (job.labels.policy_id or policy.info.policy_id, list(steps)))
    built = getattr(policy, "provenance", {}).get("compile")
    shared = None if neighbours is None else bool(neighbours)
    labels = replace(job.labels, compile=job.labels.compile or built, shared=shared)
    labels, relabelled = _label_device(labels, on_cpu)
    job = replace(job, observations=with_cameras(job.observations, policy.info.cameras, policy.info.frame_size))
    measuring = _Measuring(job, policy, labels, device, before, connection, stop)
    asked = [(nfe if nfe in steps else steps[0], batch) for nfe, batch in wanted]
    for configuration in dict.fromkeys(asked):
        _send(connection, "begin", configuration)
        if not measuring.run(configuration, relabelled):
            return
    # Last, so that it can neither heat the device before a measurement nor add to the memory of one.
    if job.calibrate:
        _send(connection, "say", "measuring the device's copy bandwidth, matrix products and launch cost")
        calibration = calibrate(device, job.clock.seconds)
        for note in calibration.notes:
            _send(connection, "say", note)
        _send(connection, "calibration", calibration)
    _send(connection, "sampled", None)
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
    connection: Connection
    stop: Any
    uncounted: list[Configuration] = field(default_factory=list)

    def run(self, configuration: Configuration, warnings: Sequence[str]) -> bool:
        """Measure one configuration; False when there is no going on."""
        nfe, batch_size = configuration
        if self.job.timed:
            measured = self._time(nfe, batch_size)
        else:
            name = self.labels.policy_id or self.policy.info.policy_id
            measured = ConfigurationResult(name, nfe, batch_size, self.labels.launch)
        _send(self.connection, "result", replace(measured, warnings=(*measured.warnings, *warnings)))
        if measured.interrupted:
            return False
        if measured.failure is None and self.job.answer:
            what = partial(answer, self.policy, self.job.observations, nfe=nfe, batch_size=batch_size)
            self._try("answers", "its answers could not be compared", what)
        if measured.failure is None and self.job.count:
            self.uncounted.append(configuration)
        return True

    def count(self) -> None:
        """Count what was measured, after everything else: a profiler that ran once slows later launches."""
        job = self.job
        for nfe, batch_size in self.uncounted:
            if self.stop.is_set():
                return
            where = f"at {'' if nfe is None else f'NFE {nfe}, '}batch {batch_size}"
            _send(self.connection, "say", f"counting operators {where}")
            what = partial(
                count_rows, self.policy, job.observations, job.clock.now(), self.labels, nfe=nfe, batch_size=batch_size
            )
            self._try("counts", f"operators {where} could not be counted", what)

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

    def _try(self, kind: str, trouble: str, work: Callable[[], Any]) -> None:
        """Send what `work` gives. The timings are sent already, so that whatever happens here costs none."""
        try:
            value = work()
        except Exception as error:
            _send(self.connection, "warning", f"{trouble}: {_named(error)}")
        else:
            _send(self.connection, kind, value)


def _neighbours(source: TelemetrySource | None, clock: TimeSource) -> tuple[Neighbour, ...] | None:
    """Other processes on the accelerator that stay there; None when nobody can tell."""
    deadline = clock.seconds() + NEIGHBOUR_WAIT_S
    while (found := foreign_processes(source)) and clock.seconds() < deadline:
        time.sleep(POLL_S)
    return found


def _label_device(labels: Labels, on_cpu: bool) -> tuple[Labels, tuple[str, ...]]:
    """Keep the times of a policy that runs on the CPU from being filed under the node's accelerator."""
    if not on_cpu or labels.hardware in (None, CPU_PROFILE) or find_accelerator()[0] is None:
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
        raise PolicyError(f"The policy cannot be built: {_named(error)}.") from error
    return policy, resolve_nfes(policy.info, job.nfes)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _send(connection: Connection, kind: str, value: Any) -> None:
    """Send to the parent; a child whose parent is gone has nobody to measure for."""
    try:
        connection.send((kind, value))
    except BrokenPipeError:
        os._exit(1)

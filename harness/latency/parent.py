"""The measuring processes, seen from outside: one after the other until every configuration is done."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.errors import HarnessError, NodeError, UsageError
from harness.latency.calibrate import Calibration
from harness.latency.child import POLL_S, Configuration, IsolatedProbe
from harness.latency.differences import Answers
from harness.latency.probe import ConfigurationResult, ProbeFailure, ProbeResult
from harness.latency.standby import GRACE_S, ChildProcess, Imports, Standby, interrupts_blocked
from harness.ledger.schema import Row


@dataclass(frozen=True, slots=True)
class IsolatedResult:
    """A probe, and the ceilings of the device measured in the process of its first configuration."""

    probe: ProbeResult
    calibration: Calibration | None


@dataclass(slots=True)
class Measured:
    """One configuration, as far as it came."""

    result: ConfigurationResult
    counts: Sequence[Row] = ()
    """Of this configuration, or of all of the process, which counts last."""
    answers: Answers | None = None

    @property
    def configuration(self) -> Configuration:
        """What was measured."""
        return self.result.nfe, self.result.batch_size


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom the parent tells."""

    measured: Callable[[ConfigurationResult], object] = lambda result: None
    """Told each result at once."""
    finished: Callable[[Measured], object] = lambda measured: None
    """Told it again with all that follows it."""
    say: Callable[[str], object] = lambda text: None
    """Told what a child is doing."""


def run_children(
    job: IsolatedProbe,
    batch_sizes: Sequence[int],
    listener: Listener,
    *,
    share: bool,
    timeout_s: float,
    standby: Standby,
    following: Sequence[Imports | None] = (),
    skip: Collection[Configuration] = (),
) -> IsolatedResult:
    """Start children until every configuration is done.

    Args:
        job: What to measure.
        batch_sizes: Observations in one `act`.
        listener: Told of every result.
        share: Whether one child measures all, for as long as it lives.
        timeout_s: A child that is silent for so long is killed, seconds.
        standby: Starts the children.
        following: What the children of the next call will import, if there is one.
        skip: Configurations that are not to be measured, e.g. those that failed in an earlier launch.

    Raises:
        HarnessError: The request is wrong, the policy cannot be built, or no child can start.
    """
    results: list[ConfigurationResult] = []
    calibration: Calibration | None = None
    done = set(skip)
    steps: list[int | None] = list(dict.fromkeys(job.nfes)) or [None]
    while pending := [(nfe, batch) for batch in batch_sizes for nfe in steps if (nfe, batch) not in done]:
        wanted = pending if share else pending[:1]
        child = _Child(replace(job, calibrate=job.calibrate and calibration is None), wanted, listener)
        rest = [] if share else [job.imports] * (len(pending) - 1)
        child.run(standby, [*rest, *following], timeout_s)
        results += [measured.result for measured in child.done]
        # The NFE that was asked for stands for what the child made of it, e.g. None for the default.
        done |= {wanted[0], *(measured.configuration for measured in child.done)}
        steps = child.steps or steps
        calibration = calibration or child.calibration
        if child.interrupted or any(result.interrupted for result in results):
            return IsolatedResult(ProbeResult(tuple(results), interrupted=True), calibration)
    return IsolatedResult(ProbeResult(tuple(results)), calibration)


class _Child:
    """A measuring process."""

    def __init__(self, job: IsolatedProbe, wanted: Sequence[Configuration], listener: Listener) -> None:
        self.job, self.wanted, self.listener = job, tuple(wanted), listener
        self.steps: list[int | None] | None = None
        self.calibration: Calibration | None = None
        self.current: Configuration | None = self.wanted[0]
        """What it is measuring."""
        self.done: list[Measured] = []
        self.open = False
        """Whether more may follow of the last one."""
        self.policy_id = job.labels.policy_id or "?"
        self.interrupted = False

    def run(self, standby: Standby, then: Sequence[Imports | None], timeout_s: float) -> None:
        """Run the child to its end, whatever that is.

        Args:
            standby: Where it comes from; told when the next ones may start.
            then: What those that come after it import.
            timeout_s: A child that is silent for so long is killed, seconds.

        Raises:
            HarnessError: The child says that the request is wrong or the policy cannot be built, or it never started.
        """
        child = standby.take(self.job.imports, then)
        try:
            timed_out = self._receive(child, standby, timeout_s)
        finally:
            child.end()
        self._finish()
        if self.current is None:
            return
        if not (child.started or self.interrupted or timed_out):
            raise _never_started(child.process)
        failure = None if self.interrupted else _autopsy(child.process, timed_out, timeout_s)
        launch = self.job.labels.launch
        lost = ConfigurationResult(
            self.policy_id, *self.current, launch=launch, interrupted=self.interrupted, failure=failure
        )
        self._add(lost)
        self._finish()

    def _add(self, result: ConfigurationResult) -> None:
        self.current, self.open = None, True
        self.done.append(Measured(result))

    def _finish(self) -> None:
        """Hand over a configuration to which nothing can be added any more."""
        if self.open:
            self.listener.finished(self.done[-1])
        self.open = False

    def _receive(self, child: ChildProcess, standby: Standby, timeout_s: float) -> bool:
        """Give the child its turn, and take messages until it is done; True when it had to be given up."""
        try:
            if not standby.settle(child, timeout_s):
                return child.process.is_alive()
            with interrupts_blocked():
                child.connection.send((self.job, self.wanted))
        except ConnectionError:
            child.process.join(GRACE_S)
            return False
        except KeyboardInterrupt:
            self.interrupted = True
            child.process.kill()
            return False
        return self._listen(child, standby, timeout_s)

    def _listen(self, child: ChildProcess, standby: Standby, timeout_s: float) -> bool:
        """Take messages until the child is done; True when it had to be given up."""
        clock, connection = self.job.clock, child.connection
        deadline = clock.seconds() + timeout_s
        while True:
            try:
                while clock.seconds() < deadline:
                    if connection.poll(POLL_S):
                        self._take(connection.recv(), standby)
                        if not self.interrupted:
                            deadline = clock.seconds() + timeout_s
                    elif not child.process.is_alive() and not connection.poll(0):
                        return False
                return not self.interrupted
            except (EOFError, ConnectionError):
                child.process.join(GRACE_S)
                return False
            except KeyboardInterrupt:
                # The child, which ignores Ctrl-C, ends after the decision in hand and sends what it has.
                if self.interrupted:
                    raise
                self.interrupted = True
                child.stop.set()
                deadline = clock.seconds() + GRACE_S

    def _take(self, message: tuple[str, Any], standby: Standby) -> None:
        kind, value = message
        if kind == "policy":
            self.policy_id, self.steps = value
        elif kind == "say":
            self.listener.say(value)
        elif kind == "begin":
            self._finish()
            self.current = value
        elif kind == "result":
            self._add(value)
            self.listener.measured(value)
        elif kind == "calibration":
            self.calibration = value
        elif kind == "sampled":
            # What this child still does, counting and ending, disturbs no measurement; nor does who starts meanwhile.
            standby.fill()
        elif kind == "refused":
            raise value
        elif self.open:
            self._follow(self.done[-1], kind, value)

    def _follow(self, measured: Measured, kind: str, value: Any) -> None:
        if kind == "counts":
            measured.counts = [*measured.counts, *value]
        elif kind == "answers":
            measured.answers = value
        elif kind == "warning":
            measured.result = replace(measured.result, warnings=(*measured.result.warnings, value))


def _exit_of(process: SpawnProcess) -> tuple[str, str | None]:
    """How a process ended, and the name of the signal that ended it."""
    code = process.exitcode or 0
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in {s.value for s in signal.Signals} else None
    return f"exit code {code}" + (f", {name}" if name else ""), name


def _autopsy(process: SpawnProcess, timed_out: bool, timeout_s: float) -> ProbeFailure:
    """Say how a child ended that sent no result."""
    if timed_out:
        return ProbeFailure("timeout", f"gave no result within {timeout_s:g} s and was killed")
    how, name = _exit_of(process)
    hint = "; the kernel kills so when memory runs out" if name == "SIGKILL" else ""
    return ProbeFailure("crash", f"the process of this configuration died ({how}){hint}; the others are kept", name)


def _never_started(process: SpawnProcess) -> HarnessError:
    """Say why nothing can be measured at all; another process would fare no better."""
    how, name = _exit_of(process)
    said = f"The measuring process ended before it began ({how})"
    if name is not None:
        return NodeError(f"{said}; nothing was measured. Free memory, or see the system's log for who ended it.")
    return UsageError(
        f"{said}; what it printed stands above. It imports the script that started it: put what that "
        "script is to do once under `if __name__ == '__main__':`."
    )

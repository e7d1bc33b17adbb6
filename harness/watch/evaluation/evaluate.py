"""One checkpoint's evaluation, in a process of its own: `python -m harness.watch REQUEST.json`.

Ray ends the process of a driver whose head node is gone, and a policy may take its process down: neither may be the
watcher's. What this process leaves is in the ledger, and a small file says how it ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, NodeError
from harness.ledger.storage import Location
from harness.screen import Screen
from harness.time_source import TimeSource, WallTime
from harness.watch.evaluation.request import End, EvaluationRequest, EvaluationResult
from harness.watch.training.outbox import write_json

if TYPE_CHECKING:
    from harness.schedule.early_stopping import StopNote
    from harness.schedule.progress import Progress
    from harness.schedule.result import EpisodeResult
    from harness.schedule.units import EpisodeUnit
    from harness.spec import PolicySpec, Suite

MARK = "VLA_HARNESS_WATCH"
"""Environment variable that every process of an evaluation carries: which ledger it works for."""
LOCK_S = 180.0
"""How long to wait for the previous evaluation of a ledger to end, seconds."""
LINE_EVERY_S = 10.0
START_NICE = 10
"""Niceness while Ray starts, and of its own processes ever after: at 19, beside two busy cores, its start would take
minutes and its heartbeats would be missed. They take a few seconds of CPU in all."""
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "60",
}
"""Ray's time limits, for processes that get a fraction of a core."""
_PR_SET_PDEATHSIG = 1


@dataclass
class GiveWay:
    """Drops what is queued as soon as a file appears. It pickles: the run's controller holds it."""

    cancel_file: str
    plan: tuple[EpisodeUnit, ...] = field(default=())

    def rounds(self) -> Sequence[Sequence[EpisodeUnit]]:
        """One round of everything."""
        return [self.plan]

    def take(self, results: Sequence[EpisodeResult]) -> StopNote | None:
        """A note once the file is there."""
        del results
        if not self.cancel_file or not os.path.exists(self.cancel_file):
            return None
        from harness.schedule.early_stopping import StopNote
        from harness.schedule.status import RunStatus

        return StopNote("A newer checkpoint is there.", {}, RunStatus.SUPERSEDED)


def main(argv: list[str]) -> int:
    """Evaluate what a request file asks for, and write the outcome; 0 if there is one."""
    request = EvaluationRequest.read(Path(argv[0]))
    end_with_parent()
    give_way(request)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        outcome = _guarded(request)
    except KeyboardInterrupt:
        outcome = EvaluationResult(End.INTERRUPTED)
    write_json(Path(request.result_file), asdict(outcome))
    return 0


def evaluate(request: EvaluationRequest) -> EvaluationResult:
    """Run the suite on a checkpoint, as far as the ledger lacks it.

    Raises:
        HarnessError: It cannot be run.
    """
    from harness.cluster.isolation import Isolation
    from harness.evaluation import run

    if outcome := compare_contents(request):
        return outcome
    options = request.options
    with local_checkpoint(request) as place:
        spec = policy_for(options.policy, place, request.name)
        result = run(
            suite_for(options.suite, spec),
            policies=[spec],
            nfe=[options.nfe] if options.nfe is not None else None,
            out=options.out,
            workers=options.rollout_workers,
            address=options.address,
            resume=True,
            video=options.video,
            on_progress=_Progress(request, WallTime()),
            on_message=lambda text: Screen().say(f"{request.name}: {text}"),
            early_stopping=lambda plan, _: GiveWay(request.cancel_file, tuple(plan)),
            isolation=Isolation(options.nice, options.cpus, options.gpu_memory_fraction),
        )
    end = End.EVALUATED if result.stopped is None else End.CANCELLED
    outcome = EvaluationResult(
        end=End.INTERRUPTED if result.interrupted else end,
        planned=result.planned,
        held=result.skipped + result.done,
        errors=result.outcomes.get("error", 0),
        message=" ".join(result.errors),
    )
    return outcome if result.interrupted else compare_contents(request) or outcome


def compare_contents(request: EvaluationRequest) -> EvaluationResult | None:
    """An outcome if the checkpoint is no longer what it was when it got its name; None if it is."""
    from harness.watch.checkpoints.discovery import digest_place
    from harness.watch.checkpoints.weights import BrokenCheckpointError

    try:
        found = digest_place(request.place, request.options.marker)[0]
    except FileNotFoundError:
        return EvaluationResult(End.VANISHED, message=f"{request.place} is gone")
    except (OSError, BrokenCheckpointError) as error:
        return EvaluationResult(End.CHANGED, message=f"{request.place} {error}")
    if found == request.digest:
        return None
    return EvaluationResult(End.CHANGED, message="training overwrote it while it was being evaluated")


def policy_for(kind: str, place: str, label: str) -> PolicySpec:
    """The policy that loads a checkpoint.

    Args:
        kind: "lerobot", "flow?dtype=bfloat16", or "python:MODULE:FACTORY", whose factory finds the checkpoint in
            `spec.options["checkpoint"]`.
        place: Local path of the checkpoint.
        label: Its name in the ledger.
    """
    from harness.spec import PolicySpec, parse_policy

    spec = parse_policy(kind)
    if spec.kind == "python":
        return PolicySpec(kind="python", path=spec.path, options={**spec.options, "checkpoint": place}, label=label)
    return PolicySpec(kind=spec.kind, path=place, options=spec.options, label=label)


def suite_for(text: str, spec: PolicySpec) -> Suite:
    """The suite, with its probe, if it has one, pointed at the checkpoint."""
    import yaml

    from harness.spec import Suite
    from harness.spec.changes import SuiteChanges
    from harness.spec.resolve import parse

    suite = parse(Suite, yaml.safe_load(text), "suite")
    return SuiteChanges(policies=(spec,), probe="retargeted").apply(suite)


@contextlib.contextmanager
def local_checkpoint(request: EvaluationRequest) -> Iterator[str]:
    """The checkpoint as a local path, downloaded if need be.

    Raises:
        NodeError: It cannot be downloaded.
    """
    from harness.watch.checkpoints.files import local_copy

    try:
        with local_copy(request.place, Path(request.scratch or tempfile.gettempdir())) as place:
            yield place
    except OSError as error:
        raise NodeError(f"Checkpoint {request.place!r} cannot be downloaded: {error}.") from error


def end_with_parent() -> None:
    """Have the kernel interrupt this process when its watcher dies, however it dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def give_way(request: EvaluationRequest) -> None:
    """Lower this process's priority, and with it that of everything that it starts; workers go lower still."""
    from harness.cluster.isolation import Isolation

    options = request.options
    nice = min(options.nice, START_NICE)
    Isolation(nice, options.cpus).apply()
    set_group_niceness(nice)
    os.environ.update(PATIENCE)
    os.environ[MARK] = token_of(options.out)
    # Ray would otherwise give its workers a niceness of its own choosing.
    os.environ["RAY_worker_niceness"] = str(options.nice)  # noqa: SIM112 - its name
    if request.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = request.gpus


def set_group_niceness(nice: int) -> None:
    """Lower the priority of this process's whole session, if it leads one.

    Where the kernel groups processes by session (sched_autogroup, the default of most distributions), the niceness of a
    process counts only within its session: against training, in a session of its own, it would count for nothing.
    """
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))


def token_of(out: str) -> str:
    """What marks the processes that work for a ledger."""
    return hashlib.sha256(Location.of(out).root.encode()).hexdigest()[:16]


def lock_path(out: str) -> Path:
    """The lock of a ledger: only one evaluation at a time may write to it."""
    return Path(tempfile.gettempdir()) / f"vla-harness-watch-{os.getuid()}-{token_of(out)}.lock"


@contextlib.contextmanager
def sole_evaluation(out: str, timeout_s: float = LOCK_S, stopwatch: TimeSource | None = None) -> Iterator[None]:
    """Hold the lock of a ledger, and end what a killed evaluation has left running.

    Raises:
        NodeError: Another evaluation of this ledger goes on and on.
    """
    with open(lock_path(out), "a", encoding="utf-8") as lock:
        seconds = (stopwatch or WallTime()).seconds
        deadline = seconds() + timeout_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if seconds() > deadline:
                    raise NodeError(
                        f"Another evaluation writes to {out!r} and has not ended in {timeout_s:.0f} s. Only one "
                        "watcher can serve a ledger."
                    ) from None
                time.sleep(0.2)
        end_leftovers(out)
        yield


def end_leftovers(out: str) -> int:
    """Kill processes of an earlier evaluation of this ledger, whose own process is gone; return how many there were."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in own and process.environ().get(MARK) == token_of(out):
                found.append(process)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=10)
    return len(found)


def _guarded(request: EvaluationRequest) -> EvaluationResult:
    try:
        with sole_evaluation(request.options.out):
            return evaluate(request)
    except HarnessError as error:
        return EvaluationResult(End.FAILED, error_type=type(error).__name__, message=str(error))
    except Exception as error:
        return EvaluationResult(End.FAILED, error_type=type(error).__name__, message=f"{type(error).__name__}: {error}")


class _Progress:
    """Prints progress now and then, and lowers the priority of everything once Ray has started."""

    def __init__(self, request: EvaluationRequest, stopwatch: TimeSource) -> None:
        self._seconds = stopwatch.seconds
        self._name, self._nice, self._last, self._shown = request.name, request.options.nice, 0.0, -1

    def __call__(self, progress: Progress) -> None:
        if self._shown < 0:
            set_group_niceness(self._nice)
        held = progress.skipped + progress.done
        due = self._seconds() - self._last >= LINE_EVERY_S or progress.remaining == 0
        if due and held != self._shown:
            errors = f", {progress.errors} errors" if progress.errors else ""
            Screen().say(f"{self._name}: {held}/{progress.planned} episodes{errors}")
            self._last, self._shown = self._seconds(), held

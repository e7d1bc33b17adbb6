"""The watcher's loop, with real folders, a real journal, and evaluations that end as the test wants."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from checkpoints import point_last, safetensors, write_checkpoint
from harness.ledger.storage import Location
from harness.watch.backlog.journal import CheckpointStatus
from harness.watch.backlog.order import BacklogOrder
from harness.watch.evaluation.request import End, EvaluationOptions, EvaluationRequest, EvaluationResult
from harness.watch.service import Hooks, Settings, Watcher, retry_delay
from harness.watch.training.client import EvalClient

DONE = EvaluationResult(End.EVALUATED, planned=4, held=4)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:  # noqa: D107
        self.elapsed = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.elapsed)

    def seconds(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.elapsed += seconds


class Evaluations:
    """Ends each evaluation after `turns` looks, as `ends` says."""

    def __init__(self, ends: Mapping | None = None, turns: int = 1) -> None:  # noqa: D107
        self.ends, self.turns = {name: list(outcomes) for name, outcomes in (ends or {}).items()}, turns
        self.started: list[str] = []
        self.requests: list[EvaluationRequest] = []
        self.cancelled = False
        self.meanwhile: Callable[[], None] = lambda: None
        self._left = 0

    def start(self, request: EvaluationRequest) -> None:
        self.started.append(request.name)
        self.requests.append(request)
        self.cancelled, self._left = False, self.turns

    def poll(self) -> EvaluationResult | None:
        self.meanwhile()
        self._left -= 1
        if self._left >= 0 and not self.cancelled:
            return None
        if self.cancelled:
            return EvaluationResult(End.CANCELLED, planned=4, held=1)
        return self._end()

    def cancel(self) -> None:
        self.cancelled = True

    def stop(self) -> EvaluationResult:
        return EvaluationResult(End.INTERRUPTED, planned=4, held=2)

    def _end(self) -> EvaluationResult:
        outcomes = self.ends.get(self.started[-1], [])
        return outcomes.pop(0) if outcomes else DONE


class Bench:
    """A watcher of a folder, and what it said."""

    def __init__(self, tmp_path: Path, evaluations=None, hooks: dict | None = None, **settings) -> None:  # noqa: D107
        self.run_dir, self.outbox = tmp_path / "run", tmp_path / "outbox"
        self.evaluations, self.said, self.clock = evaluations or Evaluations(), [], Clock()
        self.published: list[str | None] = []
        told = {field.name for field in fields(EvaluationOptions)} & set(settings)
        options = {name: settings.pop(name) for name in told}
        evaluation = EvaluationOptions(str(tmp_path / "ledger"), "name: s", "lerobot", **options)
        self.settings = Settings(evaluation, directory=str(self.run_dir), outbox=self.outbox, **settings)
        self.hooks = Hooks(
            say=self.said.append,
            publish=lambda state, entry: self.published.append(entry.name if entry else None),
            **(hooks or {}),
        )
        self.watcher = self.restarted()

    def restarted(self) -> Watcher:
        """A watcher that knows nothing but what is on disk."""
        return Watcher(self.settings, self.evaluations, self.clock, self.hooks)

    def once(self, watcher: Watcher | None = None) -> bool:
        return (watcher or self.watcher).run(
            once=True, stopped=lambda: self.clock.elapsed > 1e5, sleep=self.clock.sleep
        )

    def write(self, *steps: int, value: float = 1.0) -> None:
        for step in steps:
            write_checkpoint(self.run_dir, step, value + step)

    def statuses(self) -> dict[str, str]:
        return {name: entry.status.value for name, entry in self.watcher.state.entries.items()}


def test_every_checkpoint_is_evaluated_once_also_by_a_watcher_that_starts_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(1, 2, 3)
    assert bench.once()
    assert sorted(bench.evaluations.started) == ["step-000001", "step-000002", "step-000003"]
    assert bench.once(bench.restarted())
    assert len(bench.evaluations.started) == 3
    assert bench.published[0] is None
    assert bench.published[1:] == ["step-000003", "step-000002", "step-000001", None]


def test_a_watcher_that_died_between_the_episodes_and_the_word_of_it_asks_again_for_what_is_missing(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Evaluations(turns=100))
    bench.write(1)
    bench.clock.sleep(60)
    bench.watcher.turn()
    assert bench.evaluations.started == ["step-000001"]
    bench.evaluations.turns = 1
    assert bench.once(bench.restarted())
    assert bench.evaluations.started == ["step-000001"] * 2
    assert len({request.digest for request in bench.evaluations.requests}) == 1


def test_a_checkpoint_that_is_being_written_is_not_touched(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(1)
    bench.watcher.turn()
    assert bench.watcher.state.entries == {}
    point_last(bench.run_dir, 1)
    bench.watcher.turn()
    assert bench.evaluations.started == ["step-000001"]


def test_newer_checkpoints_take_the_place_of_queued_episodes_and_older_ones_get_theirs_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Evaluations(turns=3))
    bench.write(1)

    def write_another() -> None:
        if not (bench.run_dir / "checkpoints" / "000002").exists():
            bench.write(2)
            point_last(bench.run_dir, 2)

    bench.evaluations.meanwhile = write_another
    assert bench.once()
    assert bench.evaluations.started == ["step-000001", "step-000002", "step-000001"]
    assert any("give way to step-000002" in line for line in bench.said)
    assert any("3 of 4 episodes left for when nothing newer waits" in line for line in bench.said)
    assert set(bench.statuses().values()) == {"evaluated"}


@pytest.mark.parametrize("options", [{"cancel": False}, {"order": BacklogOrder.ALL}])
def test_nothing_is_cancelled_where_that_was_not_asked_for(tmp_path: Path, options: dict) -> None:
    bench = Bench(tmp_path, Evaluations(turns=3), **options)
    bench.write(1)
    bench.evaluations.meanwhile = lambda: bench.write(2)
    assert bench.once()
    assert bench.evaluations.started == ["step-000001", "step-000002"]


def test_checkpoints_that_arrive_too_fast_are_skipped_by_name_and_come_back_on_request(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_waiting=2)
    bench.write(1, 2, 3, 4)
    assert bench.once()
    assert bench.evaluations.started == ["step-000004", "step-000003"]
    assert bench.statuses()["step-000001"] == "skipped"
    assert any("step-000001: skipped, more than 2 checkpoints waited" in line for line in bench.said)
    bench.settings = Settings(**{**vars(bench.settings), "max_waiting": None})
    bench.watcher = bench.restarted()
    bench.watcher.retry()
    assert bench.once()
    assert set(bench.statuses().values()) == {"evaluated"}


def test_an_overwritten_checkpoint_is_two_checkpoints(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(1)
    assert bench.once()
    future = bench.clock.now().timestamp() + 100
    model = write_checkpoint(bench.run_dir, 1, 99.0)
    for file in model.iterdir():
        os.utime(file, (future, future))
    bench.clock.sleep(200)
    assert bench.once()
    assert bench.evaluations.started == ["step-000001", "step-000001-r2"]
    assert any("training has been restarted from an earlier step" in line for line in bench.said)


def test_one_that_is_overwritten_while_it_runs_counts_for_nothing_and_the_new_one_is_evaluated(tmp_path: Path) -> None:
    changed = EvaluationResult(End.CHANGED, message="training overwrote it while it was being evaluated")
    bench = Bench(tmp_path, Evaluations({"step-000001": [changed]}))
    bench.write(1)
    bench.evaluations.meanwhile = lambda: bench.write(1, value=50.0)
    assert bench.once()
    assert bench.statuses() == {"step-000001": "changed", "step-000001-r2": "evaluated"}


def test_a_checkpoint_that_vanishes_is_said_and_holds_nobody_up(tmp_path: Path) -> None:
    gone = EvaluationResult(End.VANISHED, message="/run/2 is gone")
    bench = Bench(tmp_path, Evaluations({"step-000002": [gone]}))
    bench.write(1, 2)
    bench.evaluations.meanwhile = lambda: shutil.rmtree(bench.run_dir / "checkpoints" / "000002", ignore_errors=True)
    assert bench.once()
    assert bench.statuses() == {"step-000001": "evaluated", "step-000002": "vanished"}
    assert any("is gone" in line for line in bench.said)


def test_a_truncated_checkpoint_is_said_once_and_evaluated_when_it_is_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(1)
    model = write_checkpoint(bench.run_dir, 2)
    (model / "model.safetensors").write_bytes(safetensors(2.0)[:-7])
    assert bench.once()
    assert bench.once(bench.restarted())
    assert sum("is truncated:" in line for line in bench.said) == 1
    assert bench.evaluations.started == ["step-000001"]
    bench.clock.sleep(100)
    (model / "model.safetensors").write_bytes(safetensors(2.0))
    assert bench.once()
    assert bench.evaluations.started == ["step-000001", "step-000002"]


def test_submissions_are_evaluated_under_their_step_and_one_found_in_the_folder_too_is_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write(1)
    client = EvalClient(bench.outbox)
    client.submit(bench.run_dir / "checkpoints" / "000001" / "pretrained_model", 1)
    client.submit(write_checkpoint(tmp_path / "elsewhere", 7, 7.0), 700)
    assert bench.once()
    assert sorted(bench.evaluations.started) == ["step-000001", "step-000700"]


def test_a_submission_whose_checkpoint_is_gone_is_said_after_the_quiet_period(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    EvalClient(bench.outbox).submit(tmp_path / "gone", 5)
    bench.watcher.turn()
    assert bench.said == []
    assert bench.once()
    assert [line for line in bench.said if "is gone: not evaluated" in line]
    assert bench.evaluations.started == []


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_an_evaluation_that_dies_goes_on_with_what_is_missing_and_is_given_up_after_three_deaths(
    tmp_path: Path,
) -> None:
    died = EvaluationResult(End.FAILED, error_type="EvaluationDied", message="Its process died (signal SIGKILL).")
    bench = Bench(tmp_path, Evaluations({"step-000001": [died, died], "step-000002": [died] * 9}))
    bench.write(1, 2)
    bench.watcher.run(once=False, stopped=lambda: bench.clock.elapsed > 2000, sleep=bench.clock.sleep)
    assert bench.statuses() == {"step-000001": "evaluated", "step-000002": "failed"}
    assert bench.evaluations.started.count("step-000001") == 3
    assert bench.evaluations.started.count("step-000002") == 3


def test_a_checkpoint_that_cannot_be_loaded_fails_with_its_reason_and_the_next_one_is_evaluated(tmp_path: Path) -> None:
    broken = EvaluationResult(
        End.FAILED, error_type="PolicyError", message="Policy 'step-000002' has 3 unexpected tensors."
    )
    bench = Bench(tmp_path, Evaluations({"step-000002": [broken, broken]}))
    bench.write(1, 2)
    bench.watcher.run(once=False, stopped=lambda: bench.clock.elapsed > 500, sleep=bench.clock.sleep)
    assert bench.statuses() == {"step-000001": "evaluated", "step-000002": "failed"}
    assert any("3 unexpected tensors" in line for line in bench.said)


def test_trouble_of_the_machine_is_never_the_checkpoints_fault() -> None:
    assert [retry_delay("LedgerError", failures, 0) for failures in (1, 2, 3, 50)] == [5.0, 10.0, 20.0, 300.0]
    assert retry_delay("NodeError", 50, 0) == 300.0
    assert retry_delay("PolicyError", 1, 0) == 5.0
    assert retry_delay("PolicyError", 2, 0) is None
    assert retry_delay("EvaluationDied", 2, 2) == 10.0
    assert retry_delay("EvaluationDied", 3, 3) is None


def test_a_full_disk_loses_nothing_and_the_watch_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.write(1)
    real, full = Location.write_whole, [True]

    def write(location: Location, path: str, data) -> None:
        if full[0]:
            raise location.failure("write", OSError(errno.ENOSPC, "No space left on device"))
        real(location, path, data)

    monkeypatch.setattr(Location, "write_whole", write)

    def sleep(seconds: float) -> None:
        bench.clock.sleep(seconds)
        full[0] = bench.clock.elapsed < 100

    bench.watcher.run(once=False, stopped=lambda: bench.clock.elapsed > 300, sleep=sleep)
    assert sum("The disk is full" in line for line in bench.said) == 1
    assert bench.statuses() == {"step-000001": "evaluated"}


def test_with_once_a_disk_that_stays_full_ends_the_watch_and_says_that_work_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = EvaluationResult(End.FAILED, error_type="LedgerError", message="The disk is full.")
    bench = Bench(tmp_path, Evaluations({"step-000001": [full] * 9}))
    bench.write(1)
    assert not bench.once()
    assert bench.statuses() == {"step-000001": "waiting"}


def test_stopping_keeps_what_is_done_and_the_next_watcher_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Evaluations(turns=5))
    bench.write(1)
    bench.clock.sleep(60)
    bench.watcher.turn()
    bench.watcher.stop()
    assert bench.statuses() == {"step-000001": "waiting"}
    bench.evaluations.turns = 1
    assert bench.once(bench.restarted())
    assert bench.evaluations.started == ["step-000001"] * 2


def test_the_verdict_stands_with_the_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, hooks={"judge": lambda entry, state: ("FAIL", "success dropped")})
    bench.write(1)
    assert bench.once()
    entry = bench.restarted().state.entries["step-000001"]
    assert (entry.status, entry.verdict, entry.reason) == (CheckpointStatus.EVALUATED, "FAIL", "success dropped")

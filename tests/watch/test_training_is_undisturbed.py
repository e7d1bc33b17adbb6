"""Two ranks train with a limit on every collective, and episodes last longer than that limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from training import SUITE, evaluation_processes, training, wait_until, watcher

from harness.ledger import read
from harness.watch.backlog.journal import CheckpointStatus, Journal, Kind, fold
from harness.watch.training.client import EvalClient


def kill_watcher(process: subprocess.Popen[str], ledger: Path) -> None:
    """SIGKILL: it can tidy nothing up."""
    process.kill()
    process.wait()


def kill_head(process: subprocess.Popen[str], ledger: Path) -> None:
    """Both processes of Ray's head node."""
    found = [*evaluation_processes(ledger, "gcs_server"), *evaluation_processes(ledger, "raylet")]
    assert len(found) == 2
    for one in found:
        one.kill()


def kill_worker(process: subprocess.Popen[str], ledger: Path) -> None:
    """One rollout worker, in the middle of an episode."""
    evaluation_processes(ledger, "ray::RolloutWor")[0].kill()


KILLS: Mapping[str, Callable[[subprocess.Popen[str], Path], None]] = {
    "worker": kill_worker,
    "Ray head": kill_head,
    "watcher": kill_watcher,
}


def n_parts(ledger: Path) -> int:
    """Parts of episodes that are in the ledger."""
    return len(list((ledger / "episodes").glob("part-*.parquet")))


def evaluate_beside(folder: Path, *, timeout_s: float, episode_s: float, episodes: int, kills: Sequence[str]) -> None:
    """Train, evaluate beside it, kill parts of the evaluation, and look at what both have come to."""
    ledger, outbox, suite = folder / "ledger", folder / "outbox", folder / "suite.yaml"
    suite.write_text(SUITE.format(max_steps=int(episode_s / 0.02), episodes=episodes))
    options = ("--workers", "2", "--nice", "0")
    with training(folder, evaluation="client", timeout_s=timeout_s) as job:
        with watcher(outbox, ledger, suite, *options) as process:
            for kill in kills:
                before = n_parts(ledger)
                wait_until(lambda: n_parts(ledger) > before or not job.running, f"the {kill}'s turn")  # noqa: B023
                KILLS[kill](process, ledger)
                assert job.running, f"training died with the {kill}"
        with watcher(outbox, ledger, suite, *options, "--once") as process:
            assert process.wait(240) == 0, ledger.with_suffix(".log").read_text()
        assert job.running
        codes, said = job.stop()
    assert codes == [0, 0], said
    assert len(job.times(0)) == len(job.times(1))
    assert max(job.times(0)) < timeout_s < read(ledger).episodes["wall_s"].max()
    require_one_result(ledger, EvalClient(outbox), episodes)


def require_one_result(ledger: Path, client: EvalClient, episodes: int) -> None:
    """Every episode once, one result, and the client sees it."""
    every = read(ledger, all_attempts=True).episodes
    ended = every[every["outcome"] != "error"]
    assert ended["outcome"].tolist() == ["timeout"] * episodes
    assert ended["episode_key"].nunique() == episodes
    # A killed worker's attempt is told, and made again.
    assert set(every["error_type"].dropna()) <= {"WorkerDied"}
    events = Journal(str(ledger)).read()
    assert sum(event.kind is Kind.EVALUATED for event in events) == 1
    assert [entry.status for entry in fold(events).entries.values()] == [CheckpointStatus.EVALUATED]
    (result,) = client.poll()
    assert (result["name"], result["n"]) == ("step-000020", episodes)


def test_evaluation_inside_the_loop_kills_the_job(tmp_path: Path) -> None:
    with training(tmp_path, evaluation="inside", timeout_s=2.0, inside_s=6.0) as job:
        codes, said = job.end()
    assert 0 not in codes, "the rank that waited, and with it the other one"
    assert "Timed out" in said


@pytest.mark.slow
def test_evaluation_beside_it_lets_the_job_end_whatever_is_killed_and_gives_one_result(tmp_path: Path) -> None:
    evaluate_beside(tmp_path, timeout_s=4.0, episode_s=4.5, episodes=10, kills=["worker", "watcher"])


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS)
def test_with_a_limit_of_ten_seconds_and_longer_episodes_every_kill_is_survived(tmp_path: Path, kill: str) -> None:
    evaluate_beside(tmp_path, timeout_s=10.0, episode_s=12.0, episodes=6, kills=[kill])


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    """The same watcher by hand: a terminal's Ctrl-C, and then the command that it prints."""
    ledger, outbox, suite = tmp_path / "ledger", tmp_path / "outbox", tmp_path / "suite.yaml"
    suite.write_text(SUITE.format(max_steps=25, episodes=30))
    with training(tmp_path, evaluation="client", save_at=[5], steps=10) as job:
        assert job.end()[0] == [0, 0]
    with watcher(outbox, ledger, suite, "--workers", "1", "--nice", "0") as process:
        wait_until(lambda: n_parts(ledger) > 2, "episodes")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == 130
    said = ledger.with_suffix(".log").read_text()
    assert "Interrupted with 1 checkpoints waiting. To go on:" in said
    assert not [one for one in evaluation_processes(ledger, "") if one.status() != psutil.STATUS_ZOMBIE]
    kept = len(read(ledger).episodes)
    assert 2 < kept < 30
    with watcher(outbox, ledger, suite, "--workers", "2", "--nice", "0", "--once") as process:
        assert process.wait(240) == 0
    every = read(ledger, all_attempts=True).episodes
    assert len(every) == every["episode_key"].nunique() == 30

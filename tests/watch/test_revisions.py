"""Revisions of a hub repository: pinned by commit, each taken once, from a real client against a local server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_history import REPOSITORY, History, serving

import harness
from checkpoints import safetensors
from harness.errors import NodeError, NoPolicyError, UsageError
from harness.watch.checkpoints.revisions import Revisions, repository_of
from harness.watch.training.outbox import read_submissions


@pytest.fixture
def history() -> Iterator[History]:
    history = History()
    history.add(config__json=b"{}", model__safetensors=safetensors(1.0), README__md=b"first")
    history.add(model__safetensors=safetensors(2.0))
    with serving(history):
        yield history


@pytest.fixture
def follow(history: History, tmp_path: Path) -> Callable[..., tuple[Revisions, list[str]]]:
    def make(repository: str = REPOSITORY, **changes: object) -> tuple[Revisions, list[str]]:
        said: list[str] = []
        options = {"endpoint": history.endpoint, "cache_dir": tmp_path / "cache", **changes}
        return Revisions(repository, "main", tmp_path / "outbox", said.append, lambda: 1e9, **options), said

    return make


def submitted(outbox: Path) -> list[tuple[int, str]]:
    """(revision, commit that the folder is pinned by) of every submission."""
    return sorted((one.step, Path(one.checkpoint).name) for one in read_submissions(outbox)[0])


def test_the_newest_revision_is_taken_first_and_then_each_new_one_once(
    history: History, follow: Callable, tmp_path: Path
) -> None:
    source, _ = follow()
    source.fetch()
    source.fetch()
    assert submitted(tmp_path / "outbox") == [(2, history.sha(2))]
    third = history.add(model__safetensors=safetensors(3.0))
    # Another watcher, which knows nothing but what is on disk.
    again, _ = follow()
    again.fetch()
    assert submitted(tmp_path / "outbox")[1:] == [(3, third)]
    (folder,) = {one.checkpoint for one in read_submissions(tmp_path / "outbox")[0] if one.step == 3}
    assert (Path(folder) / "model.safetensors").read_bytes() == safetensors(3.0)
    assert not (Path(folder) / "README.md").exists()


def test_a_commit_that_changes_no_policy_is_passed_over_without_a_download(
    history: History, follow: Callable, tmp_path: Path
) -> None:
    source, said = follow()
    source.fetch()
    history.add(README__md=b"a better story")
    before = len(history.seen)
    source.fetch()
    assert submitted(tmp_path / "outbox") == [(2, history.sha(2))]
    assert not any("/resolve/" in path for path in history.seen[before:])
    assert f"has the files of {history.sha(2)[:12]}" in said[-1]


def test_what_the_doctor_refuses_is_said_and_not_evaluated(follow: Callable, tmp_path: Path) -> None:
    asked: list[str] = []

    def examine(folder: str) -> str | None:
        asked.append(folder)
        return "the doctor finds images: upside down"

    source, said = follow(examine=examine)
    source.fetch()
    source.fetch()
    assert len(asked) == 1
    assert "not evaluated, the doctor finds images: upside down" in said[-1]
    assert submitted(tmp_path / "outbox") == []


def test_a_hub_that_is_down_is_asked_again_and_a_repository_that_is_not_there_is_told(
    history: History, follow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client waits half a minute between its own attempts.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    source, _ = follow()
    history.down = True
    with pytest.raises(NodeError, match="gave no answer about robots/student"):
        source.fetch()
    history.down = False
    source.fetch()
    assert len(submitted(tmp_path / "outbox")) == 1
    with pytest.raises(NoPolicyError, match="no repository 'robots/absent'"):
        follow("robots/absent")[0].fetch()


@pytest.mark.parametrize("address", ["hf://student", "hf://a/b/c", "hf:///b"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="hf://OWNER/NAME"):
        repository_of(address)
    assert repository_of("hf://me/pi05@dev") == ("me/pi05", "dev")


SUITE = """
name: stubs
description: stub world
world: stub
protocol: {max_steps: {stub: 20}, settle_steps: 0}
tasks: [{suite: stub, tasks: [0], init_states: 4}]
probe: {launches: 1, budget: {min_seconds: 0.1, min_samples: 5, max_seconds: 2, warmup_seconds: 0.2}}
"""


@pytest.mark.slow
def test_the_command_takes_a_revision_from_the_hub_to_a_line_in_the_table(history: History, tmp_path: Path) -> None:
    """Fetched by commit, rolled out, probed, judged by the budget rules against the revision before it."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    argv = ["watch", f"hf://{REPOSITORY}", "--suite", str(tmp_path / "suite.yaml"), "--once", "--workers", "1"]
    argv += [
        "--policy-kind",
        "python:checkpoints:Stepper",
        "--out",
        str(tmp_path / "out"),
        "--poll",
        "0.1",
        "--nice",
        "0",
    ]
    env = {**os.environ, "HF_ENDPOINT": history.endpoint, "HF_HUB_CACHE": str(tmp_path / "cache")}
    env["PYTHONPATH"] = f"{Path(__file__).parent}:{Path(harness.__file__).parents[1]}"
    command = [sys.executable, "-c", "from harness.cli import main; main()", *argv]
    first = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    history.add(model__safetensors=safetensors(3.0))
    second = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert second.returncode == 2, second.stderr + second.stdout
    out = " ".join(second.stdout.split())
    assert f"{REPOSITORY}@{history.sha(3)[:12]} (revision 3): fetching" in out
    ledger = harness.read(tmp_path / "out")
    rolled = ledger.episodes[["policy_id", "checkpoint"]].drop_duplicates().to_numpy().tolist()
    assert sorted(name for name, _ in rolled) == ["step-000002", "step-000003"]
    assert all(history.sha(int(name[-6:])) in place for name, place in rolled), "pinned by commit"
    assert set(ledger.latency["policy_id"]) == {"step-000002", "step-000003"}, "and probed"
    assert "INCONCLUSIVE" in out, "four episodes tell nothing, and the rules say so"

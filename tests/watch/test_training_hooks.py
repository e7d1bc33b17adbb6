"""What training calls: LeRobot's own functions through the hook, and the plain PyTorch example."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

from checkpoints import write_checkpoint
from harness.watch.checkpoints.discovery import is_settled, scan
from harness.watch.checkpoints.files import open_tree
from harness.watch.training.client import EvalClient
from harness.watch.training.lerobot_hook import submit_checkpoints
from harness.watch.training.outbox import read_submissions

ROOT = Path(__file__).parents[2]


def test_lerobots_last_word_on_a_checkpoint_submits_it(tmp_path: Path) -> None:
    calls: list[Path] = []
    train = types.SimpleNamespace(update_last_checkpoint=lambda folder: calls.append(folder) or folder / "link")
    assert submit_checkpoints(EvalClient(tmp_path / "outbox"), train)
    folder = write_checkpoint(tmp_path, 5000).parent
    assert train.update_last_checkpoint(folder) == folder / "link"
    assert calls == [folder]
    (submission,), _ = read_submissions(tmp_path / "outbox")
    assert (submission.step, submission.checkpoint) == (5000, str(folder / "pretrained_model"))


def test_trouble_with_the_outbox_does_not_reach_lerobots_loop(tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("in the way")
    train = types.SimpleNamespace(update_last_checkpoint=lambda folder: "kept")
    assert submit_checkpoints(EvalClient(tmp_path / "outbox"), train)
    assert train.update_last_checkpoint(tmp_path / "005000") == "kept"


def test_a_lerobot_that_works_otherwise_is_trained_without_submissions_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not submit_checkpoints(EvalClient(tmp_path), types.SimpleNamespace())
    assert "update_last_checkpoint" in caplog.text


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="needs LeRobot")
def test_lerobot_still_has_the_function_and_its_own_link_marks_a_checkpoint_complete(tmp_path: Path) -> None:
    from lerobot.common import train_utils

    source = Path(str(importlib.util.find_spec("lerobot.scripts.lerobot_train").origin)).read_text()  # type: ignore[union-attr]
    assert source.index("save_checkpoint(\n") < source.index("update_last_checkpoint(checkpoint_dir)")
    folder = write_checkpoint(tmp_path, 5000).parent
    train = types.SimpleNamespace(update_last_checkpoint=train_utils.update_last_checkpoint)
    submit_checkpoints(EvalClient(tmp_path / "outbox"), train)
    train.update_last_checkpoint(folder)
    (candidate,), faults = scan(open_tree(str(tmp_path)))
    assert faults == []
    assert is_settled(candidate, marker=None, now_s=0.0, unchanged_s=0.0, quiet_s=1e9)
    assert len(read_submissions(tmp_path / "outbox")[0]) == 1


@pytest.mark.slow
def test_the_plain_pytorch_example_trains_on_two_ranks_and_submits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    script = str(ROOT / "examples" / "train_with_eval_client.py")
    arguments = ["--out", str(tmp_path), "--steps", "4", "--save-every", "2"]
    done = subprocess.run([*command, script, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    submissions, _ = read_submissions(tmp_path / "outbox")
    assert [one.step for one in submissions] == [2, 4]
    assert all((Path(one.checkpoint) / "model.safetensors").exists() for one in submissions)

"""The training step in a name, for the layouts of public trainers."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.watch.checkpoints.discovery import scan
from harness.watch.checkpoints.files import open_tree
from harness.watch.checkpoints.steps import AmbiguousNameError, step_in

NAMES = {
    # LeRobot 0.4 to 0.6, and openpi (orbax): digits alone
    "005000": 5000,
    "20000": 20_000,
    # Prismatic and OpenVLA
    "step-005000-epoch-00-loss=0.0987": 5000,
    "step-020000-epoch-03-loss=0.0121": 20_000,
    "latest-checkpoint": None,
    # OpenVLA-OFT: the run's name says everything else as well
    "openvla-7b+libero_spatial_no_noops+b32+lr-5e-4+lora-r32+dropout-0.0--image_aug--50000_chkpt": 50_000,
    "action_head--50000_checkpoint": 50_000,
    # starVLA, GR00T, Hugging Face Trainer, DeepSpeed
    "steps_10000_pytorch_model": 10_000,
    "checkpoint-10000": 10_000,
    "global_step1000": 1000,
    # Lightning
    "epoch=3-step=1200": 1200,
    "epoch=3-step=1200-v1": 1200,
    "epoch=03-val_loss=0.12": 3,
    "last": None,
    # EMA copies, number formats, suffixes
    "step_1000_ema": 1000,
    "ema_0.9999_010000": 10_000,
    "step_1000-bf16": 1000,
    "step_5k": 5000,
    "step_2.5k": 2500,
    "10k-steps": 10_000,
    "model_v2_step_300": 300,
    "pi05-fp8": None,
    "epoch-3": 3,
    # runs and shards, no checkpoints
    "2026-11-26": None,
    "20261126-093000": None,
    "09-30-00_job": None,
    "model-00001-of-00002": None,
}


@pytest.mark.parametrize(("name", "step"), NAMES.items())
def test_the_number_after_step_wins(name: str, step: int | None) -> None:
    assert step_in(name) == step


@pytest.mark.parametrize(
    ("name", "listed"),
    [("run-2-seed-3", "2, 3"), ("epoch-3-5000", "3, 5000"), ("step-1-step-2", "1, 2"), ("step_0.5", "0.5")],
)
def test_an_ambiguous_name_is_refused_with_its_numbers(name: str, listed: str) -> None:
    with pytest.raises(AmbiguousNameError, match=listed):
        step_in(name)


def weights(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")


def test_an_ambiguous_checkpoint_is_named_and_a_folder_without_weights_is_none(tmp_path: Path) -> None:
    weights(tmp_path / "seed-3-5000.pt")
    weights(tmp_path / "run-2-7" / "model.pt")
    (tmp_path / "logs-1-2").mkdir()
    found, faults = scan(open_tree(str(tmp_path)))
    assert found == []
    assert [Path(fault.place).name for fault in faults] == ["run-2-7", "seed-3-5000.pt"]


def test_the_runs_below_a_dated_folder_are_named(tmp_path: Path) -> None:
    run = tmp_path / "2026-11-26" / "09-30-00_job"
    weights(run / "checkpoints" / "005000" / "pretrained_model" / "model.bin")
    for top in (tmp_path, tmp_path / "2026-11-26"):
        found, (fault,) = scan(open_tree(str(top)))
        assert found == []
        assert str(run) in fault.reason
    assert [one.step for one in scan(open_tree(str(run)))[0]] == [5000]


def test_an_averaged_copy_beside_its_step_is_left_out_by_name(tmp_path: Path) -> None:
    for name in ("step_1000.pt", "step_1000_ema.pt", "step_2000_ema.pt"):
        weights(tmp_path / name)
    found, (fault,) = scan(open_tree(str(tmp_path)))
    assert [Path(one.place).name for one in found] == ["step_1000.pt", "step_2000_ema.pt"]
    assert fault.place.endswith("step_1000_ema.pt")
    assert "step_1000.pt is evaluated" in fault.reason

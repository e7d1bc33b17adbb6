"""Checkpoints brought to safety and back: verified, never deleted, gone on with, and what differs is said."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from harness.cli.app import invoke
from harness.errors import HarnessError
from harness.watch.checkpoints.transfer import SUMS, pull, push


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A LeRobot run: two checkpoints, and a link to the last."""
    folder = tmp_path / "run" / "checkpoints"
    for step in ("001000", "002000"):
        model = folder / step / "pretrained_model"
        model.mkdir(parents=True)
        (model / "model.safetensors").write_bytes(step.encode() * 1000)
        (model / "config.json").write_text("{}")
    (folder / "last").symlink_to("002000")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_link(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.startswith("last/")}


@pytest.mark.parametrize("uri", [False, True], ids=["path", "uri"])
def test_what_was_pushed_comes_back_equal(run: Path, tmp_path: Path, uri: bool) -> None:
    safe = tmp_path / "safe"
    place = f"file://{safe}" if uri else str(safe)
    assert len(push(str(run), place).copied) == 4
    assert "last" not in {path.name for path in safe.iterdir()}, "a link is not copied twice"
    back = tmp_path / "back"
    assert len(pull(place, str(back)).copied) == 4
    assert contents(back) == without_link(run)
    checked = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=safe, check=False)
    assert checked.returncode == 0, "the digests are in the usual format"


def test_a_second_push_adds_what_is_new_and_deletes_nothing(run: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    push(str(run), str(safe))
    for file in (run / "001000" / "pretrained_model").iterdir():
        file.unlink()
    (run / "003000").mkdir()
    (run / "003000" / "model.safetensors").write_bytes(b"new")
    result = push(str(run), str(safe))
    assert result.copied == ["003000/model.safetensors"]
    assert len(result.present) == 2
    assert len(result.only_there) == 2
    assert (safe / "001000" / "pretrained_model" / "model.safetensors").is_file()
    assert len(pull(str(safe), str(tmp_path / "back")).copied) == 5


def test_what_differs_is_said_and_left(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    safe = tmp_path / "safe"
    assert invoke(["checkpoint", "push", str(run), str(safe)]) == 0
    assert "4 files copied and verified" in capsys.readouterr().out
    weights = run / "001000" / "pretrained_model" / "model.safetensors"
    before = (safe / "001000" / "pretrained_model" / "model.safetensors").read_bytes()
    weights.write_bytes(b"trained on")
    assert invoke(["checkpoint", "push", str(run), str(safe)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "differs, left as it is" in out
    assert (safe / "001000" / "pretrained_model" / "model.safetensors").read_bytes() == before
    assert hashlib.sha256(before).hexdigest() in (safe / SUMS).read_text()
    assert invoke(["checkpoint", "pull", str(safe), str(run)]) == 1
    assert weights.read_bytes() == b"trained on"


def test_a_file_that_rotted_where_it_was_safe_is_refused(run: Path, tmp_path: Path) -> None:
    safe, back = tmp_path / "safe", tmp_path / "back"
    push(str(run), str(safe))
    (safe / "002000" / "pretrained_model" / "model.safetensors").write_bytes(b"rot")
    with pytest.raises(HarnessError, match=r"002000/pretrained_model/model\.safetensors is not what was written there"):
        pull(str(safe), str(back))
    assert not (back / "002000" / "pretrained_model" / "model.safetensors").exists()
    (safe / "001000" / "pretrained_model" / "config.json").unlink()
    with pytest.raises(HarnessError, match=r"no longer holds 001000/pretrained_model/config\.json"):
        pull(str(safe), str(back))


def test_a_push_that_was_cut_off_goes_on_within_a_file(run: Path, tmp_path: Path) -> None:
    safe = tmp_path / "safe"
    weights = run / "001000" / "pretrained_model" / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    half = safe / "001000" / "pretrained_model" / f".copy-{digest[:16]}-model.safetensors"
    half.parent.mkdir(parents=True)
    half.write_bytes(weights.read_bytes()[:1234])
    push(str(run), str(safe))
    assert without_link(run).items() <= contents(safe).items()
    assert not half.exists()


@pytest.mark.parametrize("place", ["nowhere", "run/checkpoints/001000/pretrained_model/config.json"])
def test_what_is_no_folder_is_refused(run: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(HarnessError, match=r"no checkpoint at|is a file"):
        push(str(tmp_path / place), str(tmp_path / "safe"))
    assert not (tmp_path / "safe").exists()

"""Copying a ledger: every byte verified, nothing at the destination touched, a cut-off copy goes on."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from pyarrow import fs as pafs

from harness.cli.app import invoke
from harness.errors import LedgerError, UsageError
from harness.ledger import LedgerWriter, read
from harness.ledger.copy import copy_ledger
from harness.ledger.storage import Location


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with three tables and a video."""
    writer = LedgerWriter(tmp_path / "night")
    writer.append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}", "status": "finished"}])
    for attempt in (1, 2):
        writer.append("episodes", [{"run_id": "r", "episode_key": "k", "outcome": "error", "attempt": attempt}])
    (tmp_path / "night" / "videos").mkdir()
    (tmp_path / "night" / "videos" / "0.mp4").write_bytes(os.urandom(5000))
    return tmp_path / "night"


def test_a_copy_is_equal_and_readable(ledger: Path, tmp_path: Path) -> None:
    result = copy_ledger(ledger, tmp_path / "archive" / "night")
    assert contents(tmp_path / "archive" / "night") == contents(ledger)
    assert len(result.copied) == 4
    assert result.copied[-1].startswith("runs/"), "a copy that was cut off has no runs and says so when it is read"
    assert len(read(tmp_path / "archive" / "night", all_attempts=True).episodes) == 2


def test_a_second_copy_writes_nothing_and_adds_what_is_new(ledger: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    copy_ledger(ledger, target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    LedgerWriter(ledger).append("episodes", [{"run_id": "r", "episode_key": "k2", "outcome": "error"}])
    result = copy_ledger(ledger, target)
    assert (len(result.copied), len(result.present)) == (1, 4)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_is_at_the_destination_is_never_deleted_or_overwritten(ledger: Path, tmp_path: Path) -> None:
    target = tmp_path / "there"
    (target / "videos").mkdir(parents=True)
    (target / "videos" / "0.mp4").write_bytes(b"last night's")
    (target / "notes.txt").write_text("mine")
    before = contents(target)
    result = copy_ledger(ledger, target)
    assert result.differing == ["videos/0.mp4"]
    assert result.only_there == ["notes.txt"]
    after = contents(target)
    assert {name: after[name] for name in before} == before
    assert invoke(["ledger", "copy", str(ledger), str(target)]) == 1, "a file that differs is no success"


def test_a_copy_that_was_cut_off_goes_on(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, real, kept = tmp_path / "there", os.fsync, []

    def full(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return real(descriptor)
        if kept:
            os.ftruncate(descriptor, 7)
            raise OSError(28, "No space left on device")
        kept.append(descriptor)
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(LedgerError, match="The disk is full"):
            copy_ledger(ledger, target)
    # What had been written of a file stays under a name of its own, and is gone on with.
    (half,) = target.rglob(".copy-*")
    assert half.stat().st_size == 7
    result = copy_ledger(ledger, target)
    assert (len(result.copied), len(result.present)) == (3, 1)
    assert not list(target.rglob(".copy-*"))
    assert contents(ledger).items() <= contents(target).items()


def test_a_disk_that_does_not_keep_what_it_was_given_is_found_out(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def rot(source: str, target: str) -> None:
        real(source, target)
        with open(target, "r+b") as file:
            file.write(b"?")

    monkeypatch.setattr(os, "link", rot)
    with pytest.raises(LedgerError, match="does not read back as it was written"):
        copy_ledger(ledger, tmp_path / "there")


def test_a_file_that_appears_meanwhile_is_not_replaced(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, real = tmp_path / "there", os.link

    def race(source: str, destination: str) -> None:
        Path(destination).write_bytes(b"somebody else's")
        real(source, destination)

    monkeypatch.setattr(os, "link", race)
    with pytest.raises(LedgerError, match="appeared while it was being copied"):
        copy_ledger(ledger, target)
    assert {path.read_bytes() for path in target.rglob("*") if path.is_file()} == {b"somebody else's"}


def test_a_ledger_is_copied_to_a_store_that_is_no_local_disk(ledger: Path, tmp_path: Path) -> None:
    store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    assert not Location.of("bucket/night", store).is_local
    result = copy_ledger(ledger, f"file://{tmp_path}/bucket/night")
    assert len(result.copied) == 4
    assert contents(tmp_path / "bucket" / "night") == contents(ledger)


@pytest.mark.parametrize("target", [".", "inside", ".."])
def test_a_ledger_is_not_copied_into_itself(ledger: Path, target: str) -> None:
    with pytest.raises(UsageError, match="inside one another"):
        copy_ledger(ledger, os.path.normpath(ledger / target))


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        copy_ledger(tmp_path, tmp_path.parent / "elsewhere")

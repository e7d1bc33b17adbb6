"""What is kept on disk is whole, private, bounded, and never in anybody's way."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from harness.sim.disk_cache import DiskCache, file_stamps, open_cache


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path, 1e9)


def write(text: str) -> object:
    return lambda folder: (folder / "model").write_text(text)


def text_of(cache: DiskCache, key: str) -> str | None:
    folder = cache.get(key)
    return None if folder is None else (folder / "model").read_text()


def test_what_was_kept_is_found_and_the_first_writer_wins(cache: DiskCache) -> None:
    assert cache.get("a") is None
    cache.put("a", write("one"))
    cache.put("a", write("two"))
    assert text_of(cache, "a") == "one"


@pytest.mark.parametrize("damage", ["changed", "gone", "unnoted"])
def test_a_damaged_entry_is_dropped_and_can_be_written_again(cache: DiskCache, damage: str) -> None:
    cache.put("a", write("one"))
    place = cache.folder / "a"
    if damage == "changed":
        (place / "model").write_text("onE")
    elif damage == "gone":
        (place / "model").unlink()
    else:
        (place / "digests.json").write_text("[]")
    assert cache.get("a") is None
    assert list(cache.folder.iterdir()) == []
    cache.put("a", write("two"))
    assert text_of(cache, "a") == "two"


def test_a_writer_that_fails_leaves_nothing(cache: DiskCache) -> None:
    def fail(folder: Path) -> None:
        (folder / "model").write_text("half")
        raise OSError(28, "No space left on device")

    cache.put("a", fail)
    assert list(cache.folder.iterdir()) == []
    assert cache.get("a") is None


def test_the_longest_unused_goes_when_room_is_wanted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    for age, key in ((30, "a"), (20, "b"), (10, "c")):
        cache.put(key, write(key * 200))
        os.utime(tmp_path / key, (1e9 - age, 1e9 - age))
    assert text_of(cache, "a") == "a" * 200  # and is now the latest used
    cache.put("d", write("d" * 200))
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "d"}


def _put(folder: str, number: int) -> None:
    cache = DiskCache(Path(folder), 1e9)
    for key in range(20):
        cache.put(str(key), write(str(number) * 1000))
        held = text_of(cache, str(key))
        assert held is not None
        assert len(set(held)) == 1


def test_writers_at_the_same_time_never_show_a_part(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_put, args=(str(tmp_path), number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert {path.name for path in tmp_path.iterdir()} == {str(key) for key in range(20)}


@pytest.mark.parametrize(("name", "value"), [("VLA_HARNESS_CACHE", ""), ("VLA_HARNESS_CACHE_GB", "0")])
def test_none_is_kept_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert open_cache("tasks") is None


def test_its_folder_is_the_users_alone_or_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_HARNESS_CACHE", str(tmp_path / "own"))
    cache = open_cache("tasks")
    assert cache is not None
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.folder.chmod(0o777)
    assert open_cache("tasks") is None
    cache.folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.folder.symlink_to(tmp_path / "elsewhere")
    assert open_cache("tasks") is None


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VLA_HARNESS_CACHE", str(tmp_path / "file"))
    assert open_cache("tasks") is None


def test_a_changed_file_has_another_stamp(tmp_path: Path) -> None:
    path = tmp_path / "mesh.obj"
    path.write_text("v 0 0 0")
    before = file_stamps([path, tmp_path / "absent"])
    path.write_text("v 0 0 01")
    assert file_stamps([path, tmp_path / "absent"]) != before
    assert before[0][1] == -1

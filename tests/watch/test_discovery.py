"""Finding checkpoints: whole ones are found once; whatever else training leaves behind is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from checkpoints import point_last, safetensors, write_checkpoint
from harness.watch.checkpoints.discovery import CheckpointCandidate, digest_place, inspect, is_settled, scan
from harness.watch.checkpoints.files import ArrowTree, File, LocalTree, local_copy, open_tree
from harness.watch.checkpoints.weights import BrokenCheckpointError


def steps(root: Path) -> list[int]:
    return [one.step for one in scan(open_tree(str(root)))[0]]


def test_lerobots_folders_are_found_and_its_last_link_is_no_checkpoint_of_its_own(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1000)
    newest = write_checkpoint(tmp_path, 2000)
    point_last(tmp_path, 2000)
    found, faults = scan(open_tree(str(tmp_path)))
    assert faults == []
    assert [(one.step, one.place) for one in found][-1] == (2000, str(newest))
    assert [one.step for one in found] == [1000, 2000]
    assert steps(tmp_path / "checkpoints") == [1000, 2000], "the folder of checkpoints itself may be watched as well"


def test_plain_pytorch_names_are_found_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "epoch-3").mkdir()
    (tmp_path / "epoch-3" / "model.safetensors").write_bytes(safetensors(1.0))
    (tmp_path / "step_400.pt").write_bytes(b"weights")
    (tmp_path / "events.out.tfevents.123").write_bytes(b"log")
    (tmp_path / "wandb").mkdir()
    (tmp_path / ".step_500.pt.tmp").write_bytes(b"half")
    found, faults = scan(open_tree(str(tmp_path)))
    assert faults == []
    assert [(one.step, Path(one.place).name) for one in found] == [(3, "epoch-3"), (400, "step_400.pt")]


@pytest.mark.parametrize("name", ["loop", "gone"])
def test_links_that_lead_nowhere_are_named(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path, 1000)
    link = tmp_path / "checkpoints" / "002000"
    link.symlink_to(link if name == "loop" else tmp_path / "nowhere")
    found, faults = scan(open_tree(str(tmp_path)))
    assert [one.step for one in found] == [1000]
    expected = {
        "loop": "is a symbolic link that leads to itself",
        "gone": "is a symbolic link to something that is gone",
    }
    assert [(fault.place, fault.reason) for fault in faults] == [(str(link), expected[name])]


def test_a_last_link_that_leads_to_itself_hides_no_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1000)
    last = tmp_path / "checkpoints" / "last"
    last.symlink_to("last")
    found, faults = scan(open_tree(str(tmp_path)))
    assert [one.step for one in found] == [1000]
    assert "leads to itself" in faults[0].reason


def test_a_folder_linked_into_itself_is_not_walked_for_ever(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 1000)
    (model / "again").symlink_to(model)
    found, _ = scan(open_tree(str(tmp_path)))
    assert {file.path for file in found[0].files} == {"config.json", "model.safetensors"}


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, 1000)
    write_checkpoint(tmp_path, 2000)
    real = os.scandir

    def refuse(path: str | Path) -> object:
        if "002000" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, faults = scan(open_tree(str(tmp_path)))
    assert [one.step for one in found] == [1000]
    assert "Permission denied" in faults[0].reason

    monkeypatch.setattr(os, "scandir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert [fault.place for fault in scan(open_tree(str(tmp_path)))[1]] == [str(tmp_path)]


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert scan(open_tree(str(tmp_path / "later"))) == ([], [])


def test_a_store_behind_a_uri_is_scanned_and_downloaded_like_a_disk(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run", 1000, 0.5)
    tree = open_tree(f"file://{tmp_path}/run")
    assert isinstance(tree, ArrowTree)
    (candidate,), faults = scan(tree)
    assert faults == []
    assert candidate.place == f"file://{tmp_path}/run/checkpoints/001000/pretrained_model"
    (local,), _ = scan(open_tree(str(tmp_path / "run")))
    assert inspect(tree, candidate) == inspect(LocalTree(tmp_path / "run"), local)
    with local_copy(candidate.place, tmp_path / "scratch") as copy:
        assert (Path(copy) / "model.safetensors").read_bytes() == safetensors(0.5)
    assert list((tmp_path / "scratch").iterdir()) == [], "a download is removed again"
    assert (tmp_path / "run" / "checkpoints" / "001000" / "pretrained_model" / "model.safetensors").exists()


# -- complete or not ---------------------------------------------------------------------------------------------------


def candidate(**changes) -> CheckpointCandidate:
    files = (File("model.safetensors", 10, int(1000e9)),)
    return CheckpointCandidate(**{"path": "c", "place": "/c", "step": 1, "files": files, **changes})


def settled(
    one: CheckpointCandidate, *, marker: str | None = None, now_s: float = 1001.0, unchanged_s: float = 0.0
) -> bool:
    return is_settled(one, marker=marker, now_s=now_s, unchanged_s=unchanged_s, quiet_s=30.0)


def test_a_checkpoint_is_left_alone_until_nothing_has_changed_for_the_quiet_period() -> None:
    assert not settled(candidate())
    assert settled(candidate(), unchanged_s=30.0), "seen unchanged, whatever the clock of the disk says"
    assert settled(candidate(), now_s=1030.0), "written long ago, before the watcher began"
    assert not settled(candidate(files=()), now_s=9999.0), "nothing is in it yet"


def test_the_last_link_ends_the_wait_unless_files_are_newer_than_it() -> None:
    assert settled(candidate(finished_ns=int(1000.5e9)))
    assert not settled(candidate(finished_ns=int(999e9))), "an overwritten checkpoint is not complete by an old link"


def test_only_the_marker_counts_where_one_was_asked_for(tmp_path: Path) -> None:
    assert not settled(candidate(), marker="DONE", now_s=9999.0)
    assert settled(candidate(marked=True), marker="DONE")
    model = write_checkpoint(tmp_path, 1000)
    before = inspect(open_tree(str(tmp_path)), scan(open_tree(str(tmp_path)), "DONE")[0][0])
    (model.parent / "DONE").touch()
    (model / "DONE").touch()
    (marked,) = scan(open_tree(str(tmp_path)), "DONE")[0]
    assert marked.marked
    assert inspect(open_tree(str(tmp_path)), marked) == before, "the marker is no part of the contents"


# -- whole or not ------------------------------------------------------------------------------------------------------


def test_equal_contents_have_equal_digests_whatever_their_times_and_names_of_folders(tmp_path: Path) -> None:
    one = write_checkpoint(tmp_path / "a", 1000, 0.5)
    same = write_checkpoint(tmp_path / "b", 2000, 0.5, written_s=1e9)
    other = write_checkpoint(tmp_path / "c", 1000, 0.6)
    assert digest_place(str(one))[0] == digest_place(str(same))[0] != digest_place(str(other))[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "is truncated: 1,102 of 1,103 bytes"),
        (lambda raw: raw[:20], "is truncated"),
        (lambda raw: raw[:4], "is truncated: 4 bytes"),
        (lambda raw: b"", "is truncated: 0 bytes"),
        (lambda raw: raw[:8] + b"?" + raw[9:], "has a damaged header"),
        (lambda raw: b"\xff" * 64, "is no safetensors file"),
    ],
)
def test_a_truncated_or_damaged_file_is_named(tmp_path: Path, damage, message: str) -> None:
    model = write_checkpoint(tmp_path, 1000)
    (model / "model.safetensors").write_bytes(damage(safetensors(1.0)))
    with pytest.raises(BrokenCheckpointError, match=rf"model\.safetensors {message}"):
        digest_place(str(model))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 1000)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenCheckpointError, match=r"1 of 2 shards are missing, the first: model-00001-of-00002"):
        digest_place(str(model))


def test_a_folder_without_weights_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "1000").mkdir()
    (tmp_path / "1000" / "notes.txt").write_text("soon")
    with pytest.raises(BrokenCheckpointError, match="has no weights"):
        digest_place(str(tmp_path / "1000"))


def test_a_large_file_is_sampled_in_every_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.watch.checkpoints.weights.WHOLE_BYTES", 100)
    model = write_checkpoint(tmp_path, 1000, 0.5)
    before = digest_place(str(model))[0]
    (model / "model.safetensors").write_bytes(safetensors(0.5001))
    assert digest_place(str(model))[0] != before
    (model / "model.pt").write_bytes(b"x" * 10_000)
    before = digest_place(str(model))[0]
    (model / "model.pt").write_bytes(b"x" * 9_999 + b"y")
    assert digest_place(str(model))[0] != before

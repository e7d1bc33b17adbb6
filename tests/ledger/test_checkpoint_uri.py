"""Policies whose weights lie where ledgers may lie: on an object store, by URI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from harness.errors import PolicyError
from harness.policies import uri
from harness.policies.registry import POLICIES, make_policy
from harness.policies.uri import FOLDER, fetch
from harness.spec.policy import parse_policy
from harness.surroundings import hub_cache

WEIGHTS = Path(__file__).parents[2] / "checkpoints" / "flow" / "student"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def upload(place: str) -> str:
    """Put the shipped student there."""
    store, root = pafs.FileSystem.from_uri(place)
    store.create_dir(root)
    pafs.copy_files(str(WEIGHTS), root, source_filesystem=pafs.LocalFileSystem(), destination_filesystem=store)
    return place


@pytest.mark.parametrize(
    "text", ["flow:s3://bucket/night/teacher", "flow:s3://b/t?dtype=bfloat16", "lerobot:gs://b/pi05"]
)
def test_a_uri_is_the_path_of_its_kind(text: str) -> None:
    spec = parse_policy(text)
    assert spec.kind in ("flow", "lerobot")
    assert (spec.path or "").partition("://")[0] in ("s3", "gs")
    assert spec.text == text


def test_an_address_is_still_an_address() -> None:
    assert parse_policy("openpi://127.0.0.1:8000").path == "127.0.0.1:8000"
    assert parse_policy("wss://robot/policy").path == "wss://robot/policy"


def test_a_policy_from_s3_is_that_from_the_folder_and_is_named_by_its_uri(bucket: str) -> None:
    pytest.importorskip("torch")
    place = upload(f"{bucket}/student")
    spec = parse_policy(f"flow:{place}?device=cpu")
    POLICIES.check(spec)
    there, here = make_policy(spec), make_policy(parse_policy(f"flow:{WEIGHTS}?device=cpu"))
    assert there.info.checkpoint == place
    assert there.info.checkpoint_sha256 == here.info.checkpoint_sha256
    assert str(hub_cache(os.environ)) not in there.info.policy_id
    assert there.info.stated_identity == here.info.stated_identity


def test_it_is_fetched_once_and_again_when_it_has_changed_there(tmp_path: Path) -> None:
    source = tmp_path / "store"
    shutil.copytree(WEIGHTS, source)
    first = fetch(f"file://{source}")
    marks = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    assert fetch(f"file://{source}") == first
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == marks
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    assert fetch(f"file://{source}") != first
    assert [name for name in os.listdir(first.parent) if name.startswith("partial")] == []


def test_what_is_not_there_is_empty_or_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError, match="file:///nowhere/at/all cannot be read"):
        fetch("file:///nowhere/at/all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PolicyError, match="holds no file"):
        fetch(f"file://{tmp_path}/empty")
    monkeypatch.setenv("VLA_HARNESS_CHECKPOINT_GB", "0.001")
    with pytest.raises(PolicyError, match=r"GB; at most 0.001 GB are fetched. Raise VLA_HARNESS_CHECKPOINT_GB"):
        fetch(f"file://{WEIGHTS}")


def test_a_copy_that_is_cut_off_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Path, *arguments: object, **options: object) -> object:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "open", cut)
    with pytest.raises(PolicyError, match="No space left on device"):
        fetch(f"file://{WEIGHTS}")
    assert list((tmp_path / "hub" / FOLDER).iterdir()) == []


@pytest.mark.parametrize("path", ["bucket/..", "bucket/a\\..\\b", ""])
def test_a_file_whose_name_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(PolicyError, match="no name of a file"):
        uri._name("s3://bucket", path)

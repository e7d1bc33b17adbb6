"""Videos lie in the ledger, on whatever file system that is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
import pyarrow.fs as pafs
import pytest
from stub_runs import make_unit

from harness.cluster import film as filming
from harness.errors import LedgerError
from harness.ledger.storage import Location
from harness.schedule.result import EpisodeResult

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("remote", [False, True])
def test_a_video_is_in_the_ledger_whole(tmp_path, monkeypatch, remote):
    frames = [np.full((64, 64, 3), shade, np.uint8) for shade in (0, 100, 200)]
    monkeypatch.setattr(filming, "replay_frames", lambda *arguments: iter(frames))
    result = EpisodeResult(make_unit(0, 0, "p", None), "timeout", datetime(2026, 1, 1, tzinfo=UTC))
    store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()) if remote else None
    ledger = Location.of("bucket/run", store) if remote else Location.of(tmp_path / "bucket/run")
    assert ledger.is_local is not remote
    (tmp_path / "bucket" / "run").mkdir(parents=True)
    path = filming.film(None, result, [], ledger, ("agentview",))
    assert b"ftyp" in (tmp_path / "bucket" / "run" / path).read_bytes()[:16]
    assert [file.name for file in (tmp_path / "bucket" / "run" / path).parent.iterdir()] == [path.rpartition("/")[2]]


def test_a_video_into_a_ledger_that_was_removed_does_not_begin_another(tmp_path, monkeypatch):
    monkeypatch.setattr(filming, "replay_frames", lambda *arguments: iter([]))
    result = EpisodeResult(make_unit(0, 0, "p", None), "timeout", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(LedgerError, match="was removed"):
        filming.film(None, result, [], Location.of(tmp_path / "led"), ("agentview",))
    assert not (tmp_path / "led").exists()


def test_a_video_of_a_node_without_the_ledgers_file_system_is_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(filming, "replay_frames", lambda *arguments: iter([np.zeros((64, 64, 3), np.uint8)] * 2))
    result = EpisodeResult(make_unit(0, 0, "p", None), "timeout", datetime(2026, 1, 1, tzinfo=UTC))
    sent = {}
    path = filming.film(None, result, [], Location.of(tmp_path / "led"), ("agentview",), send=sent.__setitem__)
    assert list(sent) == [path]
    assert b"ftyp" in sent[path][:16]
    assert not (tmp_path / "led").exists()


@pytest.mark.parametrize(
    "policy", ["../../etc/passwd", "/etc/passwd", "..", ".", "a/../../b", "\x00", "..\\..", "a" * 300]
)
def test_no_policys_name_leads_a_video_out_of_its_folder(policy):
    path = PurePosixPath(filming.video_path(EpisodeResult(make_unit(0, 0, policy, None), "timeout", START)))
    assert path.parts[0] == "videos"
    assert len(path.parts) == 3
    assert not {"..", "."} & set(path.parts)
    assert not path.is_absolute()
    assert all(len(part) <= 255 for part in path.parts)


@pytest.mark.parametrize("suite", ["../../../etc", "/etc", "a/b", ".."])
def test_no_suites_name_leads_a_video_out_of_its_folder(suite):
    unit = replace(make_unit(0, 0, "p", None), suite=suite)
    path = PurePosixPath(filming.video_path(EpisodeResult(unit, "timeout", START)))
    assert path.parts[:2] == ("videos", "p")
    assert len(path.parts) == 3

"""Videos lie in the ledger, on whatever file system that is."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow.fs as pafs
import pytest
from stub_runs import make_unit

from harness.cluster import film as filming
from harness.ledger.storage import Location
from harness.schedule.result import EpisodeResult


@pytest.mark.parametrize("remote", [False, True])
def test_a_video_is_in_the_ledger_whole(tmp_path, monkeypatch, remote):
    frames = [np.full((64, 64, 3), shade, np.uint8) for shade in (0, 100, 200)]
    monkeypatch.setattr(filming, "replay_frames", lambda *arguments: iter(frames))
    result = EpisodeResult(make_unit(0, 0, "p", None), "timeout", datetime(2026, 1, 1, tzinfo=UTC))
    store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()) if remote else None
    ledger = Location.of("bucket/run", store) if remote else Location.of(tmp_path / "bucket/run")
    assert ledger.is_local is not remote
    path = filming.film(None, result, [], ledger, ("agentview",))
    assert b"ftyp" in (tmp_path / "bucket" / "run" / path).read_bytes()[:16]
    assert [file.name for file in (tmp_path / "bucket" / "run" / path).parent.iterdir()] == [path.rpartition("/")[2]]

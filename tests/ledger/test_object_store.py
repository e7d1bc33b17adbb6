"""Ledgers in a bucket: a real server that speaks S3, uploads cut off in every way, and stores that do not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from harness.cli.app import invoke
from harness.errors import LedgerError, PolicyError, UsageError
from harness.ledger import LedgerWriter, read
from harness.ledger.copy import copy_ledger
from harness.ledger.storage import Location
from harness.object_store import ELSEWHERE, GCS_PATIENCE_S
from harness.policies.uri import fetch

BLOCK = b"x" * 6 * 2**20
"""More than the 5 MiB from which an upload has parts."""


def write(out: str | Path, *keys: str) -> None:
    writer = LedgerWriter(out)
    writer.append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}", "status": "finished"}])
    for key in keys:
        row = {"run_id": "r", "episode_key": key, "suite": "s", "task_id": 0, "policy_id": "p", "outcome": "success"}
        writer.append("episodes", [row | {"success": True}])


def objects(uri: str) -> dict[str, int]:
    """Every object of a bucket, and its size."""
    location = Location.of(uri)
    infos = location.filesystem.get_file_info(pafs.FileSelector(location.root, recursive=True))
    return {info.path.removeprefix(f"{location.root}/"): info.size for info in infos if info.is_file}


def test_a_ledger_in_a_bucket_is_written_read_and_reported(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"{bucket}/night", "a", "b")
    write(f"{bucket}/night", "c")
    assert sorted(read(f"{bucket}/night").episodes["episode_key"]) == ["a", "b", "c"]
    assert invoke(["report", f"{bucket}/night"]) == 0
    assert "3/3" in capsys.readouterr().out
    assert all(
        name.startswith(("night/runs/part-", "night/episodes/part-", "night/summary")) for name in objects(bucket)
    )


def test_a_claim_of_a_bucket_proves_that_it_can_be_written_and_leaves_nothing(bucket: str) -> None:
    LedgerWriter(f"{bucket}/new").claim("name: s", "{}", "0" * 64)
    assert objects(bucket) == {}
    LedgerWriter(f"{bucket}/new").append("runs", [{"run_id": "r", "suite": "name: s", "protocol_sha256": "0" * 64}])
    with pytest.raises(UsageError, match="--resume"):
        LedgerWriter(f"{bucket}/new").claim("name: s", "{}", "0" * 64)
    LedgerWriter(f"{bucket}/new").claim("name: s", "{}", "0" * 64, resume=True)


def test_a_bucket_that_is_not_there_is_refused_by_name(bucket: str) -> None:
    with pytest.raises(LedgerError, match=r"s3://nobody-has-this/night"):
        LedgerWriter("s3://nobody-has-this/night").append("episodes", [{"episode_key": "k", "outcome": "error"}])


def test_an_upload_whose_source_fails_is_not_there_afterwards(bucket: str) -> None:
    """A stream of pyarrow that is closed after half of its bytes is a whole object of half of the bytes."""

    def blocks() -> Iterator[bytes]:
        yield BLOCK
        yield BLOCK
        raise KeyboardInterrupt

    location = Location.of(f"{bucket}/night")
    with pytest.raises(KeyboardInterrupt):
        location.write_blocks(f"{location.root}/videos/0.mp4", blocks())
    assert objects(bucket) == {}


def test_an_upload_that_is_killed_is_not_there_and_the_copy_goes_on(bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "night", "a", "b")
    (tmp_path / "night" / "videos").mkdir()
    (tmp_path / "night" / "videos" / "0.mp4").write_bytes(os.urandom(2 * len(BLOCK)))
    script = f"""
import os, sys
from harness.ledger import copy
real, seen = copy._opened, []
class Slow:
    def __init__(self, stream): self.stream = stream
    def read(self, n):
        seen.append(n)
        if len(seen) == 3:
            print("half", flush=True)
            sys.stdin.read()
        return self.stream.read(n)
from contextlib import contextmanager
@contextmanager
def opened(location, name):
    with real(location, name) as stream:
        yield Slow(stream) if name.endswith("mp4") and sys._getframe(2).f_code.co_name == "_copy" else stream
copy._opened = opened
copy.copy_ledger({str(tmp_path / "night")!r}, {bucket + "/night"!r})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = objects(bucket)
    assert "night/videos/0.mp4" not in held
    assert len(held) == 2, "the episodes, which come before it; runs come last"
    again = copy_ledger(tmp_path / "night", f"{bucket}/night")
    assert (len(again.copied), len(again.present), again.differing) == (2, 2, [])
    once_more = copy_ledger(tmp_path / "night", f"{bucket}/night")
    assert (len(once_more.copied), len(once_more.present), once_more.differing) == (0, 4, [])
    back = copy_ledger(f"{bucket}/night", tmp_path / "back")
    assert back.sha256 == again.sha256


@pytest.mark.parametrize(
    "uri",
    [
        "gs://anonymous@bucket/night?endpoint_override=127.0.0.1:9&scheme=http",
        "s3://key:secret@bucket/night?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1",
    ],
)
@pytest.mark.timeout(120)
def test_a_store_that_does_not_answer_is_told_of_while_somebody_waits(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's client tries for 15 minutes if it is let."""
    monkeypatch.setattr("harness.object_store.GCS_PATIENCE_S", 2)
    with pytest.raises(LedgerError, match="Cannot look at the ledger"):
        read(uri)


def test_without_a_network_google_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client would look for credentials first, and have its patience for each request: half a minute."""

    def refuse(place: tuple[str, int], timeout: float) -> None:
        raise socket.gaierror(-2, f"Name or service not known: {place[0]}")

    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(LedgerError, match=r"storage\.googleapis\.com:443 does not answer: Name or service not known"):
        read("gs://bucket/night")
    with pytest.raises(PolicyError, match=r"storage\.googleapis\.com:443 does not answer: Name or service not known"):
        fetch("gs://bucket/teacher", os.environ)


def test_how_long_google_is_tried_is_what_a_uri_says() -> None:
    def tried_s(uri: str) -> float:
        _, (settings,) = Location.of(uri).filesystem.__reduce__()
        return float(settings["retry_time_limit"].total_seconds())

    assert tried_s("gs://anonymous@bucket/night?retry_limit_seconds=77") == 77
    assert tried_s("gs://anonymous@bucket/night") == GCS_PATIENCE_S

"""The client in a training loop: files in, files out, quickly, and never an exception."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import harness
from harness.watch.training.client import EvalClient
from harness.watch.training.outbox import SUBMISSIONS, read_submissions, write_json


def test_a_submission_is_a_file_that_a_later_process_reads(tmp_path: Path) -> None:
    client = harness.EvalClient(tmp_path / "outbox", now_s=lambda: 1_700_000_000.25)
    assert client.submit(tmp_path / "checkpoints" / "000100" / "pretrained_model", 100)
    assert client.submit("s3://bucket/000200", 200)
    found, faults = read_submissions(tmp_path / "outbox")
    assert faults == []
    assert {(one.step, one.checkpoint, one.submitted_at) for one in found} == {
        (100, str(tmp_path / "checkpoints" / "000100" / "pretrained_model"), 1_700_000_000.25),
        (200, "s3://bucket/000200", 1_700_000_000.25),
    }


def test_submitting_takes_a_fraction_of_50_ms_though_nobody_listens(tmp_path: Path) -> None:
    client = EvalClient(tmp_path)
    took = []
    for step in range(100):
        began = time.perf_counter()
        assert client.submit(tmp_path / "model", step)
        took.append(time.perf_counter() - began)
    assert sorted(took)[50] < 0.02
    assert len(read_submissions(tmp_path)[0]) == 100


def test_a_disk_that_hangs_holds_training_up_for_less_than_50_ms_and_the_submission_still_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = threading.Event()
    real = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda *args, **options: (free.wait(30), real(*args, **options)))
    client = EvalClient(tmp_path / "outbox")
    began = time.perf_counter()
    assert not client.submit(tmp_path / "model", 1)
    assert time.perf_counter() - began < 0.2, "40 ms and the scheduling of a busy machine"
    assert "training goes on" in caplog.text
    free.set()
    client.close()
    assert [one.step for one in read_submissions(tmp_path / "outbox")[0]] == [1]


@pytest.mark.parametrize("step", [-1, 1.5, "soon", None])
def test_nonsense_never_raises_into_training(tmp_path: Path, step: object, caplog: pytest.LogCaptureFixture) -> None:
    client = EvalClient(tmp_path)
    for _ in range(3):
        assert not client.submit(tmp_path, step)  # type: ignore[arg-type]
    assert len(caplog.records) == 1, "said once, not at every checkpoint"


def test_an_outbox_that_cannot_be_written_is_said_once_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    client = EvalClient(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "harness.watch"):
        assert not client.submit("model", 1)
        assert not client.submit("model", 2)
    assert client.poll() == []
    assert client.best() is None
    assert [record.levelname for record in caplog.records if "submit" in record.message] == ["WARNING"]


def test_a_full_disk_leaves_no_half_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert not EvalClient(tmp_path).submit("model", 1)
    assert list((tmp_path / SUBMISSIONS).iterdir()) == []


def test_results_are_told_once_and_the_best_always(tmp_path: Path) -> None:
    client = EvalClient(tmp_path)
    assert client.poll() == []
    first, second = {"name": "step-1", "step": 1, "rate": 0.5}, {"name": "step-2", "step": 2, "rate": 0.75}
    write_json(tmp_path / "results.json", {"results": [first], "best": first})
    assert client.poll() == [first]
    write_json(tmp_path / "results.json", {"results": [first, second], "best": second})
    assert client.poll() == [second]
    assert client.poll() == []
    assert client.best() == second


def test_damaged_results_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[1, 2")
    client = EvalClient(tmp_path)
    assert (client.poll(), client.best()) == ([], None)


def test_a_file_that_is_no_submission_is_named_and_hides_no_other(tmp_path: Path) -> None:
    EvalClient(tmp_path).submit("model", 1)
    (tmp_path / SUBMISSIONS / "zzz.json").write_text(json.dumps({"format_version": 9}))
    found, faults = read_submissions(tmp_path)
    assert [one.step for one in found] == [1]
    assert "zzz.json" in faults[0][0]


def test_the_client_imports_nothing_heavy() -> None:
    script = (
        "import harness, sys; harness.EvalClient('nowhere')\n"
        "print([name for name in ('ray', 'torch', 'pandas', 'pyarrow', 'numpy', 'pydantic', 'yaml') "
        "if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert child.stdout.strip() == "[]"

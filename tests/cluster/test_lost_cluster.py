"""The cluster itself is lost: the run says so, names the command that goes on, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import harness
from harness.cluster.ray_session import Head
from harness.errors import NodeError

SUITE = """
name: long
description: A stub suite that goes on for a while.
world: stub
protocol: stub
tasks: [{suite: stub, trials: 60}]
policies: [noop]
"""


def test_a_head_that_does_not_answer_three_times_is_lost():
    now = [0.0]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        head = Head(f"127.0.0.1:{listener.getsockname()[1]}", lambda: now[0])
        for now[0] in (1.0, 2.0):
            head.require()
    for now[0] in (3.0, 3.5, 4.0):  # The second is too soon to look again.
        head.require()
    now[0] = 5.0
    with pytest.raises(NodeError, match=r"its GCS at 127.0.0.1:\d+\) no longer answers: Connection refused"):
        head.require()


def test_a_head_whose_address_is_unknown_is_not_watched():
    Head("", lambda: 100.0).require()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_what_is_finished_stays_and_the_command_that_goes_on_is_named(tmp_path: Path, victim: str) -> None:
    (tmp_path / "long.yaml").write_text(SUITE)
    command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "long.yaml", "--out", "led"]
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("led/episodes/*.parquet")):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    own = psutil.Process(run.pid).children(recursive=True)
    named = {}
    for process in own:
        with contextlib.suppress(psutil.Error):
            named[process.name()] = process
    os.kill(named[victim].pid, signal.SIGKILL)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 3
    assert "Traceback" not in told
    assert "harness run long.yaml --out led --resume" in told
    assert len(harness.read(tmp_path / "led").episodes) > 0
    time.sleep(10)
    assert [process for process in own if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []

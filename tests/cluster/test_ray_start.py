"""Why a Ray of one's own does not start, named before and after, without Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from harness.cluster import ray_start
from harness.cluster.ray_session import open_session
from harness.cluster.ray_start import Reply, explain_join, explain_start, joining_token, private_token
from harness.errors import NodeError, UsageError
from harness.surroundings import long_path_fault, ray_directory, shared_memory_fault

USAGE = namedtuple("usage", "total used free")


def test_the_temporary_directory_is_the_one_that_ray_follows():
    assert ray_directory({"RAY_TMPDIR": "/a", "TMPDIR": "/b"}) == Path("/a")
    assert ray_directory({"TMPDIR": "/b"}) == Path("/b")
    assert ray_directory({}) == Path("/tmp")


@pytest.mark.parametrize("length", [39, 40])
def test_a_run_refuses_the_paths_that_the_doctor_refuses(length, monkeypatch):
    """One bound, whatever this process's id is, and before Ray starts."""
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (length - 1))
    fault = long_path_fault(os.environ)
    assert (fault is None) == (length == 39)
    if fault is not None:
        with pytest.raises(NodeError) as refused, open_session(None):
            pass
        assert str(refused.value) == f"{fault}."
        assert "set RAY_TMPDIR to a path of at most 39 characters" in fault


def test_little_shared_memory_is_named_as_such(monkeypatch, tmp_path):
    free = {"/dev/shm": 64 * 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, free.get(str(path), 10**12)))
    told = explain_start("plasma store died", {"TMPDIR": "/tmp"})
    assert told == f"{shared_memory_fault()}.", "as the doctor says it"
    assert "/dev/shm has 64 MiB free" in told
    assert "--shm-size" in told
    assert "memory is free" not in told


def test_a_full_temporary_directory_is_named_as_such(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, 10**7))
    assert "Only 10 MB are free in the temporary directory '/tmp'" in explain_start("died", {})


def test_a_slow_start_is_blamed_on_load_and_not_on_memory(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (21.7, 9.0, 9.0))
    monkeypatch.setattr(ray_start, "space_fault", lambda *_: None)
    told = explain_start("The current node timed out during startup", {})
    assert "load of this machine is 21.7" in told
    assert "RAY_raylet_start_wait_time_s" in told


def test_without_a_writable_home_a_private_cluster_gets_a_token_of_its_own(monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    assert len(private_token({})["RAY_AUTH_TOKEN"]) == 64
    assert private_token({"RAY_AUTH_MODE": "disabled"}) == {}


def test_a_client_s_address_is_sent_to_the_cluster_s_own():
    with (
        pytest.raises(UsageError, match=r"'ray://h:10001' is Ray Client's.*head node's own, as h:6379"),
        open_session("ray://h:10001"),
    ):
        pass


def answering(replies: dict[str, str]):
    """A cluster that answers by the mode that it is asked in."""
    return lambda environ, address: Reply(replies.get(environ["RAY_AUTH_MODE"], "refused"))


def test_a_cluster_is_brought_the_token_that_it_wants_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(ray_start, "ask", answering({"disabled": "let in"}))
    assert joining_token({}, "h:1") == {}
    monkeypatch.setattr(ray_start, "ask", answering({}))
    with pytest.raises(NodeError, match=r"'h:1' wants a token, and this driver has none\. Copy the head node's ~/.ray"):
        joining_token({}, "h:1")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    with pytest.raises(NodeError, match=r"the one in ~/.ray/auth_token here is not its own"):
        joining_token({}, "h:1")
    with pytest.raises(NodeError, match=r"the one in RAY_AUTH_TOKEN here is not its own"):
        joining_token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "other"}, "h:1")
    with pytest.raises(NodeError, match=r"RAY_AUTH_MODE=disabled keeps the one in ~/.ray/auth_token back\. Unset it"):
        joining_token({"RAY_AUTH_MODE": "disabled"}, "h:1")
    monkeypatch.setattr(ray_start, "ask", answering({"token": "let in"}))
    assert joining_token({}, "h:1") == {"RAY_AUTH_MODE": "token"}
    assert joining_token({"RAY_AUTH_MODE": "token"}, "h:1") == {}
    monkeypatch.setattr(ray_start, "ask", answering({"disabled": "silent"}))
    assert joining_token({}, "h:1") == {}
    assert explain_join("connection refused", "h:1") is None


SUITE = """
name: one
description: A stub suite of two episodes.
world: stub
protocol: stub
tasks: [{suite: stub, tasks: [0], init_states: 2}]
policies: [noop]
"""


@pytest.mark.slow
def test_a_real_cluster_lets_in_who_brings_its_token_and_the_others_are_told_at_once(tmp_path):
    """`ray start --head` where a token lies, as the documentation says it, and three drivers."""
    for name, token in (("head", "a" * 64), ("other", "b" * 64), ("none", None)):
        (tmp_path / name / ".ray").mkdir(parents=True)
        (tmp_path / name / "one.yaml").write_text(SUITE)
        if token:
            (tmp_path / name / ".ray" / "auth_token").write_text(token)
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ra", dir="/tmp") as short:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        variables = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
        variables |= {"RAY_TMPDIR": short, "RAY_raylet_start_wait_time_s": "240"}

        def command(home, *words):
            return {
                "args": [sys.executable, *words],
                "cwd": tmp_path / home,
                "env": {**variables, "HOME": str(tmp_path / home)},
            }

        def run(home):
            words = (
                "-c",
                "from harness.cli import main; main()",
                "run",
                "one.yaml",
                "--out",
                "led",
                "--address",
                address,
            )
            return subprocess.run(**command(home, *words), capture_output=True, text=True, timeout=200, check=False)

        start = ["-m", "ray.scripts.scripts", "start", "--head", "--port", address.rpartition(":")[2], "--num-cpus=1"]
        start += ["--disable-usage-stats", "--include-dashboard=false", "--block"]
        with (tmp_path / "head.log").open("w") as log:
            head = subprocess.Popen(**command("head", *start), stdout=log, stderr=log)
        try:
            until = time.monotonic() + 240
            while "Ray runtime started" not in (tmp_path / "head.log").read_text():
                assert head.poll() is None
                assert time.monotonic() < until
                time.sleep(0.5)
            done = run("head")
            assert done.returncode == 0, done.stderr
            for home, told in (("other", "~/.ray/auth_token here is not its own"), ("none", "this driver has none")):
                done = run(home)
                assert done.returncode == 3
                assert told in done.stderr
                assert "InvalidAuthToken" not in done.stderr
        finally:
            own = psutil.Process(head.pid)
            for process in (*own.children(recursive=True), own):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            head.wait()

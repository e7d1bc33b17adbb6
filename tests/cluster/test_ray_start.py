"""Why a Ray of one's own does not start, named before and after, without Ray."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from harness.cluster import ray_start
from harness.cluster.ray_session import open_session
from harness.cluster.ray_start import explain_join, explain_start, joining_token, private_token, socket_fault, temp_dir
from harness.errors import NodeError

USAGE = namedtuple("usage", "total used free")


def test_the_temporary_directory_is_the_one_that_ray_follows():
    assert temp_dir({"RAY_TMPDIR": "/a", "TMPDIR": "/b"}) == "/a"
    assert temp_dir({"TMPDIR": "/b"}) == "/b"
    assert temp_dir({}) == "/tmp"


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_path_too_long_for_sockets_is_named_with_the_remedy(name):
    fault = socket_fault({name: "/" + "x" * 83})
    assert f"{name} is '/xxx" in fault
    assert "Set RAY_TMPDIR to a shorter path" in fault
    assert socket_fault({name: "/tmp"}) is None


def test_a_long_path_is_refused_before_ray_starts(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 83)
    with pytest.raises(NodeError, match="Set RAY_TMPDIR to a shorter path"), open_session(None):
        pass


def test_little_shared_memory_is_named_as_such(monkeypatch, tmp_path):
    free = {"/dev/shm": 64 * 10**6}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, free.get(str(path), 10**12)))
    told = explain_start("plasma store died", {"TMPDIR": "/tmp"}, 256 * 2**20)
    assert "Only 64 MB are free in /dev/shm" in told
    assert "--shm-size" in told
    assert "memory is free" not in told


def test_a_full_temporary_directory_is_named_as_such(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, 10**7))
    assert "Only 10 MB are free in the temporary directory '/tmp'" in explain_start("died", {}, 0)


def test_a_slow_start_is_blamed_on_load_and_not_on_memory(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (21.7, 9.0, 9.0))
    monkeypatch.setattr(ray_start, "space_fault", lambda *_: None)
    told = explain_start("The current node timed out during startup", {}, 0)
    assert "load of this machine is 21.7" in told
    assert "RAY_raylet_start_wait_time_s" in told


def test_without_a_writable_home_a_private_cluster_gets_a_token_of_its_own(monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    assert len(private_token({})["RAY_AUTH_TOKEN"]) == 64
    assert private_token({"RAY_AUTH_MODE": "disabled"}) == {}


def test_a_token_that_is_there_is_used_for_joining_and_a_missing_one_named(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert joining_token({}) == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert joining_token({}) == {"RAY_AUTH_MODE": "token"}
    assert joining_token({"RAY_AUTH_MODE": "disabled"}) == {}
    assert "~/.ray/auth_token" in explain_join("InvalidAuthToken", "h:1")
    assert explain_join("connection refused", "h:1") is None

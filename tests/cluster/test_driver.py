"""Drivers that are killed, interrupted, or join a cluster that others started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from drive_stub import SLOW

import harness
from harness.ledger import read

DRIVER = Path(__file__).with_name("drive_stub.py")
PLANNED = 12


def start(out, *arguments) -> subprocess.Popen[str]:
    """Start a driver in a process group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(out), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(driver, n_done: int) -> None:
    """Return when the driver says that `n_done` episodes are in the ledger."""
    for line in driver.stdout:
        if line.startswith("done") and int(line.split()[1]) >= n_done:
            return
    pytest.fail(f"the driver ended early: {driver.stderr.read()}")


def conclusion(driver) -> dict:
    """What the driver's run returned."""
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.usefixtures("cluster")
def test_a_driver_killed_mid_run_loses_no_finished_episode_and_resuming_repeats_none(tmp_path):
    driver = start(tmp_path / "out")
    assert driver.stdout.readline().startswith("cluster 127.0.0.1:")
    wait_for(driver, 3)
    # Ray notices a dead driver by its heartbeat, within half a minute or so, and its agents take longer still.
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "the private cluster outlived its driver"
    before = read(tmp_path / "out")
    assert 3 <= len(before.episodes) < PLANNED
    assert before.runs["status"].tolist() == ["running"]

    result = harness.run(SLOW, out=tmp_path / "out", workers=4, resume=True)
    assert (result.done, result.skipped) == (PLANNED - len(before.episodes), len(before.episodes))
    every = read(tmp_path / "out", all_attempts=True).episodes
    assert len(every) == PLANNED
    assert every["episode_key"].nunique() == PLANNED
    kept = every[every["run_id"] == before.runs["run_id"].iloc[0]]
    assert set(kept["episode_key"]) == set(before.episodes["episode_key"])


@pytest.mark.usefixtures("cluster")
def test_ctrl_c_lets_running_episodes_end_and_resuming_runs_the_rest(tmp_path):
    driver = start(tmp_path / "out")
    wait_for(driver, 2)
    os.killpg(driver.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group, Ray's processes included
    result = conclusion(driver)
    assert result["interrupted"]
    ledger = read(tmp_path / "out")
    assert len(ledger.episodes) == result["done"] >= 2 + 1
    assert set(ledger.episodes["outcome"]) == {"timeout"}
    assert ledger.runs["status"].tolist() == ["interrupted"]

    rest = harness.run(SLOW, out=tmp_path / "out", workers=4, resume=True)
    assert (rest.done, rest.skipped, rest.interrupted) == (PLANNED - result["done"], result["done"], False)
    assert read(tmp_path / "out", all_attempts=True).episodes["episode_key"].nunique() == PLANNED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_and_a_preempted_job_end_as_ctrl_c_does(tmp_path, number):
    driver = start(tmp_path / "out")
    wait_for(driver, 1)
    os.killpg(driver.pid, number)  # the kernel's hang-up and a scheduler's signal reach Ray's processes too
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["interrupted"]
    assert read(tmp_path / "out").runs["status"].tolist() == ["interrupted"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_is_interrupted_from_its_first_second(tmp_path, number):
    code = "import sys; from harness.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-u", "-c", code, "run", "smoke", "--policy", "noop", "--out", str(tmp_path / "out")]
    driver = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert "Starting Ray" in driver.stdout.readline()
    os.killpg(driver.pid, number)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert "Traceback" not in err
    assert "Interrupted before anything was begun" in out
    assert not list(tmp_path.glob("out/runs/*"))


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    driver = start(tmp_path / "out")
    wait_for(driver, 1)
    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGINT)
    result = conclusion(driver)
    assert result["interrupted"]
    assert len(read(tmp_path / "out").episodes) == result["done"]


def test_a_driver_joins_a_cluster_and_leaves_it_running(tmp_path, cluster):
    address = cluster.ray.get_runtime_context().gcs_address
    nodes = cluster.nodes()
    result = conclusion(start(tmp_path / "out", f"address={address}"))
    assert result == {"done": PLANNED, "skipped": 0, "interrupted": False}
    assert cluster.nodes() == nodes
    assert cluster.ray.get(cluster.ray.put(1)) == 1


def test_an_address_that_nobody_answers_at_is_named(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from stub_runs import stub_suite; import harness\n"
        "from harness.errors import NodeError\n"
        "try: harness.run(stub_suite(), out=sys.argv[1], address='127.0.0.1:1')\n"
        "except NodeError as error: print(error)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), str(DRIVER.parent)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "No Ray cluster answers at address '127.0.0.1:1'" in done.stdout
    assert "leave --address out" in done.stdout
    assert time.monotonic() - began < 40

"""Specification of the probe with a process per configuration. The processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import probe_stubs
import pytest

from harness.cli.app import invoke
from harness.errors import PolicyError, UsageError
from harness.latency import Budget, IsolatedResult, run_isolated, synthetic_observations, to_ledger
from harness.latency.inputs import probe_observations, with_cameras
from harness.latency.probe import Row
from harness.ledger import read
from harness.ledger.conform import to_table
from harness.policies.base import Policy

TINY = Budget(min_seconds=0.05, min_samples=4, max_seconds=20, warmup_seconds=0.1, warmup_window=1)
OBSERVATIONS = synthetic_observations(2, resolution=8)


def isolated(make: Callable[[], Policy], nfes: tuple[int, ...], **options: object) -> IsolatedResult:
    return run_isolated(make, **{"observations": OBSERVATIONS, "nfes": nfes, "budget": TINY, **options})  # type: ignore[arg-type]


def isolated_as(make: Callable[[], Policy], asked: dict[str, Any]) -> IsolatedResult:
    return run_isolated(make, **{**asked, "calibrate": False})


@pytest.mark.parametrize(
    ("make", "nfes", "name"),
    [(probe_stubs.exits, (1, 2, 3), "SIGSEGV"), (probe_stubs.is_killed, (1, 2), "SIGKILL")],
    ids=["exit code 139", "killed"],
)
def test_a_process_that_dies_loses_only_its_own_configuration_and_its_signal_is_named(
    make: Callable[[], Policy], nfes: tuple[int, ...], name: str
) -> None:
    received: list[Row] = []
    result = isolated(make, nfes, on_rows=received.extend).probe
    assert tuple(c.nfe for c in result.configurations) == nfes
    assert [c.nfe for c in result.configurations if not c.rows] == [2]
    failure = result.configurations[1].failure
    assert failure is not None
    assert (failure.kind, failure.exit_signal) == ("crash", name)
    assert any(name in warning for warning in result.warnings)
    assert to_table("latency", received).num_rows == len(result.rows)


def test_a_configuration_that_raises_is_a_failure_with_the_samples_before_it() -> None:
    result = isolated(probe_stubs.raises, (2, 1)).probe
    failure = result.configurations[0].failure
    assert failure is not None
    assert (failure.kind, "MemoryError" in failure.message) == ("error", True)
    assert result.configurations[1].failure is None


def test_a_configuration_that_hangs_is_killed_when_its_time_is_over() -> None:
    started = time.monotonic()
    result = isolated(probe_stubs.hangs, (2,), timeout_s=8).probe
    failure = result.configurations[0].failure
    assert failure is not None
    assert (failure.kind, "within 8 s" in failure.message) == ("timeout", True)
    assert time.monotonic() - started < 60


def test_a_policy_without_nfe_is_probed_once_and_the_default_stands_in_for_no_nfe() -> None:
    assert [c.nfe for c in isolated(probe_stubs.without_nfe, (1, 2)).probe.configurations] == [None]
    assert [c.nfe for c in isolated(probe_stubs.sleepy, ()).probe.configurations] == [3]


def test_every_batch_size_runs_in_a_process_of_its_own() -> None:
    result = isolated(probe_stubs.sleepy, (2,), batch_sizes=(1, 3)).probe
    assert [(c.batch_size, c.nfe) for c in result.configurations] == [(1, 2), (3, 2)]


@pytest.mark.parametrize(
    ("make", "nfes", "error", "said"),
    [
        (probe_stubs.sleepy, (0,), UsageError, "NFE 0"),
        (probe_stubs.cannot_be_built, (1,), PolicyError, "no weights at /nowhere"),
        (probe_stubs.breaks_while_built, (1,), PolicyError, "RuntimeError: surprise"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_as_in_one_process(
    make: Callable[[], Policy], nfes: tuple[int, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        isolated(make, nfes)


def test_the_first_process_also_measures_the_ceilings_of_its_device() -> None:
    calibration = isolated(probe_stubs.sleepy, (1,), calibrate=True).calibration
    assert calibration is not None
    assert calibration.device == "cpu"
    assert calibration.copy_gb_s is not None
    assert calibration.copy_gb_s > 0


def test_ctrl_c_stops_the_child_keeps_its_samples_and_probes_no_further() -> None:
    endless = Budget(min_seconds=100, min_samples=1, max_seconds=200, warmup_seconds=0.1, warmup_window=1)
    received: list[Row] = []
    # Ctrl-C reaches the parent alone here; from a terminal the child gets it too, and ignores it.
    timer = threading.Timer(12, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        result = isolated(probe_stubs.sleepy, (1, 2), budget=endless, on_rows=received.extend).probe
    finally:
        timer.cancel()
    assert result.interrupted
    assert [c.nfe for c in result.configurations] == [1]
    assert len(result.configurations[0].samples_ms()) > 10
    assert len(received) == len(result.rows)


@pytest.mark.parametrize(
    ("first_lines", "code", "said"),
    [
        ("", 1, "if __name__ == '__main__':"),
        # A script that ends itself when it is imported.
        ("if __name__ == '__mp_main__': raise SystemExit(7)", 7, "if __name__ == '__main__':"),
        ("if __name__ == '__mp_main__': os.kill(os.getpid(), 9)", -9, "SIGKILL"),
    ],
    ids=["no guard", "exits", "killed"],
)
def test_a_child_that_ends_before_its_first_word_is_reported_at_once(
    tmp_path: Path, first_lines: str, code: int, said: str
) -> None:
    """Its job is megabytes, which nobody takes any more."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "import probe_stubs\n"
        "from harness.latency import run_isolated, synthetic_observations\n"
        f"{first_lines}\n"
        "run_isolated(probe_stubs.sleepy, observations=synthetic_observations(8), nfes=(1, 2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "ended before it began" in message
    assert f"exit code {code}" in message
    assert said in message


def test_a_policy_may_look_through_more_cameras_than_a_simulator_has() -> None:
    (configuration,) = isolated(probe_stubs.looks_through_three, (1,)).probe.configurations
    assert configuration.failure is None
    assert configuration.rows
    (shown, _) = with_cameras(OBSERVATIONS, ("agentview", "camera3"))
    assert list(shown.images) == ["agentview", "robot0_eye_in_hand", "camera3"]
    assert shown.images["camera3"].shape == (8, 8, 3)
    assert (shown.images["camera3"] != shown.images["agentview"]).any()


def test_a_policy_is_timed_on_frames_of_the_size_that_its_checkpoint_declares() -> None:
    (shown, _) = with_cameras(OBSERVATIONS, ("agentview", "camera3"), (48, 64))
    assert {image.shape for image in shown.images.values()} == {(48, 64, 3)}
    assert list(with_cameras(OBSERVATIONS, ("agentview",))) == list(OBSERVATIONS), "else frames stay as they are"
    assert {image.shape for image in probe_observations((1,), resolution=32)[0].images.values()} == {(32, 32, 3)}


def test_a_probe_through_three_cameras_as_a_command_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Measuring the node's ceilings takes most of a minute where two cores are shared.
    monkeypatch.setattr(to_ledger, "run_isolated", lambda make, **asked: isolated_as(make, asked))
    budget = ["--launches", "1", "--min-seconds", "0.01", "--min-samples", "3", "--warmup-seconds", "0.1"]
    policy = "python:probe_stubs:looks_through"
    assert invoke(["probe", "-p", policy, "--cameras", "2,3", "--nfe", "2", *budget, "--out", str(tmp_path / "L")]) == 0
    timed = read(tmp_path / "L").latency
    assert set(timed["policy_id"]) == {f"{policy}?cameras=2", f"{policy}?cameras=3"}
    assert (timed["component"] == "e2e").sum() >= 6
    assert "cameras=3" in capsys.readouterr().out

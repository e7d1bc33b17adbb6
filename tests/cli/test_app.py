"""The command line: exit codes, one clear message, and the whole path on the stub world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from harness.cli.app import invoke
from harness.cli.verbs import VERBS
from harness.ledger import read

STUB = {
    "name": "stubs",
    "description": "the stub world",
    "world": "stub",
    "protocol": "stub",
    "tasks": [{"suite": "stub", "tasks": [0, 1], "init_states": 3}],
    "policies": ["random"],
}
GROUPS = {"baseline", "ledger", "cluster", "checkpoint", "plan"}
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "stubs.yaml"
    path.write_text(yaml.safe_dump(STUB))
    return path


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "libero_spatail"], "Did you mean 'libero_spatial'"),
        (["run", "seed"], "names no policy"),
        (["run", "seed", "-p", "scriptd"], "Did you mean 'scripted'"),
        (["run", "seed", "-p", "noop", "-p", "noop"], "given twice"),
        (["run", "seed", "-p", "scripted", "--nfe", "0"], "--nfe has 0"),
        (["run", "seed", "-p", "scripted", "--nfe", "one"], "--nfe is 'one'"),
        (["run", "seed", "-p", "scripted", "--nfe", "5"], "'scripted' has no denoising loop"),
        (["run", "seed", "-p", "scripted", "--workers", "0"], "greater than or equal to 1"),
        (["run", "seed", "-p", "scripted", "--resume"], "name it with --out"),
        (["run", "seed", "-p", "scripted", "--record-noise", "0.1"], "say where with --record"),
        (["run", "seed", "-p", "scripted", "--record-failures", "keep"], "say where with --record"),
        (["run", "libero_spatial", "-p", "scripted", "--placements", "sampled"], "--episodes 20"),
        (["run", "seed", "-p", "scripted", "-p", "noop", "--record", "x", "--out", "y"], "one policy at one NFE"),
        (["probe", "-p", "flow", "--batch-size", "x"], "--batch-size is 'x'"),
        (["probe", "-p", "flow", "--hardware", "h100"], "Did you mean 'h100-sxm-80gb'"),
        (["list", "tasks", "libero_spatil"], "Did you mean 'libero_spatial'"),
        (["validate", "nowhere.yaml"], "There is no suite file at nowhere.yaml"),
    ],
)
def test_a_wrong_request_gets_one_message_and_exit_code_64(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(argv) == 64
    said = capsys.readouterr().err
    assert message in said
    assert said.count("error:") == 1
    assert "Traceback" not in said
    assert not any(tmp_path.iterdir()), "a refused request leaves nothing behind"


@pytest.mark.parametrize("argv", [["report"], ["compare", "/tmp/no-such-base"], ["gate", "/tmp/no-such-base"]])
def test_a_missing_ledger_is_no_verdict_and_its_path_is_named(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*argv, "/tmp/no-such-ledger"]) == 64
    assert "/tmp/no-such-" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [*sorted(set(VERBS) - GROUPS), "ledger copy", "plan suite", "baseline show"])
def test_every_verb_shows_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples" in shown
    assert f"harness {verb.removesuffix(' suite')}" in shown.partition("Examples")[2]


def test_doctor_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    checks = found["checks"]
    assert found["ready"] is (code == 0)
    assert {"mujoco", "headless GL", "disk"} <= {check["name"] for check in checks}
    assert code == int(any(check["status"] == "fail" for check in checks))


def test_list_shows_complete_libero_pro_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "suites"]) == 0
    shown = capsys.readouterr().out
    assert "libero_pro:libero_spatial_swap" in shown
    assert "libero_spatial" in shown


def test_a_run_ends_with_a_report_and_its_ledger(suite_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recorded = ["--record", str(tmp_path / "set"), "--record-failures", "keep", "--placements", "sampled"]
    recorded += ["--record-noise", "0.1", "--episodes", "3"]
    done = subprocess.run(
        [*HARNESS, "run", str(suite_file), "--out", str(out), "--workers", "2", *recorded],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "6/6 episodes" in done.stdout, "progress in plain lines, since this is no terminal"
    assert f"Report: {out}/report.html" in done.stdout
    assert "<html" in (out / "report.html").read_text()[:500]
    assert len(read(out).episodes) == 6
    assert f"Dataset: {tmp_path}/set (6 episodes" in done.stdout
    assert "which LeRobot reads" in done.stdout
    assert read(out).manifest("stub")["action_noise"] == 0.1

    again = [*HARNESS, "run", str(suite_file), "--out", str(out)]
    refused = subprocess.run(again, capture_output=True, text=True, timeout=300, check=False)
    assert refused.returncode == 64
    assert "--resume" in refused.stderr


def test_ctrl_c_says_what_is_done_and_the_command_it_prints_runs_the_rest(tmp_path: Path) -> None:
    path, out = tmp_path / "slow.yaml", tmp_path / "out"
    tasks = [{"suite": "stub_slow", "init_states": 6}]
    path.write_text(yaml.safe_dump({**STUB, "tasks": tasks, "policies": ["random"]}))
    command = [*HARNESS, "run", str(path), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not list(out.glob("episodes/part-*.parquet")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 130, said
    finished = len(read(out).episodes)
    assert 0 < finished < 60
    assert f"Interrupted: {finished} of 60 episodes are in the ledger" in said
    resume = said.partition("To run the rest:\n")[2].splitlines()[0].split()
    assert resume[:2] == ["harness", "run"]
    assert resume[-1] == "--resume"
    assert read(out).runs["status"].tolist() == ["interrupted"]


@pytest.mark.parametrize(
    ("said", "timing"),
    [
        ("Did you mean 'dgx-spark-gb10'", "latency: 'published:dgx-spark'"),
        ("Nothing is left to run under asynchronous", "latency: 'constant:100s'"),
    ],
)
def test_validate_looks_up_the_sources_of_delays(
    said: str, timing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "timed.yaml"
    suite.write_text(
        "name: timed\ndescription: d\nprotocol: lerobot\ntasks: [{suite: libero_spatial}]\npolicies: [random]\n"
        f"clock: asynchronous\n{timing}\n"
    )
    assert invoke(["validate", str(suite)]) == 64
    assert said in capsys.readouterr().err


def test_validate_refuses_init_states_that_the_suite_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "sixty.yaml"
    suite.write_text(
        "name: sixty\ndescription: too many\nprotocol: lerobot\n"
        "tasks: [{suite: libero_spatial, init_states: 60}]\npolicies: [scripted]\n"
    )
    assert invoke(["validate", str(suite)]) == 64
    assert "no init state 59; it has 50" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["import", "e.json", "--out", ""], "--out"),
        (["probe", "--out="], "--out"),
        (["report", "L", "--eval-info", " "], "--eval-info"),
        (["run", "demo", "-p", ""], "-p"),
        (["report", ""], "An argument"),
    ],
)
def test_an_empty_value_is_refused_by_the_name_of_its_option(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(argv) == 64
    assert f"error: {named} is empty." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

"""What people read: foreign text comes out as it went in, and a screen that fails changes nothing."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness.cli.app import invoke
from harness.cli.live import panel
from harness.cli.verbs import VERBS
from harness.doctor import Check, CheckStatus
from harness.ledger import LedgerWriter, read
from harness.report.tables.table import Table
from harness.report.terminal import print_table
from harness.schedule.progress import PolicyProgress, Progress
from harness.screen import Screen
from harness.spec.policy import PolicyAtNfe

FOREIGN = "v2[/old] [bold]x[/bold] suite=[spatial,object] a:smile:b 评估 é"
"""Markup that closes nothing, markup that would vanish, Hydra's lists, an emoji's name, text beyond Latin-1."""
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
STUB = {
    "name": "stubs",
    "description": FOREIGN,
    "world": "stub",
    "protocol": "stub",
    "tasks": [{"suite": "stub", "tasks": [0], "init_states": 2}],
    "policies": [{"kind": "random", "label": FOREIGN}],
}


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "stubs.yaml"
    path.write_text(yaml.safe_dump(STUB, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def ledgers(make_ledger: Any) -> tuple[str, str]:
    """Two ledgers whose policy and folder bear the foreign name."""
    names = [f"base {FOREIGN.replace('/', '_')}", f"candidate {FOREIGN.replace('/', '_')}"]
    base, candidate = (str(make_ledger(name, ["++++-", "+-+-+"], policy=FOREIGN)) for name in names)
    return base, candidate


def report(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["report", base]


def compare(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["compare", base, candidate]


def matrix(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["compare", base, candidate, base]


def gate(base: str, candidate: str, tmp_path: Path) -> list[str]:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"name": FOREIGN, "success": {"margin": 0.3}}, allow_unicode=True))
    return ["gate", base, candidate, "--rules", str(rules)]


def baseline_set(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["baseline", "set", base, "--root", str(tmp_path), "--name", FOREIGN]


def baseline_show(base: str, candidate: str, tmp_path: Path) -> list[str]:
    invoke(baseline_set(base, candidate, tmp_path))
    return ["baseline", "show", "--root", str(tmp_path)]


def baseline_history(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["baseline", "history", "--root", str(tmp_path)]


def import_(base: str, candidate: str, tmp_path: Path) -> list[str]:
    info = tmp_path / "eval_info.json"
    episodes = {"metrics": {"successes": [True], "sum_rewards": [1.0], "max_rewards": [1.0]}}
    tasks = [{"task_group": "libero_spatial", "task_id": 0, **episodes}]
    info.write_text(json.dumps({"per_task": tasks}))
    return ["import", str(info), "--out", str(tmp_path / FOREIGN.replace("/", "_"))]


def ledger_copy(base: str, candidate: str, tmp_path: Path) -> list[str]:
    invoke(["ledger", "copy", base, str(tmp_path / FOREIGN)])
    changed = next((tmp_path / FOREIGN / "episodes").iterdir())
    changed.write_bytes(b"other")
    return ["ledger", "copy", base, str(tmp_path / FOREIGN)]


def validate(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["validate", str(tmp_path / "stubs.yaml")]


def watch(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["watch", f"{tmp_path}/{FOREIGN}", "--suite", str(tmp_path / "stubs.yaml"), "--explain"]


def resolved(base: str, candidate: str, tmp_path: Path) -> list[str]:
    return ["validate", str(tmp_path / "stubs.yaml"), "--resolved"]


def prefix(base: str, candidate: str, tmp_path: Path) -> list[str]:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    row = {"run_id": "r", "node_id": "n", "hardware": "cpu", "policy_id": FOREIGN, "nfe": 1, "dtype": "float32",
           "batch_size": 1, "started_at": now}  # fmt: skip
    LedgerWriter(tmp_path / "probed").append(
        "latency",
        [
            {**row, "component": component, "sample": sample, "latency_ms": value}
            for component, value in (("e2e", 10.0), ("prefix", 6.0), ("denoise_step", 3.0))
            for sample in range(20)
        ],
    )
    return ["prefix", str(tmp_path / "probed")]


def list_suites(base: str, candidate: str, tmp_path: Path) -> list[str]:
    (tmp_path / "suites").mkdir()
    (tmp_path / "stubs.yaml").rename(tmp_path / "suites" / "stubs.yaml")
    return ["list", "suites"]


@pytest.mark.parametrize(
    "command",
    [
        report,
        compare,
        matrix,
        gate,
        baseline_set,
        baseline_show,
        baseline_history,
        import_,
        ledger_copy,
        validate,
        resolved,
        prefix,
        list_suites,
        watch,
    ],
)
def test_foreign_text_comes_out_as_it_went_in(
    command: Callable[..., list[str]],
    ledgers: tuple[str, str],
    suite_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = command(*ledgers, tmp_path)
    capsys.readouterr()
    invoke(argv)
    said = capsys.readouterr().out
    assert FOREIGN in said or FOREIGN.replace("/", "_") in said


@pytest.mark.parametrize("verb", VERBS)
def test_an_error_about_foreign_text_repeats_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = f"--{FOREIGN.replace('=', ' ')}"
    assert invoke([verb, option]) == 64
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["prefix", FOREIGN], FOREIGN),
        (["predict", "--from", FOREIGN, "--to", "h200"], FOREIGN),
        (["predict", "--architecture", FOREIGN, "--to", "h200"], "v2[/old] [bold]x[/bold] suite=[spatial"),
        (["probe", "-p", "noop", "--hardware", FOREIGN], FOREIGN),
        (["serve", "-p", "noop", "--hardware", FOREIGN], FOREIGN),
        (["doctor", "-p", FOREIGN], "v2[/old]"),
        (["list", "tasks", FOREIGN], FOREIGN),
        (["nightly", "-p", "noop", "--rules", FOREIGN], FOREIGN),
        (["run", FOREIGN], "v2[/old] [bold]x[/bold] suite=[spatial,object] a"),
    ],
)
def test_a_refusal_repeats_foreign_text(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(argv) == 64
    assert named in capsys.readouterr().err


def test_the_doctor_keeps_the_extras_of_its_remedies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = Check("mujoco", CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'")
    monkeypatch.setattr("harness.doctor.run_checks", lambda checks: [check])
    assert invoke(["doctor"]) == 1
    assert "pip install 'vla-harness[sim]'" in capsys.readouterr().out


def test_a_terminal_shows_foreign_text_too() -> None:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, force_terminal=True, width=400, color_system=None))
    screen.say(("said " + FOREIGN, "bold"))
    screen.rows([("row " + FOREIGN, "x")])
    print_table(
        Table("title " + FOREIGN, ("column " + FOREIGN,), (("cell " + FOREIGN,),), 1, "note " + FOREIGN), screen
    )
    per_policy = {PolicyAtNfe(FOREIGN, None): PolicyProgress(2, 1, 1, 0)}
    screen.console.print(panel(Progress(2, 0, 1, 1, 0, per_policy, 1, datetime.now(UTC), 1.0, 1.0, None)))
    shown = stream.getvalue()
    for what in ("said ", "row ", "title ", "column ", "cell ", "note "):
        assert what + FOREIGN in shown
    assert shown.count(FOREIGN) == 7


def test_control_characters_do_not_steer_a_terminal() -> None:
    stream = io.StringIO()
    Screen(Console(file=stream, force_terminal=True, color_system=None)).say("a\x1b[2Jb\x00c\rd\x9be")
    assert stream.getvalue() == "a\\x1b[2Jb\\x00c\\x0dd\\x9be\n"


def test_lists_are_not_cut_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "policies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(len(line) > 100 for line in lines), "pytest's stdout is 80 columns wide"
    assert not any("…" in line for line in lines)


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command with `harness` in it, and pipefail."""
    line = command.replace("harness ", f'{sys.executable} -c "from harness.cli import main; main()" ')
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_run_prints_what_its_terminal_can_show(suite_file: Path, tmp_path: Path) -> None:
    done = run(f"harness run {suite_file} --out {tmp_path}/out --workers 1", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "v2[/old] [bold]x[/bold]" in done.stdout
    assert "2/2 episodes" in done.stdout
    assert len(read(tmp_path / "out").episodes) == 2
    assert read(tmp_path / "out").episodes["policy_id"].unique().tolist() == [FOREIGN]


def test_a_terminal_that_shows_latin_letters_shows_those(suite_file: Path) -> None:
    done = run(f"harness validate {suite_file} --resolved", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "v2[/old] [bold]x[/bold]" in done.stdout


def test_a_closed_pipe_and_a_full_disk_change_neither_verdict_nor_files(make_ledger: Any, tmp_path: Path) -> None:
    good, bad = make_ledger("good", ["+" * 50] * 4), make_ledger("bad", ["-" * 50] * 4)
    equal = make_ledger("equal", ["+" * 50] * 4)
    cases = [("| head -0", bad, 1), ("| head -1 > /dev/null", equal, 0), ("> /dev/full", bad, 1), (">&-", bad, 1)]
    for sink, candidate, code in cases:
        junit = tmp_path / "gate.xml"
        junit.unlink(missing_ok=True)
        done = run(f"harness gate {good} {candidate} --junit {junit} {sink}")
        assert done.returncode == code, (sink, done.stderr)
        assert "<testsuite" in junit.read_text()
        assert "Traceback" not in done.stderr
    report = run(f"harness report {good} | head -1")
    assert (report.returncode, report.stderr, len(report.stdout.splitlines())) == (0, "", 1)


def test_a_document_that_is_lost_is_said(make_ledger: Any) -> None:
    ledger = make_ledger("good", ["+" * 5])
    done = run(f"harness compare {ledger} {ledger} --json - > /dev/full")
    assert done.returncode == 3
    assert "Standard output cannot be written (No space left on device)" in done.stderr


def test_a_run_goes_on_when_nobody_reads(suite_file: Path, tmp_path: Path) -> None:
    done = run(f"harness run {suite_file} --out {tmp_path}/out --workers 1 | head -0")
    assert done.returncode == 0, done.stderr
    assert len(read(tmp_path / "out").episodes) == 2
    assert (tmp_path / "out" / "report.html").exists()


def test_what_a_run_ends_with_is_imported_once_while_its_episodes_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import run

    shown: list[object] = []
    imported: list[str] = []
    monkeypatch.setattr(run.importlib, "import_module", imported.append)
    ahead = run._Ahead(shown.append)
    assert imported == []
    ahead("first")  # type: ignore[arg-type]
    ahead("second")  # type: ignore[arg-type]
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(1)
    assert (shown, imported) == (["first", "second"], ["harness.report"])

"""What every verb has: `--json`, `--quiet`, `--verbose`, `--log`, names that a shell completes, and a short help."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness.cli.app import app, invoke
from harness.cli.shapes import SHAPES
from harness.cli.verb import SHARED
from harness.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]
PROBE = str(ROOT / "reports" / "examples" / "h100-latency" / "pi05")
HARNESS = [sys.executable, "-c", "from harness.cli import main; main()"]
STUB = {
    "name": "stubs",
    "description": "the stub world",
    "world": "stub",
    "protocol": "stub",
    "tasks": [{"suite": "stub", "tasks": [0], "init_states": 2}],
    "policies": ["random"],
}


def leaves(name: str = "", command: Any = None) -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    command = typer.main.get_command(app) if command is None else command
    for verb, below in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {verb}".strip(), below)
    if not getattr(command, "commands", {}):
        yield name, command


def test_every_verb_has_the_shared_options_once() -> None:
    for name, command in leaves():
        spelled = [option for parameter in command.params for option in parameter.opts]
        assert len(spelled) == len(set(spelled)), name
        assert {f"--{option}" for option in SHARED} <= set(spelled), name


def test_every_verb_says_what_its_json_holds() -> None:
    verbs = {name for name, _ in leaves()}
    described = {key.partition(" --")[0].partition(",")[0] for key in SHAPES}
    assert described == verbs | {"list profiles"}


def test_the_list_of_verbs_says_what_they_say_themselves() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, entry in VERBS.items():
        assert " ".join(commands[name].help.split("\n\n")[0].split()) == entry.help


@pytest.fixture
def lines(make_ledger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, int]]:
    """Entry of `SHAPES` → (command line, exit code)."""
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "stubs.yaml"
    suite.write_text(yaml.safe_dump(STUB))
    info = {"metrics": {"successes": [True], "sum_rewards": [1.0], "max_rewards": [1.0]}}
    (tmp_path / "eval_info.json").write_text(
        json.dumps({"per_task": [{"task_group": "libero_spatial", "task_id": 0, **info}]})
    )
    base, new = make_ledger("base", ["+" * 30] * 2), make_ledger("new", ["+" * 29 + "-"] * 2)
    (tmp_path / "nights").mkdir()
    make_ledger("nights/one", ["+" * 30])
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights").write_bytes(b"1")
    return {
        "report": (f"report {base}", 0),
        "compare": (f"compare {base} {new}", 0),
        "compare, one ledger or three and more": (f"compare {base} {new} {base}", 0),
        "gate": (f"gate {base} {new}", 2),
        "audit": (f"audit {base} {new}", 0),
        "prefix": (f"prefix {PROBE}", 0),
        "predict": (f"predict --from {PROBE} --to h200 --nfe 10", 0),
        "predict --back-test": (f"predict --from {PROBE} --back-test", 0),
        "baseline set": (f"baseline set {base} --root {tmp_path}/nights", 0),
        "baseline show": (f"baseline show --root {tmp_path}/nights", 0),
        "baseline history": (f"baseline history --root {tmp_path}/nights", 0),
        "import": (f"import {tmp_path}/eval_info.json --out {tmp_path}/imported", 0),
        "list": ("list suites", 0),
        "list profiles --compare": ("list profiles --compare h200,a100-sxm-80gb", 0),
        "validate": (f"validate {suite}", 0),
        "watch": (f"watch {tmp_path} --suite {suite} --explain", 0),
        "nightly": (f"nightly --root {tmp_path}/nights --dry-run", 0),
        "ledger copy": (f"ledger copy {base} {tmp_path}/copy", 0),
        "ledger compact": (f"ledger compact {base} {tmp_path}/compact", 0),
        "ledger merge": (f"ledger merge {tmp_path}/merged {base}", 0),
        "checkpoint push": (f"checkpoint push {tmp_path}/checkpoints {tmp_path}/safe", 0),
        "checkpoint pull": (f"checkpoint pull {tmp_path}/checkpoints {tmp_path}/back", 0),
        "plan suite": (f"plan {ROOT}/suites/demo.yaml --like {ROOT}/reports/examples/demo", 0),
        "plan serve": (f"plan serve -p flow --nfe 1 --from {ROOT}/reports/examples/demo --hz 4", 0),
        "plan buy": ("plan buy -p arch:student-650m-int8 --nfe 1 --hz 10 --among jetson-orin-nano-8gb", 0),
        "doctor": ("doctor", 0),
    }


def test_json_goes_to_standard_output_alone_and_has_the_documented_keys(
    lines: dict[str, tuple[str, int]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.doctor.run_checks", lambda checks: [])
    for name, (line, code) in lines.items():
        found = invoke([*line.split(), "--json"])
        shown = capsys.readouterr()
        assert found == code, (name, shown.err)
        assert list(json.loads(shown.out)) == list(SHAPES[name]), name
        assert shown.err.strip() or name == "audit", f"{name}: what people read goes to standard error"


def test_a_run_and_a_replay_speak_json(lines: dict[str, tuple[str, int]], tmp_path: Path) -> None:
    del lines
    suite, out = tmp_path / "stubs.yaml", tmp_path / "out"
    argv = [*HARNESS, "run", str(suite), "--out", str(out), "--workers", "1"]
    done = subprocess.run(
        [*argv, "--json", "--log", "run.log"], capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path
    )
    found = json.loads(done.stdout)
    assert list(found) == list(SHAPES["run"])
    assert (found["planned"], found["done"], found["errors"], found["gate"]) == (2, 2, [], None)
    assert list(found["report"]) == list(SHAPES["report"])
    assert "2/2 episodes" in done.stderr
    logged = (tmp_path / "run.log").read_text()
    assert "2/2 episodes" in logged
    assert f"Ledger: {out}" in logged

    key = json.loads(json.dumps(_first_key(out)))
    again = subprocess.run(
        [*HARNESS, "replay", str(out), key, "--json", "--quiet"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    replayed = json.loads(again.stdout)
    assert list(replayed) == list(SHAPES["replay"])
    assert replayed["episode_key"] == key
    assert replayed["same"] is True
    assert replayed["was"] == replayed["now"] == "timeout"
    assert "timeout" not in again.stderr


def _first_key(ledger: Path) -> str:
    from harness.ledger import read

    return str(read(ledger).episodes["episode_key"].iloc[0])


def test_replay_refuses_what_is_no_episode(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(make_ledger("one", ["++"]))
    assert invoke(["replay", ledger, "zz"]) == 64
    assert "has no episode whose key begins with 'zz'" in capsys.readouterr().err
    assert invoke(["replay", ledger, ""]) == 64


def test_a_file_takes_the_object_and_a_folder_does_not(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = str(make_ledger("one", ["++"]))
    assert invoke(["report", ledger, "--json", str(tmp_path / "new" / "report.json")]) == 0
    assert json.loads((tmp_path / "new" / "report.json").read_text())["title"]
    assert "Success" in capsys.readouterr().out
    assert invoke(["report", "--json", ledger, ledger]) == 64
    assert "that is a folder. Put --json last" in capsys.readouterr().err
    assert invoke(["report", ledger, "--json", "--markdown", "-"]) == 64


def test_quiet_prints_errors_and_documents_only(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(make_ledger("one", ["++"]))
    for argv, begins in ((["report", ledger], ""), (["report", ledger, "--markdown", "-"], "# ")):
        assert invoke([*argv, "--quiet"]) == 0
        shown = capsys.readouterr()
        assert (shown.out[:2], shown.err) == (begins, "")
    assert invoke(["report", "/nowhere", "--quiet"]) == 64
    assert "error: " in capsys.readouterr().err


def test_verbose_shows_where_an_error_arose(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "tasks", "libero_spatil"]) == 64
    assert "Traceback" not in capsys.readouterr().err
    assert invoke(["list", "tasks", "libero_spatil", "--verbose"]) == 64
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.rstrip().splitlines()[-1].startswith("error: ")


def test_a_log_holds_what_is_said_with_its_time(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, ledger = tmp_path / "logs" / "harness.log", str(make_ledger("one", ["++"]))
    assert invoke(["report", ledger, "--quiet", "--log", str(log)]) == 0
    assert capsys.readouterr().out == ""
    assert invoke(["report", "/nowhere", "--log", str(log)]) == 64
    written = log.read_text().splitlines()
    assert all(line[:2] == "20" and line[4] == "-" for line in written)
    assert sum("pi solves 100 % of libero_spatial" in line for line in written) == 1
    assert "error: " in written[-1]
    assert invoke(["report", ledger, "--log", "/proc/nowhere/x"]) == 64


def on_a_terminal(argv: list[str], **environment: str) -> str:
    """What a command prints where its output is a terminal."""
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [*HARNESS, *argv], stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm-256color", **environment}
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    done.wait(60)
    os.close(leader)
    return shown.decode()


def test_no_color_takes_the_colours_away(make_ledger: Any) -> None:
    argv = ["gate", str(make_ledger("a", ["+" * 30])), str(make_ledger("b", ["-" * 30]))]
    assert "\x1b[1;31mFAIL" in on_a_terminal(argv)
    plain = on_a_terminal(argv, NO_COLOR="1")
    assert "FAIL" in plain
    assert "1;31" not in plain


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("pr", {"probe", "prefix", "predict"}),
        ("run libero_sp", {"libero_spatial"}),
        ("run seed --policy sc", {"scripted"}),
        ("run seed --on h1", {"h100-sxm-80gb"}),
        ("predict --to h200,h1", {"h200,h100-sxm-80gb"}),
        ("gate a b --rules ni", {"nightly"}),
        ("list ga", {"gates"}),
        ("report nigh", {"nights/"}),
        ("report nights/o", {"nights/one"}),
        ("ledger me", {"merge"}),
        ("report --quie", {"--quiet"}),
    ],
)
def test_a_shell_completes(words: str, completed: set[str], lines: Any, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setenv("_HARNESS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"harness {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with pytest.raises(SystemExit):
        invoke([])
    assert set(capsys.readouterr().out.split()) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    # It is found out from the process above, which a shell with something left to do stays.
    typed = f"{shlex.join([*HARNESS, '--show-completion'])}; true"
    done = subprocess.run([shell, "-c", typed], capture_output=True, text=True, timeout=60, check=False)
    assert "_HARNESS_COMPLETE" in done.stdout, done.stderr

"""`harness watch` on the command line: refusals, explanations, and what a result sets off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from checkpoints import write_checkpoint
from harness.cli.app import invoke
from harness.screen import Screen
from harness.spec.rules import load_rules
from harness.watch.backlog.journal import Event, Journal, Kind, fold
from harness.watch.evaluation.machine import Gpu
from harness.watch.learning_curve.publish import Judge, Publisher
from harness.watch.training.client import EvalClient

SUITE = """
name: stubs
description: stub world
world: stub
protocol: {max_steps: {stub: 20}, settle_steps: 0}
tasks: [{suite: stub, tasks: [0, 1], init_states: 10}]
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    (tmp_path / "suite.yaml").write_text(SUITE)
    return str(tmp_path / "suite.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the folder that training writes to"),
        (["DIR", "--base", "reports/base"], "--base belongs to --rules"),
        (["DIR", "--notify", "say {who}"], "no field {who}"),
        (["DIR", "--policy-kind", "lerobto"], "Did you mean 'lerobot'"),
        (["DIR", "--rules", "nihgtly"], "nihgtly"),
        (["DIR", "--gpu", "first"], "--gpu is 'first'"),
        (["DIR", "--cpus", "9999"], "--cpus 9999"),
        (["DIR", "--log-to", "excel"], "Unknown tracker 'excel'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [str(tmp_path / "run") if word == "DIR" else word for word in arguments]
    assert invoke(["watch", *given, "--suite", suite, "--out", str(tmp_path / "out")]) == 64
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_suite_under_another_clock_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "delayed.yaml").write_text(SUITE + "clock: [synchronous, blocking]\nlatency: constant:100ms\n")
    given = [str(tmp_path / "run"), "--suite", str(tmp_path / "delayed.yaml"), "--out", str(tmp_path / "out")]
    assert invoke(["watch", *given]) == 64
    assert "A learning curve is of the synchronous clock" in capsys.readouterr().err


def test_explain_says_what_would_happen_and_with_what_and_does_nothing(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Gpu(0, "H100", 80 * 2**30, 20 * 2**30, (4711,))
    monkeypatch.setattr("harness.watch.evaluation.machine.read_gpus", lambda: (held,))
    write_checkpoint(tmp_path / "run", 1000)
    (tmp_path / "run" / "checkpoints" / "002000").symlink_to("002000")
    EvalClient(tmp_path / "outbox").submit(tmp_path, 3)
    arguments = ["watch", str(tmp_path / "run"), "--outbox", str(tmp_path / "outbox"), "--suite", suite, "--explain"]
    arguments += ["--out", str(tmp_path / "out"), "--order", "bisect", "--nice", "15"]
    assert invoke(arguments) == 0
    said = capsys.readouterr().out
    for part in (
        "1 checkpoints, the last: 1000",
        "leads to itself",
        "1 submissions",
        "halves the largest gap",
        "nice 15",
        "20.0 of 80.0 GiB free, held by process 4711",
        "refused: Somebody else computes on the GPUs (GPU 0: process 4711)",
    ):
        assert part in said
    assert not (tmp_path / "out").exists()
    assert invoke([*arguments, "--share-gpu", "0.2"]) == 0
    assert "at most 20% of its memory each: shared with process 4711" in capsys.readouterr().out


def test_a_gpu_that_training_holds_is_refused_at_once(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.watch.evaluation.machine.read_gpus", lambda: (Gpu(0, "H100", 2**36, 2**35, (4711,)),))
    code = invoke(["watch", str(tmp_path / "run"), "--suite", suite, "--out", str(tmp_path / "out"), "--once"])
    assert code == 3, "nothing was judged"
    assert "process 4711" in capsys.readouterr().err


def test_with_nothing_to_do_once_is_done(suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["watch", str(tmp_path / "run"), "--suite", suite, "--out", str(tmp_path / "out"), "--once"]) == 0
    assert "Ledger:" in capsys.readouterr().out


# -- what a result sets off --------------------------------------------------------------------------------------------


def evaluated(ledger: Path, *steps: int):
    """Write the journal of a ledger whose checkpoints have all been evaluated; returns its state."""
    journal = Journal(str(ledger))
    from datetime import UTC, datetime

    for place, step in enumerate(steps):
        data = {"step": step, "lineage": 1, "place": f"/{step}", "digest": f"d{step}", "written_ns": step}
        now = datetime(2026, 3, 1, 0, place, tzinfo=UTC)
        journal.append(Event(Kind.FOUND, f"step-{step:06d}", data), now)
        journal.append(Event(Kind.EVALUATED, f"step-{step:06d}", {"verdict": "PASS"}), now)
    return fold(journal.read())


def test_a_checkpoint_is_judged_against_the_best_before_it(make_ledger, tmp_path: Path) -> None:
    for step, outcomes in ((1, "+" * 60 + "-" * 40), (2, "+" * 95 + "-" * 5), (3, "-" * 100)):
        make_ledger("ledger", [outcomes], policy=f"step-{step:06d}", checkpoint_sha256=f"sha{step}")
    (tmp_path / "rules.yaml").write_text("name: r\nsuccess: {margin: 0.05}\n")
    rules = load_rules(str(tmp_path / "rules.yaml"))
    state = evaluated(tmp_path / "ledger", 1, 2, 3)
    verdict, reason = Judge(str(tmp_path / "ledger"), rules, None, None)(state.entries["step-000003"], state)
    assert (verdict, reason.split()[:2]) == ("FAIL", ["against", "step-000002."])
    first = fold([], evaluated(tmp_path / "other", 1))
    verdict, reason = Judge(str(tmp_path / "ledger"), rules, None, None)(first.entries["step-000001"], first)
    assert (verdict, "nothing to be judged against" in reason) == ("", True)
    missing = Judge(str(tmp_path / "ledger"), rules, str(tmp_path / "nowhere"), None)
    verdict, reason = missing(state.entries["step-000003"], state)
    assert (verdict, "no ledger" in reason) == ("INCONCLUSIVE", True)


class Broken:
    """A tracker whose server is down."""

    def log(self, step, figures) -> None:
        raise ConnectionError("no route to host")


def test_a_result_reaches_the_client_the_page_and_the_people_though_a_tracker_is_down(
    make_ledger, tmp_path: Path
) -> None:
    ledger = make_ledger("ledger", ["+" * 6 + "-" * 4], policy="step-000001")
    state, said = evaluated(ledger, 1), io.StringIO()
    screen = Screen(Console(file=said, width=200))
    publish = Publisher(str(ledger), tmp_path / "outbox", None, "harness watch", (Broken(),), "false", screen)
    publish(state, state.entries["step-000001"])
    (result,) = EvalClient(tmp_path / "outbox").poll()
    assert (result["step"], result["rate"], result["verdict"]) == (1, 0.6, "PASS")
    best = EvalClient(tmp_path / "outbox").best()
    assert best is not None
    assert best["name"] == "step-000001"
    assert "step-000001" in (ledger / "watch" / "learning_curve.html").read_text()
    assert "Broken did not take the result" in said.getvalue()
    assert "The notification failed: the command exited with 1" in said.getvalue()


def test_a_full_disk_under_the_outbox_does_not_end_the_watch(
    make_ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make_ledger("ledger", ["+"], policy="step-000001")
    state, said = evaluated(ledger, 1), io.StringIO()
    screen = Screen(Console(file=said, width=200))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.watch.learning_curve.publish.write_json", full)
    publish = Publisher(str(ledger), tmp_path / "o", None, "harness watch", (), None, screen)
    publish(state, state.entries["step-000001"])
    assert said.getvalue() == "The learning curve could not be written: [Errno 28] No space left on device\n"

"""Runs that stop when their verdict is certain: the stub world on a real Ray cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.cli.app import invoke
from harness.cluster.ray_session import RaySession
from harness.gate import Verdict, gate
from harness.gate.early_stopping import read_stop_record
from harness.spec.rules import GateRules, SuccessRule, load_rules

pytestmark = pytest.mark.usefixtures("gate_cluster")

SUITE = """
name: gated
description: every episode of the stub world
world: stub
protocol: {max_steps: {stub: 30}, settle_steps: 0}
tasks: [{suite: stub}]
policies: [{POLICY}]
"""
SOLVING, FAILING = "kind: python, path: 'rerun_policies:good', label: pi", "kind: noop, label: pi"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suites") / "gated.yaml"
    path.write_text(SUITE.replace("POLICY", SOLVING))
    return path


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    path = tmp_path / "gated.yaml"
    path.write_text(SUITE.replace("POLICY", FAILING))
    return path


@pytest.fixture(scope="module")
def whole(gate_cluster: RaySession, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all 500 episodes, all solved."""
    del gate_cluster
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert invoke(["run", str(suite), "--out", str(out), "--workers", "2"]) == 0
    return out


def run(suite: Path, base: Path, out: Path, *options: str) -> int:
    return invoke(["run", str(suite), "--out", str(out), "--gate-against", str(base), "--workers", "2", *options])


def test_an_equal_candidate_passes_and_saves_most_episodes(
    suite: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(suite, whole, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "PASS: sequential" in printed
    assert "saved" in printed
    ledger = harness.read(tmp_path / "out")
    assert 150 <= len(ledger.episodes) < 400
    assert ledger.runs["status"].tolist() == ["stopped"]


def test_a_collapsed_candidate_fails_after_the_first_round(failing: Path, whole: Path, tmp_path: Path) -> None:
    assert run(failing, whole, tmp_path / "out") == 1
    assert len(harness.read(tmp_path / "out").episodes) < 250
    record = read_stop_record(tmp_path / "out")
    assert record is not None
    assert (record["verdict"], record["rounds"], len(record["episode_keys"])) == ("FAIL", 1, 50)


def test_a_stopped_run_is_judged_later_by_the_same_episodes(failing: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(failing, whole, out)
    later = gate(whole, out, load_rules("sequential"))
    assert later.verdict is Verdict.FAIL
    assert later.comparison.success[0].n == 50
    fixed = gate(whole, out, GateRules(success=SuccessRule(margin=0.03)))
    assert fixed.verdict is Verdict.INCONCLUSIVE


def test_a_stopped_run_can_be_finished_and_judged_by_fixed_rules(suite: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(suite, whole, out)
    assert invoke(["run", str(suite), "--out", str(out), "--resume", "--workers", "2"]) == 0
    result = gate(whole, out, GateRules(success=SuccessRule(margin=0.03)))
    assert result.verdict is Verdict.PASS
    assert result.comparison.success[0].n == 500


def test_a_run_that_cannot_be_decided_any_more_is_given_up(
    suite: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "tight.yaml"
    rules.write_text("name: tight\ndesign: sequential\nsuccess: {margin: 0.005}\n")
    assert run(suite, whole, tmp_path / "out", "--rules", str(rules)) == 2
    assert "Given up: the rest of the plan has hardly a chance" in " ".join(capsys.readouterr().out.split())
    assert 250 < len(harness.read(tmp_path / "out").episodes) < 500


def test_results_do_not_depend_on_being_gated(suite: Path, whole: Path, tmp_path: Path) -> None:
    run(suite, whole, tmp_path / "out")
    gated = harness.read(tmp_path / "out").episodes.set_index("episode_key")["trajectory_sha256"]
    plain = harness.read(whole).episodes.set_index("episode_key")["trajectory_sha256"]
    assert (gated == plain.loc[gated.index]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate-against", "nowhere"], "nowhere"),
        (["--rules", "sequential"], "--gate-against"),
        (["--gate-against", ".", "--rules", "nightly"], "fixed design"),
    ],
)
def test_requests_that_make_no_sense_are_refused_before_anything_is_written(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert invoke(["run", str(suite), "--out", str(tmp_path / "out"), *options]) != 0
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.parquet"))

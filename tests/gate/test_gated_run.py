"""Runs that stop when their verdict is certain: the stub world on a real Ray cluster."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness
from harness.cli.app import invoke
from harness.cluster.ray_session import RaySession
from harness.errors import UsageError
from harness.gate import Verdict, gate
from harness.gate.early_stopping import read_stop_record
from harness.ledger import Ledger
from harness.ledger.schema import PLAN_STATUSES
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


@pytest.fixture(scope="module")
def whole(gate_cluster: RaySession, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all 500 episodes, all solved."""
    del gate_cluster
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert invoke(["run", str(suite), "--out", str(out), "--workers", "2"]) == 0
    return out


@dataclass(frozen=True)
class Gated:
    """A run that a gate rode along with."""

    out: Path
    code: int
    printed: str


@pytest.fixture(scope="module")
def equal(suite: Path, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """The same policy against the whole run: stopped with a PASS."""
    out = tmp_path_factory.mktemp("runs") / "equal"
    with redirect_stdout(io.StringIO()) as printed:
        code = run(suite, whole, out)
    return Gated(out, code, printed.getvalue())


@pytest.fixture(scope="module")
def collapsed(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """A policy that solves nothing: stopped with a FAIL."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "gated.yaml").write_text(SUITE.replace("POLICY", FAILING))
    return Gated(folder / "out", run(folder / "gated.yaml", whole, folder / "out"), "")


def test_every_run_stores_one_plan_of_itself_or_why_there_is_none(whole: Path, equal: Gated) -> None:
    for out in (whole, equal.out):
        ledger = Ledger(str(out))
        assert list(ledger.plans["run_id"]) == list(ledger.runs["run_id"].unique())
        assert set(ledger.plans["status"]) <= set(PLAN_STATUSES)


def run(suite: Path, base: Path, out: Path, *options: str) -> int:
    return invoke(["run", str(suite), "--out", str(out), "--gate-against", str(base), "--workers", "2", *options])


def test_an_equal_candidate_passes_and_saves_most_episodes(equal: Gated) -> None:
    assert equal.code == 0
    assert "PASS: sequential" in equal.printed
    assert "saved" in equal.printed
    ledger = harness.read(equal.out)
    assert 150 <= len(ledger.episodes) < 400
    assert ledger.runs["status"].tolist() == ["stopped"]


def test_a_collapsed_candidate_fails_after_the_first_round(collapsed: Gated) -> None:
    assert collapsed.code == 1
    assert len(harness.read(collapsed.out).episodes) < 250
    record = read_stop_record(collapsed.out)
    assert record is not None
    assert (record["verdict"], record["rounds"], len(record["episode_keys"])) == ("FAIL", 1, 50)


def test_a_stopped_run_is_judged_later_by_the_same_episodes(collapsed: Gated, whole: Path) -> None:
    later = gate(whole, collapsed.out, load_rules("sequential"))
    assert later.verdict is Verdict.FAIL
    assert later.comparison.success[0].n == 50
    fixed = gate(whole, collapsed.out, GateRules(success=SuccessRule(margin=0.03)))
    assert fixed.verdict is Verdict.INCONCLUSIVE


def test_a_stopped_run_can_be_finished_and_judged_by_fixed_rules(
    suite: Path, whole: Path, equal: Gated, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(equal.out, tmp_path / "out"))
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


def test_results_do_not_depend_on_being_gated(whole: Path, equal: Gated) -> None:
    gated = harness.read(equal.out).episodes.set_index("episode_key")["trajectory_sha256"]
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


def test_a_run_that_is_not_admitted_has_written_nothing(suite: Path, tmp_path: Path) -> None:
    def refuse(plan: object, manifests: Mapping[str, object]) -> None:
        raise UsageError(f"not under {sorted(manifests)}")

    with pytest.raises(UsageError, match="not under"):
        harness.run(str(suite), out=tmp_path / "out", workers=1, admission=refuse)
    assert not (tmp_path / "out" / "runs").exists()

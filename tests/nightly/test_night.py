"""A night: continued when it was cut off, judged against the baseline, told whatever the telling does."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli.app import invoke
from harness.errors import LedgerError, NodeError, UsageError
from harness.gate.baseline import read_baselines
from harness.nightly.night import NightlyRequest, conclude_night, open_night, tell_failure

NOW = datetime(2026, 3, 2, 2, 17, tzinfo=UTC)
RULES = "name: strict\nsuccess: {margin: 0.05}\n"


@pytest.fixture
def night(tmp_path: Path) -> NightlyRequest:
    """Nights in the folder where the ledgers of `make_ledger` lie."""
    (tmp_path / "rules.yaml").write_text(RULES)
    return NightlyRequest(str(tmp_path), "nightly", str(tmp_path / "rules.yaml"), "main", accept=False)


def tell(tmp_path: Path) -> str:
    script = "import sys; open(sys.argv[1], 'w').write(sys.argv[2] + ' ' + sys.argv[3])"
    return f'{sys.executable} -c "{script}" {tmp_path}/told {{verdict}} {{report}}'


def test_the_first_night_becomes_the_baseline(make_ledger, night: NightlyRequest, tmp_path: Path) -> None:
    out = make_ledger("20260301-021700", ["+" * 50 + "-" * 50])
    end = conclude_night(night, str(out), NOW, tell(tmp_path))
    assert (end.exit_code, end.gate) == (0, None)
    assert [record.ledger for record in read_baselines(night.root)] == ["20260301-021700"]
    assert (tmp_path / "told").read_text().startswith("PASS ")


@pytest.mark.parametrize(
    ("outcomes", "code", "verdict"),
    [("+" * 100, 0, "PASS"), ("-" * 100, 1, "FAIL"), ("+" * 92 + "-" * 8, 2, "INCONCLUSIVE")],
)
def test_later_nights_exit_with_the_verdict_and_tell_it(
    make_ledger, night: NightlyRequest, tmp_path: Path, outcomes: str, code: int, verdict: str
) -> None:
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 95 + "-" * 5])), NOW, None)
    out = make_ledger("20260302-021700", [outcomes])
    end = conclude_night(night, str(out), NOW, tell(tmp_path))
    assert end.exit_code == code
    assert (tmp_path / "told").read_text() == f"{verdict} {out}/gate.md"
    assert verdict in (out / "gate.md").read_text()
    assert len(read_baselines(night.root)) == 1


@pytest.mark.parametrize("template", ["false", "no-such-program", "http://127.0.0.1:1/"])
def test_a_notification_that_fails_changes_no_verdict(make_ledger, night: NightlyRequest, template: str) -> None:
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 100])), NOW, None)
    end = conclude_night(night, str(make_ledger("20260302-021700", ["-" * 100])), NOW, template)
    assert end.exit_code == 1
    assert any("The notification failed, which changes no verdict" in line for line in end.lines)


def test_a_night_that_passes_is_accepted_when_asked(make_ledger, night: NightlyRequest) -> None:
    accepting = NightlyRequest(night.root, night.suite, night.rules, night.baseline, accept=True)
    conclude_night(accepting, str(make_ledger("20260301-021700", ["+" * 95 + "-" * 5])), NOW, None)
    for name, outcomes, n in (("20260302-021700", "-" * 100, 1), ("20260303-021700", "+" * 100, 2)):
        conclude_night(accepting, str(make_ledger(name, [outcomes])), NOW + timedelta(days=n), None)
        assert len(read_baselines(night.root)) == n


@pytest.mark.parametrize(
    ("status", "policy", "continued"),
    [("interrupted", "pi", True), ("failed", "pi", True), ("finished", "pi", False), ("interrupted", "other", False)],
)
def test_a_night_that_was_cut_off_is_continued_with_the_same_policy(
    make_ledger, night: NightlyRequest, status: str, policy: str, continued: bool
) -> None:
    out = make_ledger("20260301-021700", ["+++"], status=status)
    make_ledger("controls", ["+++"], status="interrupted")
    assert open_night(night, policy, NOW) == (str(out) if continued else f"{night.root}/20260302-021700")


def test_wrong_rules_are_refused_before_hours_of_episodes(night: NightlyRequest) -> None:
    with pytest.raises(UsageError, match="nihgtly"):
        open_night(NightlyRequest(night.root, "nightly", "nihgtly", "main", accept=False), "pi", NOW)


def test_a_night_that_has_its_verdict_or_is_the_baseline_is_not_continued(make_ledger, night: NightlyRequest) -> None:
    first = make_ledger("20260301-021700", ["+" * 100], status="failed")
    conclude_night(night, str(first), NOW, None)
    assert open_night(night, "pi", NOW) == f"{night.root}/20260302-021700", "the baseline is over"
    second = make_ledger("20260302-021700", ["+" * 100], status="failed")
    conclude_night(night, str(second), NOW, None)
    assert open_night(night, "pi", NOW + timedelta(days=1)) == f"{night.root}/20260303-021700", "it was judged"


def test_the_baseline_is_never_judged_against_itself(make_ledger, night: NightlyRequest) -> None:
    first = make_ledger("20260301-021700", ["+" * 100])
    conclude_night(night, str(first), NOW, None)
    with pytest.raises(LedgerError, match="is itself the baseline"):
        conclude_night(night, str(first), NOW, None)


def test_a_night_that_did_not_run_is_told(tmp_path: Path) -> None:
    assert tell_failure(tell(tmp_path), "out", "pi", NodeError("Ray did not start.")) == ()
    assert (tmp_path / "told").read_text() == "ERROR "
    assert tell_failure(None, "out", "pi", NodeError("x")) == ()


def test_a_night_without_a_cluster_ends_with_3_and_is_told(
    night: NightlyRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NodeError("Ray did not start on this machine.")

    monkeypatch.setattr("harness.evaluation.run", refuse)
    argv = ["nightly", "-p", "noop", "--rules", night.rules, "--root", night.root, "--notify", tell(tmp_path)]
    assert invoke(argv) == 3
    assert (tmp_path / "told").read_text() == "ERROR "
    assert "Ray did not start" in capsys.readouterr().err


def test_a_night_that_goes_on_says_so(
    make_ledger, night: NightlyRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_ledger("20260301-021700", ["+++"], status="interrupted", policy="noop")
    monkeypatch.setattr("harness.evaluation.run", lambda *_, **__: SimpleNamespace(interrupted=True, out=out))
    assert invoke(["nightly", "-p", "noop", "--rules", night.rules, "--root", night.root]) == 130
    assert f"Continuing the night that was cut off: {out}" in capsys.readouterr().out

"""A night: continued when it was cut off, judged against the baseline, told whatever the telling does."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.gate.baseline import read_baselines
from harness.watch.nightly import NightlyRequest, conclude_night, open_night

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

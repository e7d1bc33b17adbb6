"""Whether a result is the published one: exact tests against each published row, and what few cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from harness.analysis.success.published import beside_success, load_published_success
from harness.cli.app import invoke
from harness.ledger import read

MakeLedger = Callable[..., Path]


def table(make_ledger: MakeLedger, solved: int, n: int, policy: str = "pi05", **options: Any) -> pd.DataFrame:
    ledger = read(make_ledger("l", ["+" * solved + "-" * (n - solved)], policy=policy, **options))
    return beside_success(ledger.episodes, ledger.manifests, load_published_success())


def row(frame: pd.DataFrame, variant: str, nfe: int = 10, source: str = "") -> pd.Series[Any]:
    chosen = frame[(frame["variant"] == variant) & (frame["published_nfe"] == nfe)]
    return chosen[chosen["source"].str.contains(source, regex=False)].iloc[0]


def test_nineteen_of_twenty_are_consistent_with_500_episodes_and_say_nothing_about_twenty(
    make_ledger: MakeLedger,
) -> None:
    found = table(make_ledger, 19, 20, nfe=10)
    many = row(found, "openpi pi05_libero, run again")
    assert (many["published_rate"], many["published_n"]) == (pytest.approx(0.974), 500)
    assert many["verdict"] == "consistent"
    assert many["p"] == pytest.approx(stats.fisher_exact([[19, 1], [487, 13]]).pvalue)
    few = row(found, "lerobot/pi05-libero")
    assert few["verdict"] == "cannot tell at this n"
    assert few["low"] == pytest.approx(0.751, abs=1e-3)


def test_what_is_far_off_is_worse_and_what_is_above_is_better(make_ledger: MakeLedger) -> None:
    assert row(table(make_ledger, 12, 20), "openpi pi05_libero")["verdict"] == "worse"
    smolvla = table(make_ledger, 500, 500, policy="lerobot:smolvla")
    old = smolvla[smolvla["variant"] == "0.24B"].iloc[0]
    assert (old["verdict"], old["p"]) == ("better", pytest.approx(stats.binomtest(500, 500, 0.87).pvalue))


@pytest.mark.parametrize("n", [20, 100, 500])
def test_a_rate_that_would_be_found_is_found_in_four_of_five_evaluations(make_ledger: MakeLedger, n: int) -> None:
    found = row(table(make_ledger, n, n), "openpi pi05_libero")
    worse = [k for k in range(n) if k / n < 0.988 and stats.fisher_exact([[k, n - k], [494, 6]]).pvalue <= 0.05]
    assert stats.binom.cdf(max(worse), n, found["found_below"]) == pytest.approx(0.8)


def test_two_episodes_never_tell(make_ledger: MakeLedger) -> None:
    found = table(make_ledger, 2, 2, policy="lerobot:groot")
    assert set(found["variant"]) == {"N1", "N1.6", "N1.7"}
    assert set(found["verdict"]) == {"cannot tell at this n"}


def test_the_differing_keys_of_the_protocol_are_named_with_both_values(make_ledger: MakeLedger) -> None:
    manifest = {"suite": "libero_spatial", "max_steps": 280, "settle_steps": 10, "replan_interval": 10}
    found = table(make_ledger, 19, 20, nfe=1, manifest=manifest)
    told = row(found, "openpi pi05_libero")["differences"]
    assert "max_steps 280 against 220" in told
    assert "replan_interval 10 against 5" in told
    assert "nfe 1 against 10" in told
    assert not any("settle" in text for text in told)
    assert row(found, "SnapFlow teacher", source="2604.05656")["differences"][-1].startswith("published without")


def test_the_rows_of_the_source_s_week_are_there() -> None:
    table = load_published_success()
    week = table[table["source"].str.startswith("Haptic")]
    told = week.set_index(["checkpoint_or_variant", "nfe"])["success_percent"].to_dict()
    assert told["SnapFlow student", 10] == told["SnapFlow student", 1] == 95
    rates = week.set_index("checkpoint_or_variant")["success_percent"]
    assert (rates["fine-tune, step 2,000"], rates["fine-tune, step 4,000"]) == (95, 100)
    assert set(week["episodes"]) == {20}


def test_an_imported_file_is_held_against_the_published_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        {"task_group": "libero_spatial", "task_id": k, "metrics": {"successes": [True, k != 7]}} for k in range(10)
    ]
    (tmp_path / "eval_info.json").write_text(json.dumps({"per_task": tasks}))
    for name, policy in (("named", ["--policy", "pi05"]), ("nameless", [])):
        assert invoke(["import", str(tmp_path / "eval_info.json"), "--out", str(tmp_path / name), *policy]) == 0
    capsys.readouterr()
    assert invoke(["report", str(tmp_path / "named"), "--published", "--markdown", "-"]) == 0
    out = capsys.readouterr().out
    assert "## Published success" in out
    assert "19/20 = 95 %" in out
    assert "cannot tell at this n" in out
    assert invoke(["report", str(tmp_path / "nameless"), "--published"]) == 64
    assert "--policy pi05" in capsys.readouterr().err

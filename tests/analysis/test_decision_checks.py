"""Specification of what stands beside a latency."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from harness.analysis.latency.checks import decision_checks, is_far
from harness.analysis.summary import Summary
from harness.ledger import Ledger, LedgerWriter, read
from harness.report.opening import opening
from harness.report.tables.checks import FAR, check_table

BASE = {
    "run_id": "r",
    "node_id": "n",
    "hardware": "h",
    "policy_id": "p",
    "nfe": 10,
    "dtype": "bfloat16",
    "batch_size": 1,
}


def sample(index: int, latency_ms: float, component: str = "e2e", **changes: Any) -> dict[str, Any]:
    return {**BASE, "sample": index, "component": component, "latency_ms": latency_ms, **changes}


def difference(**changes: Any) -> dict[str, Any]:
    row = {**BASE, "variant": "graphs=true", "reference": "ref", "decisions": 4}
    return {**row, "cosine": 0.9999, "max_abs": 0.01, "rms": 0.01, "observation_rms": 1.0, **changes}


@pytest.fixture
def ledger(tmp_path: Any) -> Any:
    def write(latency: list[dict[str, Any]], differences: list[dict[str, Any]]) -> Ledger:
        writer = LedgerWriter(str(tmp_path / "ledger"))
        writer.append("latency", latency)
        if differences:
            writer.append("differences", differences)
        return read(tmp_path / "ledger")

    return write


def test_medians_stand_with_and_without_the_throttled_samples(ledger: Any) -> None:
    rows = [sample(n, ms, throttled=ms > 50) for n, ms in enumerate([10.0, 11.0, 12.0, 90.0, 95.0])]
    found = ledger(rows, [])
    (row,) = decision_checks(found.latency, found.differences).to_dict("records")
    assert (row["n"], row["median"], row["cool_n"], row["cool_median"]) == (5, 12, 3, 11)


def test_components_are_held_to_the_decision_before_them(ledger: Any) -> None:
    rows = [sample(0, 10.0), sample(1, 4.0, "prefix"), sample(1, 5.8, "denoise_step")]
    rows += [sample(2, 20.0), sample(3, 9.0, "prefix"), sample(3, 10.8, "denoise_step"), sample(4, 30.0)]
    found = ledger(rows, [])
    (row,) = decision_checks(found.latency, found.differences).to_dict("records")
    assert row["parts"] == pytest.approx((0.98 + 0.99) / 2)


def test_energy_is_a_mean_and_compile_time_and_company_are_told(ledger: Any) -> None:
    rows = [sample(n, 10.0, energy_j=float(n), compile_s=4.5, shared=n == 1, compile="default") for n in range(4)]
    found = ledger(rows, [])
    (row,) = decision_checks(found.latency, found.differences).to_dict("records")
    assert (row["energy_j"], row["compile_s"], row["shared"]) == (1.5, 4.5, True)
    assert check_table(Summary(found)).rows[0][-1] == "not alone"
    assert pd.isna(row["energy_low"])


def test_the_interval_of_energy_is_over_launches(ledger: Any) -> None:
    rows = [
        sample(n, 10.0, energy_j=2.0 + launch + (n % 2) / 10, launch=launch) for launch in range(3) for n in range(4)
    ]
    found = ledger(rows, [])
    (row,) = decision_checks(found.latency, found.differences).to_dict("records")
    # Means of three launches 1 J apart, t of two degrees of freedom: 4.303 / √3.
    assert row["energy_high"] - row["energy_low"] == pytest.approx(2 * 4.3027 / 3**0.5, rel=1e-3)
    assert row["energy_low"] < row["energy_j"] < row["energy_high"]
    assert "–" in check_table(Summary(found)).rows[0][5]


def test_a_variant_stands_beside_its_difference_and_a_wrong_one_is_marked(ledger: Any) -> None:
    rows = [sample(0, 10.0, compile="eager"), sample(0, 5.0, compile="eager", policy_id="fast", variant="graphs=true")]
    right, wrong = difference(compile="eager"), difference(compile="eager", policy_id="fast", cosine=0.7)
    found = ledger(rows, [right, wrong])
    table = check_table(Summary(found))
    assert [row[-1] for row in table.rows] == [FAR, "same"]
    assert table.rows[0][table.columns.index("cosine")] == "0.700000"
    notice = next(notice for notice in opening(Summary(found)).notices if "do not answer" in notice.title)
    assert "fast" in notice.text
    assert "p @" not in notice.text


def test_keys_of_both_tables_meet_where_a_column_is_unknown(ledger: Any) -> None:
    rows = [sample(0, 10.0, hardware=None, nfe=None)]
    found = ledger(rows, [difference(hardware=None, nfe=None)])
    (row,) = decision_checks(found.latency, found.differences).to_dict("records")
    assert row["cosine"] == pytest.approx(0.9999)


@pytest.mark.parametrize(
    ("changes", "far"),
    [
        ({}, False),
        ({"cosine": 0.998}, True),
        ({"rms": 0.2}, True),
        ({"rms": 0.2, "observation_rms": 0.0}, False),
        ({"cosine": float("nan")}, True),
    ],
)
def test_what_counts_as_another_answer(changes: dict[str, float], far: bool) -> None:
    assert is_far(pd.DataFrame([difference(**changes)])).tolist() == [far]


def test_a_ledger_without_probes_has_no_such_table(ledger: Any) -> None:
    assert check_table(Summary(ledger([sample(0, 10.0)], []))).rows == ()

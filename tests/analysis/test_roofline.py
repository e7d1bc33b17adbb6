"""Specification of floors and verdicts, on ledgers whose every time is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_probe import H100, PARTS, Work, busy_ms, wall_ms, write_probe

from harness.analysis.latency.roofline import Demand, Floors, Rates, claims, floors, judge, roofline, work_of
from harness.ledger import Ledger, read
from harness.report.tables.table import records

RATES = Rates(1000.0, {"bf16": 100.0, "fp32": 10.0}, 5.0)
DEMAND = Demand({"bf16": 200e9, "fp32": 10e9}, 4e9, 100, None)


def judged(ledger: Ledger) -> dict[tuple[int, str], dict[str, Any]]:
    table = roofline(ledger.latency, ledger.counts, ledger.nodes)
    return {(row["nfe"], row["component"]): row for row in records(table)}


def test_floors_are_bytes_flops_and_launches_at_the_rates_of_the_device() -> None:
    found = floors(DEMAND, RATES)
    assert found == pytest.approx(Floors(4.0, 2.0 + 1.0, 0.5))


def test_the_launch_floor_is_the_time_in_which_the_device_stood_idle_where_that_is_known() -> None:
    assert floors(DEMAND._replace(busy_ms=6.0), RATES, wall_ms=10.0).launch == pytest.approx(4.0)


def test_a_missing_rate_leaves_its_floor_unknown_and_not_zero() -> None:
    assert floors(DEMAND, Rates(None, {"bf16": 100.0}, None)) == Floors(None, None, None)
    assert floors(DEMAND._replace(flops_by_format={}), RATES).compute == 0


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Floors(6, 1, 1), "bandwidth-bound"),
        (Floors(1, 6, 1), "compute-bound"),
        (Floors(1, 1, 6), "launch-bound"),
        (Floors(3, 3, 3), "mixed"),
        (Floors(1, None, 1), "unknown"),
        (Floors(None, None, 6), "launch-bound"),
        (Floors(12, 1, 1), "unknown"),
    ],
)
def test_the_verdict_is_the_floor_that_explains_half_of_the_time(found: Floors, verdict: str) -> None:
    answer = judge(found, 10.0)
    assert answer.name == verdict
    assert answer.reason


def test_components_of_a_ledger_are_judged_by_their_own_counts(tmp_path: Path) -> None:
    slow_host = {**PARTS, "denoise_step": PARTS["denoise_step"]._replace(host_ms=25.0)}
    table = judged(read(write_probe(tmp_path / "l", parts=slow_host)))
    step = table[10, "denoise_step"]
    assert step["wall"] == pytest.approx(25.0)
    assert step["launch"] == pytest.approx(25.0 - busy_ms(PARTS["denoise_step"], H100))
    assert step["verdict"] == "launch-bound"
    assert table[10, "prefix"]["compute"] == pytest.approx(3000 / H100.bf16)
    assert table[1, "e2e"]["calls"] == 1


def test_bandwidth_bound_is_a_verdict_that_the_data_can_reach_or_reject(tmp_path: Path) -> None:
    memory = {"prefix": Work(1, 20_000, 10, 0)}
    bound = read(write_probe(tmp_path / "a", parts=memory))
    answers = {claim.claim: claim.answer for claim in claims(roofline(bound.latency, bound.counts, bound.nodes))}
    # The invented GPU reaches half of its roofline less its kernels' 3 µs: a hair below the half that would settle it.
    assert answers == {"bandwidth-bound": "open", "compute-bound": "rejected", "launch-bound": "rejected"}

    waiting = read(write_probe(tmp_path / "b", parts={"prefix": PARTS["prefix"]._replace(host_ms=60.0)}))
    found = {claim.claim: claim for claim in claims(roofline(waiting.latency, waiting.counts, waiting.nodes))}
    assert {name: claim.answer for name, claim in found.items()} == {
        "bandwidth-bound": "rejected",
        "compute-bound": "rejected",
        "launch-bound": "holds",
    }
    assert found["bandwidth-bound"].reason == "the bandwidth floor explains 2% of 60 ms"


def test_without_counts_or_calibration_the_verdict_is_unknown_and_says_why(tmp_path: Path) -> None:
    table = judged(read(write_probe(tmp_path / "l", counted=False)))
    assert {row["verdict"] for row in table.values()} == {"unknown"}
    assert {row["reason"] for row in table.values()} == {"this component was not counted"}


def test_a_variant_whose_graph_hides_its_operators_borrows_the_work_of_the_eager_one(tmp_path: Path) -> None:
    eager = write_probe(tmp_path / "l")
    write_probe(eager, policy="lerobot:pi05?weights=random&dtype=bfloat16&graphs=true", counted=False, run="g")
    table = read(eager)
    found = roofline(table.latency, table.counts, table.nodes)
    graphs = found[found["policy_id"].str.contains("graphs") & (found["component"] == "prefix")]
    assert graphs["compute"].notna().all()
    assert graphs["busy"].isna().all()
    # The eager operators are not what a graph launches.
    assert graphs["launch"].isna().all()


def test_options_that_change_the_work_keep_policies_apart() -> None:
    assert work_of("p?seed=1&graphs=true&compile=default") == "p?seed=1"
    assert work_of("p?quantize=int8") != work_of("p")
    assert work_of("p?graphs=true") == work_of("p")


def test_a_ledger_from_before_the_rates_by_format_is_still_judged(tmp_path: Path) -> None:
    ledger = read(write_probe(tmp_path / "l"))
    nodes = ledger.nodes.assign(matmul_by_format=None)
    table = roofline(ledger.latency, ledger.counts, nodes)
    assert (table["compute_share"] > 0).all()


def test_walls_of_the_invented_gpu_are_what_its_rates_say() -> None:
    prefix = PARTS["prefix"]
    assert wall_ms(prefix, H100) == pytest.approx(2 * 3000 / H100.bf16 + 1.8)

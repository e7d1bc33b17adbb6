"""Claims across devices: time ratios against what the devices can do, from ledgers and from published points."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_probe import H100, H200, PARTS, Work, write_probe

from harness.analysis.latency.scaling import Measure, device_points, scaling_claims
from harness.cli.app import invoke
from harness.errors import UsageError

A100, SPARK = "published:a100-sxm-80gb", "published:dgx-spark-gb10"


def test_a_ratio_is_as_uncertain_as_both_sides() -> None:
    ratio = Measure(10, 0.03).over(Measure(5, 0.04))
    assert (ratio.value, ratio.spread) == (2, pytest.approx(0.05))
    assert ratio.interval.low * ratio.interval.high == pytest.approx(4)


def test_the_source_s_fifteen_times_is_seven_and_a_half_and_neither_part_follows_it() -> None:
    points = device_points([A100, SPARK])
    assert [(round(point.step.value, 1), round(point.once.value, 1)) for point in points] == [
        (28.2, 78.8),
        (55.7, 742.3),
    ]
    found = {(claim.part, claim.resource): claim for claim in scaling_claims(points)}
    once, step = found["what runs once", "bandwidth"], found["a step", "bandwidth"]
    assert once.resource_ratio.value == pytest.approx(2039 / 273)
    assert not once.resource_ratio.interval.contains(15)
    assert (once.time_ratio.value, step.time_ratio.value) == (
        pytest.approx(9.42, abs=0.01),
        pytest.approx(1.97, abs=0.01),
    )
    assert {once.answer, step.answer} == {"rejected"}
    assert once.time_ratio.interval.contains(9.4)


def test_a_bandwidth_bound_step_is_consistent_with_bandwidth_and_with_nothing_else(tmp_path: Path) -> None:
    parts = {**PARTS, "denoise_step": Work(30, 8000, 10, 0)}
    ledgers = [str(write_probe(tmp_path / gpu.hardware, gpu, parts=parts)) for gpu in (H100, H200)]
    points = device_points(ledgers)
    found = {(claim.part, claim.resource): claim for claim in scaling_claims(points)}
    assert found["a step", "bandwidth"].kind == "measured"
    assert found["a step", "bandwidth"].answer == "consistent"
    assert found["a step", "bf16 rate"].answer == "rejected"


def test_another_graph_is_not_held_against_what_lerobot_published(tmp_path: Path) -> None:
    plain = str(write_probe(tmp_path / "plain", H100, parts=PARTS))
    graphs = str(
        write_probe(tmp_path / "graphs", H100, policy="lerobot:pi05?weights=random&dtype=bfloat16&graphs=true")
    )
    assert scaling_claims(device_points([plain, SPARK]))
    assert not scaling_claims(device_points([graphs, SPARK]))


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("published:h200", "two NFE values"),
        ("published:dgx-spark", "Did you mean 'dgx-spark-gb10'"),
        ("published:jetson-thor-t5000", "pi05 with ApxInf FP8"),
    ],
)
def test_a_point_without_a_line_is_refused_with_what_there_is(argument: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        device_points([argument])


def test_a_stack_is_chosen_by_name() -> None:
    (point,) = device_points(["published:jetson-thor-t5000:ApxInf FP8"])
    assert point.step.value == pytest.approx((41.16 - 26.32) / 9)


def test_the_command_prints_claims_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "claims.json"
    assert invoke(["prefix", A100, SPARK, "--json", str(out)]) == 0
    assert "what runs once scales with bandwidth" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["roofline"] == []
    assert {claim["answer"] for claim in content["across"]} == {"rejected"}
    ledger = str(write_probe(tmp_path / "l", H100))
    assert invoke(["prefix", ledger, SPARK]) == 0
    printed = capsys.readouterr().out
    assert "What limits each component" in printed
    assert "Claims across devices" in printed


def test_profiles_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    names = "a100-sxm-80gb,dgx-spark-gb10"
    assert invoke(["list", "profiles", "--compare", names]) == 0
    assert "7.47" in capsys.readouterr().out
    assert invoke(["list", "profiles", "--compare", names, "--json"]) == 0
    rows = {row["figure"]: row for row in json.loads(capsys.readouterr().out)["figures"]}
    assert rows["bandwidth"]["over dgx-spark-gb10"] == pytest.approx(2039 / 273)
    assert rows["fp4 rate"]["a100-sxm-80gb"] is None
    for argv in (["profiles", "--compare", "h200"], ["suites", "--compare", names]):
        assert invoke(["list", *argv]) == 64

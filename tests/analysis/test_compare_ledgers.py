"""Comparing two real ledgers: pairs by key, refusals, flips, latency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.analysis.latency.checks import decision_checks
from harness.analysis.paired.compare import MAX_FLIPS, Choice, compare
from harness.analysis.paired.overlap import _in_common, failure_overlap
from harness.analysis.paired.statistics import PairCounts
from harness.errors import LedgerError, UsageError
from harness.ledger import LedgerWriter, read
from harness.report.gate.json import render_json
from harness.report.gate.tables import time_rows

MANIFEST = {"suite": "libero_spatial", "max_steps": 280, "version.mujoco": "3.3.2"}


def samples(values: Any, component: str = "e2e", **columns: Any) -> list[dict[str, Any]]:
    row = {"hardware": "h100", "node_id": "n", "nfe": 10, "batch_size": 1, "component": component, **columns}
    return [{**row, "sample": place, "latency_ms": float(value)} for place, value in enumerate(values)]


def test_episodes_pair_by_key_and_the_rest_is_counted(make_ledger: Any) -> None:
    base = make_ledger("base", ["++-+ ", "+++++"])
    new = make_ledger("new", ["+-++-", "+++  "])
    (success,) = compare(base, new).success
    assert success.overall.counts == PairCounts(both=5, lost=1, gained=1, neither=0)
    assert (success.pairing.only_base, success.pairing.only_candidate) == (2, 1)
    assert success.overall.difference.contains(0)


def test_flips_are_listed_in_both_directions_with_their_videos(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++-"]), make_ledger("new", ["+-+"])
    (success,) = compare(base, new).success
    lost, gained = success.flips
    assert (lost.direction, lost.init_state_id, lost.base_video) == ("lost", 1, None)
    assert lost.candidate_video == f"{new}/videos/0-1.mp4"
    assert (gained.direction, gained.init_state_id, gained.candidate_video) == ("gained", 2, None)
    assert gained.base_video == f"{base}/videos/0-2.mp4"


def test_a_list_of_flips_keeps_room_for_both_directions(make_ledger: Any) -> None:
    base = make_ledger("base", ["+" * 1500 + "-" * 20])
    new = make_ledger("new", ["-" * 1500 + "+" * 20])
    (success,) = compare(base, new).success
    assert len(success.flips) == MAX_FLIPS
    assert sum(flip.direction == "gained" for flip in success.flips) == 20
    assert success.overall.counts.lost == 1500


def test_what_both_miss_is_listed_with_key_and_videos_beside_chance(make_ledger: Any) -> None:
    outcomes = ["++"] * 7 + ["+-"] + ["++"] * 2
    base, new = make_ledger("base", outcomes), make_ledger("new", outcomes)
    (success,) = compare(base, new).success
    (missed,) = success.missed
    assert (missed.direction, missed.task_id, missed.init_state_id) == ("missed", 7, 1)
    assert missed.base_video == f"{base}/videos/7-1.mp4"
    assert missed.candidate_video == f"{new}/videos/7-1.mp4"
    assert missed.episode_key in read(base).episodes["episode_key"].tolist()
    overlap = success.overlap
    assert (overlap.both, overlap.n, overlap.expected) == (1, 20, pytest.approx(1 / 20))
    assert overlap.p == pytest.approx(1 / 20)  # one failure each: the same one of twenty
    assert (overlap.expected_in_tasks, overlap.p_in_tasks) == (pytest.approx(1 / 2), pytest.approx(1 / 2))


def test_overlap_given_the_tasks_is_the_product_of_their_laws() -> None:
    rng = np.random.default_rng(0)
    base, new, tasks = rng.random(30) < 0.6, rng.random(30) < 0.5, np.repeat(np.arange(3), 10)
    found = failure_overlap(base, new, tasks, np.ones(30, dtype=bool))
    shuffled = np.array([[rng.permutation(part) for part in new.reshape(3, 10)] for _ in range(20_000)]).reshape(-1, 30)
    common = (~shuffled & ~base).sum(axis=1)
    assert found.expected_in_tasks == pytest.approx(common.mean(), rel=0.02)
    assert found.p_in_tasks == pytest.approx((common >= found.both).mean(), abs=0.02)
    assert failure_overlap(np.ones(30, dtype=bool), new, tasks, np.ones(30, dtype=bool)) is None


def test_errors_are_in_no_overlap(make_ledger: Any) -> None:
    (success,) = compare(make_ledger("base", ["-!--+"]), make_ledger("new", ["!---+"])).success
    assert [pair.init_state_id for pair in success.missed] == [2, 3]
    assert (success.overlap.base_failures, success.overlap.n) == (2, 3)


def test_wall_time_is_split_into_policy_and_simulator(make_ledger: Any) -> None:
    parts = {"reset_s": 1.0, "physics_s": 4.0, "render_s": 1.0, "policy_wait_s": 3.0, "wall_s": 10.0}
    base = make_ledger("base", ["++++"], nfe=10, **parts)
    new = make_ledger("new", ["++++"], nfe=10, **{**parts, "policy_wait_s": 1.0, "wall_s": 8.0})
    (success,) = compare(base, new).success
    old, fast = success.times
    assert (old.episode_s, old.policy_share, old.simulator_share) == (10.0, pytest.approx(0.3), pytest.approx(0.6))
    assert (fast.episode_s, fast.policy_share) == (8.0, pytest.approx(1 / 8))
    assert old.elapsed_s == 10.0  # all four began at once
    assert "An episode: 0.800." in time_rows(success).note


def test_wall_time_of_a_ledger_without_times_is_not_told(make_ledger: Any) -> None:
    (success,) = compare(make_ledger("base", ["++"]), make_ledger("new", ["++"])).success
    assert success.times == (None, None)
    assert not time_rows(success).rows


def test_errors_are_left_out_and_also_counted_as_failures(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++++-!"]), make_ledger("new", ["++!-++"])
    (success,) = compare(base, new).success
    assert success.overall.counts == PairCounts(both=2, lost=1, gained=1, neither=0)
    assert success.overall.counts_with_errors == PairCounts(both=3, lost=2, gained=1, neither=0)
    assert (success.errors_base, success.errors_candidate) == (1, 1)


def test_tasks_are_judged_one_by_one_with_holm(make_ledger: Any) -> None:
    base = make_ledger("base", ["+" * 12, "+" * 12, "+-" * 6])
    new = make_ledger("new", ["-" * 12, "+" * 12, "-+" * 6])
    (success,) = compare(base, new).success
    p = [task.p for task in success.tasks]
    assert [task.task_id for task in success.tasks] == [0, 1, 2]
    assert p == pytest.approx([2 / 2**12, 1.0, 1.0])
    assert success.tasks[0].p_adjusted == pytest.approx(3 * p[0])
    assert success.tasks[0].task == "put bowl 0 on the plate"


def test_another_protocol_is_refused_with_the_key_and_both_values(make_ledger: Any) -> None:
    base = make_ledger("base", ["++"], manifest=MANIFEST)
    new = make_ledger("new", ["++"], manifest={**MANIFEST, "max_steps": 220})
    with pytest.raises(UsageError, match=r"max_steps: 280 against 220"):
        compare(base, new)


def test_the_last_finished_attempt_counts_once(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+!"]), make_ledger("new", ["+-"])
    rows = [
        {**row, "outcome": "success", "success": True, "attempt": 1}
        for row in _episodes(base)
        if row["outcome"] == "error"
    ]
    LedgerWriter(base).append("episodes", rows)
    (success,) = compare(base, new).success
    assert success.overall.counts == PairCounts(both=1, lost=1, gained=0, neither=0)
    assert (success.base.n, success.base.repeated) == (2, 1)


def test_ledgers_without_a_common_episode_compare_to_nothing_but_do_not_crash(make_ledger: Any) -> None:
    base, new = make_ledger("base", {0: "+++"}), make_ledger("new", {5: "+++"})
    (success,) = compare(base, new).success
    assert success.overall.counts.n == 0
    assert success.overall.difference == (-1.0, 1.0)
    assert success.tasks == ()
    assert success.detectable_drop is None


@pytest.mark.parametrize("letter", ["+", "-", "!"])
def test_one_class_only_has_finite_intervals(make_ledger: Any, letter: str) -> None:
    base, new = make_ledger("base", [letter * 20]), make_ledger("new", [letter * 20])
    (success,) = compare(base, new).success
    assert np.isfinite(success.overall.difference).all()
    assert success.overall.p == 1.0


def test_variants_with_equal_policy_and_nfe_are_compared(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++"], nfe=10), make_ledger("new", ["++"], nfe=10)
    for path, name in ((base, "base"), (new, "new")):
        LedgerWriter(path).append("episodes", [{**row, "nfe": 1} for row in _episodes(path)])
        assert name
    assert [(s.base.nfe, s.candidate.nfe) for s in compare(base, new).success] == [(1, 1), (10, 10)]
    chosen = compare(base, new, choice=Choice(base_nfe=10, nfe=1))
    assert [(s.base.nfe, s.candidate.nfe) for s in chosen.success] == [(10, 1)]


def test_one_variant_on_each_side_is_compared_whatever_its_name(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++"], policy="old"), make_ledger("new", ["++"], policy="new")
    (success,) = compare(base, new).success
    assert (success.base.label, success.candidate.label) == ("old", "new")


def test_an_unknown_choice_is_answered_with_what_there_is(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++"], nfe=10), make_ledger("new", ["++"], nfe=10)
    with pytest.raises(UsageError, match=r"any policy @ NFE 3.*It has: pi @ NFE 10"):
        compare(base, new, choice=Choice(nfe=3))


def test_two_checkpoints_under_one_name_are_refused(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["++"]), make_ledger("new", ["++"])
    LedgerWriter(base).append("episodes", [{**_episodes(base)[0], "checkpoint_sha256": "another"}])
    with pytest.raises(LedgerError, match="2 different checkpoints"):
        compare(base, new)


def test_a_missing_ledger_is_named(make_ledger: Any, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="nowhere"):
        compare(make_ledger("base", ["+"]), tmp_path / "nowhere")


def test_latency_ratios_of_medians_and_p99(make_ledger: Any) -> None:
    rng = np.random.default_rng(5)
    old = 100 * np.exp(0.05 * rng.standard_normal(2000))
    new = 110 * np.exp(0.05 * rng.standard_normal(2000))
    base = make_ledger("base", ["+"], latency=samples(old, dtype="float32", power_w=300.0, memory_bytes=2**30))
    cand = make_ledger("new", ["+"], latency=samples(new, dtype="bfloat16", power_w=300.0, memory_bytes=2**31))
    (latency,) = compare(base, cand).latency
    assert latency.median.ratio == pytest.approx(1.1, abs=0.005)
    assert latency.median.interval is not None
    assert latency.median.interval.contains(1.1)
    assert latency.p99.interval is not None
    assert latency.p99.interval.contains(1.1)
    assert latency.slower > 0.9
    # One process a side: nothing is known of the next, so there is no test.
    assert latency.median.within
    assert latency.median.p is None
    assert latency.memory_ratio == 2.0
    assert latency.energy_ratio == pytest.approx(1.1, abs=0.01)


def test_the_same_seed_gives_the_same_interval(make_ledger: Any) -> None:
    base = make_ledger("base", ["+"], latency=samples(range(1, 101)))
    new = make_ledger("new", ["+"], latency=samples(range(2, 102)))
    assert compare(base, new).latency[0].median == compare(base, new).latency[0].median


def test_too_few_samples_have_no_interval_of_p99(make_ledger: Any) -> None:
    values = np.random.default_rng(3).permutation(np.arange(1, 101))
    base, new = (make_ledger(name, ["+"], latency=samples(values)) for name in ("base", "new"))
    (latency,) = compare(base, new).latency
    assert latency.p99.interval is None
    assert latency.median.interval is not None


def test_drifting_samples_count_for_few(make_ledger: Any) -> None:
    base, new = (make_ledger(name, ["+"], latency=samples(range(1, 101))) for name in ("base", "new"))
    (latency,) = compare(base, new).latency
    assert max(latency.median.effective) < 10
    assert latency.median.interval is None


def test_several_devices_are_compared_each_with_itself(make_ledger: Any) -> None:
    both = [*samples([1, 2, 3]), *samples([10, 20, 30], hardware="orin")]
    latency = compare(make_ledger("base", ["+"], latency=both), make_ledger("new", ["+"], latency=both)).latency
    assert [(item.base.hardware, item.candidate.hardware) for item in latency] == [("h100", "h100"), ("orin", "orin")]


def test_another_device_is_compared_only_when_told_to(make_ledger: Any) -> None:
    base = make_ledger("base", ["+"], latency=samples([1, 2, 3]))
    new = make_ledger("new", ["+"], latency=samples([10, 20, 30], hardware="orin"))
    refused = compare(base, new)
    assert not refused.latency
    assert any("h100 (base) and of orin (candidate) are not compared" in notice for notice in refused.notices)
    (latency,) = compare(base, new, across=True).latency
    assert (latency.base.hardware, latency.candidate.hardware) == ("h100", "orin")
    with pytest.raises(UsageError, match=r"orin \(candidate\) are not compared.*--hardware any"):
        compare(make_ledger("b", [], latency=samples([1])), make_ledger("c", [], latency=samples([1], hardware="orin")))


def test_pairs_across_two_classes_of_machines_are_counted(make_ledger: Any) -> None:
    base = make_ledger("base", ["+++-"], node_id="a")
    LedgerWriter(base).append("nodes", [{"run_id": "run-base", "node_id": "a", "isa": "avx512", "gl": "osmesa"}])
    mixed = make_ledger("mixed", ["++", "+-"], node_id="b")
    LedgerWriter(mixed).append("nodes", [{"run_id": "run-mixed", "node_id": "b", "isa": "avx2", "gl": "osmesa"}])
    told = [notice for notice in compare(base, mixed).notices if "two classes" in notice]
    assert told == [
        "pi against pi: 2 of 2 pairs have their episodes on machines of two classes (instruction sets, numbers of "
        "threads, renderers). No canaries have compared the two (`harness run --canaries always` on a cluster that has "
        "both)."
    ]
    assert json.loads(render_json(compare(base, mixed)))["notices"] == list(compare(base, mixed).notices)
    same = make_ledger("same", ["++++"], node_id="b")
    LedgerWriter(same).append("nodes", [{"run_id": "run-same", "node_id": "b", "isa": "avx512", "gl": "osmesa"}])
    assert not any("two classes" in notice for notice in compare(base, same).notices)


def test_two_cpus_of_one_profile_are_two_machines(make_ledger: Any) -> None:
    def ledger(name: str, cpu: str, cores: int) -> str:
        path = make_ledger(name, [], latency=samples([1, 2, 3], hardware="cpu", run_id="r"))
        LedgerWriter(path).append("nodes", [{"run_id": "r", "node_id": "n", "cpu": cpu, "cores": cores}])
        return str(path)

    base, same = ledger("base", "EPYC 7742", 2), ledger("same", "EPYC 7742", 2)
    assert [item.base.machine.name for item in compare(base, same).latency] == ["cpu, EPYC 7742, 2 cores"]
    with pytest.raises(UsageError, match=r"cpu, EPYC 7742, 2 cores .base. and of cpu, Xeon 8481C, 2 cores"):
        compare(base, ledger("other", "Xeon 8481C", 2))


def test_the_interval_of_several_launches_is_about_launches(make_ledger: Any) -> None:
    """Two launches a side that differ by 2 %: their samples alone would claim half a per cent."""
    rng = np.random.default_rng(5)

    def launched(*levels: float) -> list[dict[str, Any]]:
        return [
            row
            for launch, level in enumerate(levels)
            for row in samples(level * np.exp(0.05 * rng.standard_normal(2000)), launch=launch)
        ]

    (latency,) = compare(
        make_ledger("base", [], latency=launched(99, 101, 100)), make_ledger("new", [], latency=launched(101, 103, 102))
    ).latency
    assert len(latency.base.launches) == 3
    assert not latency.median.within
    assert latency.median.ratio == pytest.approx(1.02, abs=0.005)
    assert latency.median.interval is not None
    assert latency.median.interval.contains(1.0)
    assert latency.median.interval.high - latency.median.interval.low > 0.03
    assert latency.median.p is not None
    assert 0.05 < latency.median.p < 0.5


def test_what_a_counter_measured_is_the_energy_wherever_it_is_told(make_ledger: Any) -> None:
    """100 W for 10 ms are 1 J, but the counter says 5."""
    rows = samples([10.0, 10.0], power_w=100.0, energy_j=5.0)
    (latency,) = compare(*(make_ledger(name, [], latency=rows) for name in ("base", "new"))).latency
    ledger = read(make_ledger("reported", [], latency=rows))
    (check,) = decision_checks(ledger.latency, ledger.differences).to_dict("records")
    assert latency.base.energy_j == check["energy_j"] == 5.0
    derived = samples([10.0, 10.0], power_w=100.0)
    (latency,) = compare(*(make_ledger(name, [], latency=derived) for name in ("d", "e"))).latency
    assert latency.base.energy_j == 1.0


def _episodes(path: Path) -> list[dict[str, Any]]:
    from harness.ledger.parts import read_rows
    from harness.ledger.storage import Location

    return read_rows(Location.of(path), "episodes")


@pytest.mark.parametrize(("n", "a", "b"), [(10, 7, 8), (5, 5, 2), (500, 20, 31), (20_000, 600, 610)])
def test_common_failures_have_the_law_that_scipy_gives_them(n: int, a: int, b: int) -> None:
    expected = stats.hypergeom.pmf(np.arange(min(a, b) + 1), n, a, b)
    np.testing.assert_allclose(_in_common(n, a, b), expected, rtol=1e-6, atol=1e-12)


def test_what_canaries_found_stands_beside_the_pairs_that_cross_a_class(make_ledger: Any) -> None:
    base = make_ledger("base", ["++++"], node_id="a")
    LedgerWriter(base).append("nodes", [{"run_id": "run-base", "node_id": "a", "isa": "avx512"}])
    mixed = make_ledger("mixed", ["++++"], node_id="b", canary="outside")
    LedgerWriter(mixed).append("nodes", [{"run_id": "run-mixed", "node_id": "b", "isa": "avx2"}])
    check = {"run_id": "run-mixed", "kind": "episode", "reference_node_id": "a", "tolerance": 1e-3, "within": False}
    found = [{**check, "node_id": "a", "difference": 0.0}, {**check, "node_id": "b", "difference": 0.25}]
    LedgerWriter(mixed).append("canaries", found)
    told = " ".join(compare(base, mixed).notices)
    assert "Canaries of unlike machines differed by at most: episode 0.25 m or rad." in told
    assert "4 of 4 pairs have an episode on a machine outside the tolerance of the canaries." in told

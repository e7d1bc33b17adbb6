"""A run in simulated time obeys the scheduler's rules, and its bands hold what they say."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import count

import pytest

from harness.errors import UsageError
from harness.planning.draws import batch_samples, between_runs, find_basis
from harness.planning.evidence import EpisodeSample, RunEvidence, ServedTimes
from harness.planning.forecast import forecast
from harness.planning.scoring import NO_DATA, PLANNED, hold_out
from harness.planning.simulate import Setting, SimulatedRun, simulate
from harness.planning.suite_plan import changed_suite, plan_units
from harness.schedule.placement import NodeResources
from harness.schedule.units import EpisodeUnit
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import ClockName

SCRIPTED, FLOW = PolicyAtNfe("scripted", None), PolicyAtNfe("flow", 10)
FAST = ServedTimes({1: (0.1,) * 9, 2: (0.1,) * 9, 4: (0.1,) * 9}, (0.0,) * 9, 4, 0.01)


def evidence(
    run_id: str = "a", *, wall_s: float = 2.0, served: ServedTimes | None = None, **changes: object
) -> RunEvidence:
    """Twenty alike episodes of one policy on a node with four cores."""
    samples = tuple(
        EpisodeSample(("s", task), True, 100, 10, 0.0, wall_s, 0.0, 0.0, wall_s) for task in range(2) for _ in range(10)
    )
    variant = SCRIPTED if served is None else FLOW
    run = RunEvidence(
        run_id, run_id, "cpu", 4, 4, "finished", 10.0, 15.0, (5.0,), 0.0, (1.0,), (0.0,), 0.0, {variant: samples},
        {} if served is None else {variant: served},
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def units(n: int, policy: PolicyAtNfe = SCRIPTED, tasks: int = 1) -> list[EpisodeUnit]:
    return [EpisodeUnit(str(policy.policy_id), policy.nfe, "s", i % tasks, i, 0, f"{i:064x}", "p") for i in range(n)]


def node(name: str = "n", cores: int = 4, gpus: int = 0, hardware: str = "cpu") -> NodeResources:
    return NodeResources(name, name, cores, gpus, 1e12, hardware)


def run_once(
    plan: list[EpisodeUnit], run: RunEvidence, workers: int, nodes: tuple[NodeResources, ...] = ()
) -> SimulatedRun:
    setting = Setting(nodes or (node(),), workers)
    return simulate(plan, {"cpu": find_basis(plan, [run], hardware="cpu", load=1.0)}, setting, seed=0)


def test_one_worker_takes_the_sum_of_what_it_does() -> None:
    # start-up, one task to open, ten episodes
    assert run_once(units(10), evidence(), 1).finish_s == pytest.approx(5 + 1 + 10 * 2)


def test_workers_share_the_work_and_the_tail_is_told() -> None:
    outcome = run_once(units(9), evidence(), 4)
    assert outcome.finish_s == pytest.approx(5 + 1 + 3 * 2)
    assert sum((until - since) * shares[-1] for since, until, shares in outcome.spans) == pytest.approx(3 * 2)


def test_a_worker_opens_a_task_once_while_it_holds_it() -> None:
    outcome = run_once(units(20, tasks=2), evidence(), 1)
    assert outcome.finish_s == pytest.approx(5 + 2 * 1 + 20 * 2)


def test_every_episode_is_played_once_and_failed_attempts_again() -> None:
    failing = evidence(error_rate=0.3)
    outcome = run_once(units(40), failing, 4)
    assert outcome.errors > 0
    busy = sum(outcome.node_busy_s.values()) - 4 * 1.0
    assert round(busy / 2) >= 40 + outcome.errors * 0.5


def test_a_server_batches_who_waits_and_its_decisions_are_counted() -> None:
    run = evidence(served=FAST)
    alone, together = run_once(units(4, FLOW), run, 1), run_once(units(4, FLOW), run, 4)
    assert alone.decisions == together.decisions == 40
    assert alone.server_busy_s == pytest.approx(40 * 0.1)
    # Four that ask at once share batches of the same time.
    assert together.server_busy_s <= 0.5 * alone.server_busy_s + 1e-9
    assert together.finish_s < 5 + 1 + 2 + 20 * 0.1 + 0.2


def test_a_batch_size_that_was_not_timed_costs_what_the_others_say() -> None:
    timed = {1: (0.1,) * 9, 2: (0.2,) * 9}
    assert batch_samples(timed, 4)[0] == pytest.approx(0.4)
    assert batch_samples(timed, 2)[0] == pytest.approx(0.2)


def test_decisions_of_a_gpu_are_not_taken_for_those_of_a_node_without() -> None:
    plan, run = units(4, FLOW), evidence(served=FAST, hardware="h100-sxm-80gb")
    bases = {"cpu": find_basis(plan, [run], hardware="cpu", load=1.0)}
    with pytest.raises(UsageError, match="no GPU here"):
        simulate(plan, bases, Setting((node(),), 2), seed=0)


def test_ten_thousand_episodes_on_a_hundred_nodes_take_seconds() -> None:
    """0.9 s of one core of a Xeon; 51 s when each report sorted what is left and each idle worker asked on."""
    nodes = tuple(node(f"n{i}", cores=16) for i in range(100))
    began = time.process_time()
    outcome = run_once(units(10_000, tasks=2), evidence(wall_s=4.0), 1600, nodes)
    assert time.process_time() - began < 15
    # Start-up, opening a task or two, and seven rounds of 1,600.
    assert outcome.workers == 1600
    assert 5 + 1 + 7 * 4 <= outcome.finish_s <= 5 + 2 + 7 * 4


def made(plan: list[EpisodeUnit], runs: list[RunEvidence], **options: object) -> object:
    ticks = count()
    return forecast(plan, runs, Setting((node(),), 4), seconds=lambda: next(ticks) * 0.1, budget_s=1, **options)  # type: ignore[arg-type]


def test_a_policy_of_unknown_success_gets_the_band_from_none_to_all() -> None:
    short = [
        replace(s, success=i % 2 == 0, steps=100 if i % 2 == 0 else 300)
        for i, s in enumerate(evidence().episodes[SCRIPTED])
    ]
    run = evidence(episodes={SCRIPTED: tuple(short)})
    fresh = PolicyAtNfe("mine", None)
    known, unknown = made(units(40), [run]), made(units(40, fresh), [run], light=lambda _: True, max_steps={"s": 300})
    assert unknown.high_s - unknown.low_s > known.high_s - known.low_s  # type: ignore[attr-defined]
    assert any("0 to 100 %" in note for note in unknown.notes)  # type: ignore[attr-defined]


def test_runs_that_are_equally_near_are_each_one_way_it_may_go() -> None:
    narrow = made(units(40), [evidence("a"), evidence("b")])
    wide = made(units(40), [evidence("a", wall_s=1.0), evidence("b", wall_s=4.0)])
    assert wide.high_s / wide.low_s > 1.5 * narrow.high_s / narrow.low_s  # type: ignore[attr-defined]


def under(run: RunEvidence, clock: ClockName, source: str | None, **changes: object) -> RunEvidence:
    """The run's episodes under a clock."""
    played = {
        variant: tuple(replace(sample, timing=(clock, source), **changes) for sample in samples)  # type: ignore[arg-type]
        for variant, samples in run.episodes.items()
    }
    return replace(run, episodes=played)


def test_a_run_in_real_time_says_nothing_of_one_in_simulated_time() -> None:
    real, simulated = under(evidence("a", wall_s=14.0), "wall", None), evidence("b")
    source = find_basis(units(4), [real, simulated], hardware="cpu", load=1.0).policies[SCRIPTED]
    assert source.run.run_id == "b"
    waiting = [replace(unit, clock="wall") for unit in units(4)]
    source = find_basis(waiting, [real, simulated], hardware="cpu", load=1.0).policies[SCRIPTED]
    assert source.run.run_id == "a"
    # Four workers a core make nobody's clock slower, and a decision is made while time passes.
    busy = find_basis(waiting, [real], hardware="cpu", load=4.0).policies[SCRIPTED]
    assert {sample.wall_s for sample in busy.samples} == {14.0}


def test_a_policy_under_new_delays_succeeds_at_an_unknown_rate() -> None:
    delayed = [replace(unit, clock="asynchronous", latency_source="500 ms") for unit in units(4)]
    source = find_basis(delayed, [evidence()], hardware="cpu", load=1.0).policies[SCRIPTED]
    assert not source.known_success
    assert any("not played under this clock" in note for note in source.notes)
    played = under(evidence("b"), "asynchronous", "500 ms")
    assert find_basis(delayed, [evidence(), played], hardware="cpu", load=1.0).policies[SCRIPTED].known_success


def test_a_suite_that_was_not_timed_is_as_quick_as_runs_of_both_say() -> None:
    (samples,) = evidence().episodes.values()
    other = tuple(replace(sample, task=("t", sample.task[1]), physics_s=1.0) for sample in samples)
    both = evidence("both", hardware="h100-sxm-80gb", episodes={SCRIPTED: samples + other})
    plan = [replace(unit, suite="t") for unit in units(20)]
    alone = made(plan, [evidence()]).finish_s  # type: ignore[attr-defined]
    assert made(plan, [evidence(), both]).finish_s < alone - 4  # type: ignore[attr-defined]


def test_hosts_that_differ_more_make_a_wider_band() -> None:
    alike = between_runs([evidence(str(i)) for i in range(4)], "cpu")
    unlike = between_runs([evidence(str(i), wall_s=2.0 * 3**i) for i in range(4)], "cpu")
    assert alike < 0.15 < 1.0 < unlike
    assert between_runs([], "cpu") == pytest.approx(0.15)


def test_a_plan_holds_every_clock_and_every_source_of_delays() -> None:
    suite = changed_suite("devices", None, None, None)
    cells = {(unit.clock, unit.latency_source) for unit in plan_units(suite)}
    assert cells == {("synchronous", None)} | {
        (clock, source.source) for clock in ("blocking", "asynchronous", "rtc") for source in suite.latency
    }


def test_each_run_is_forecast_from_the_others_and_none_vanishes() -> None:
    runs = [evidence("a"), evidence("b", wall_s=2.2), evidence("c", status="interrupted")]
    ticks = count()
    score = hold_out(runs, seconds=lambda: next(ticks) * 0.1)
    assert score.statuses == {PLANNED: 2, "run interrupted": 1}
    by_run = {plan.run_id: plan for plan in score.plans}
    # 20 episodes for 4 workers: start-up, a task each, five episodes of 2 and of 2.2 s.
    assert by_run["b"].planned_s == pytest.approx(5 + 1 + 5 * 2.0, rel=0.15)
    assert by_run["a"].planned_s == pytest.approx(5 + 1 + 5 * 2.2, rel=0.15)
    assert score.mape is not None
    assert math.isclose(score.mape, sum(abs(p.error or 0) for p in score.plans) / 2)


def test_a_served_policy_that_nobody_served_is_no_data() -> None:
    ticks = count()
    score = hold_out([evidence("a"), evidence("b", served=FAST)], seconds=lambda: next(ticks) * 0.1)
    assert {plan.run_id: plan.status for plan in score.plans} == {"a": NO_DATA, "b": NO_DATA}


def test_nothing_to_draw_from_offers_the_calibration() -> None:
    with pytest.raises(UsageError, match="two minutes: `harness run seed"):
        find_basis(units(1), [], hardware="cpu", load=1.0)

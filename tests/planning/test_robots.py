"""How many robots one server feeds: a queue that is held against the theory of queues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.cli.app import invoke
from harness.errors import UsageError
from harness.planning.robots import ARRIVALS, Objective, ServiceTimes, _asked_s, _serve, capacity, parse_objective
from harness.planning.robots import service_times as read_times
from harness.spec.policy import PolicyAtNfe

FIFTY_TO_FIVE_HUNDRED = Objective(0.99, 100.0)


def times(by_batch: dict[int, list[float]]) -> ServiceTimes:
    return ServiceTimes(PolicyAtNfe("p", 1), "h100", {n: np.array(ms) for n, ms in by_batch.items()}, "a test")


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_lone_server_of_random_requests_is_a_queue_of_theory(share: float) -> None:
    """M/D/1: mean wait before service is share / (2 (1 - share)) services (Pollaczek and Khinchine)."""
    rng = np.random.default_rng(0)
    asked = _asked_s(20, share / 0.02 / 20, "poisson", rng)
    waits, busy, batch = _serve(times({1: [20.0]}), asked, 20, rng)
    assert busy == pytest.approx(share, rel=0.05)
    assert waits.mean() == pytest.approx(20 * (1 + share / (2 * (1 - share))), rel=0.15)
    assert batch == 1


@pytest.mark.parametrize("arrivals", ARRIVALS)
def test_the_answer_holds_one_more_does_not_and_no_server_is_busier_than_always(arrivals) -> None:
    found = capacity(times({1: [20.0, 22.0, 19.0]}), hz=2, objective=FIFTY_TO_FIVE_HUNDRED, arrivals=arrivals)
    loads = {load.robots: load for load in found.loads}
    assert loads[found.robots].quantile_ms <= 100 < loads[found.robots + 1].quantile_ms
    assert found.robots <= 1000 / 20 / 2
    assert all(load.busy <= 1 for load in found.loads)


def test_batches_feed_more_robots_and_a_longer_wait_on_the_network_fewer() -> None:
    alone, batched = times({1: [20.0]}), times({1: [20.0], 4: [25.0], 8: [30.0]})

    def robots(of: ServiceTimes, network_ms: float = 0.0) -> int:
        return capacity(of, hz=2, objective=FIFTY_TO_FIVE_HUNDRED, arrivals="poisson", network_ms=network_ms).robots

    assert robots(batched) > 2 * robots(alone) > 0
    assert robots(batched, 50.0) < robots(batched)
    assert robots(alone, 90.0) == 0


def test_one_slow_sample_of_a_rare_batch_does_not_make_a_larger_batch_the_quicker() -> None:
    seldom = times({1: [20.0] * 50, 2: [500.0], 4: [24.0] * 50})
    assert capacity(seldom, hz=2, objective=FIFTY_TO_FIVE_HUNDRED, arrivals="periodic").robots > 20


@pytest.mark.parametrize(("text", "share", "ms"), [("p99=100ms", 0.99, 100.0), ("p99.9=0.5s", 0.999, 500.0)])
def test_an_objective_is_a_percentile_within_a_time(text: str, share: float, ms: float) -> None:
    assert parse_objective(text) == Objective(pytest.approx(share), ms)


@pytest.mark.parametrize("text", ["100ms", "p0=1ms", "p100=1ms", "p99", "p99=soon", "p99=0ms", "q9=1ms"])
def test_another_objective_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_objective(text)


def test_durations_are_of_one_policy_nfe_and_device_and_what_is_there_is_named() -> None:
    demo = "reports/examples/demo"
    with pytest.raises(UsageError, match="Did you mean 'flow'"):
        read_times([demo], "flw", 1, None)
    with pytest.raises(UsageError, match=r"takes at NFE 3; there is NFE 1 on cpu, NFE 10 on cpu"):
        read_times([demo], "flow", 3, None)
    with pytest.raises(UsageError, match=r"more than one NFE: .*--nfe"):
        read_times(["reports/examples/h100-latency/pi05"], "lerobot:pi05?weights=random&dtype=bfloat16", None, None)


def test_the_command_answers_for_both_kinds_of_arrivals_and_judges_a_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", "serve", "-p", "flow", "--nfe", "1", "--from", "reports/examples/demo", "--hz", "4"]
    assert invoke([*asked, "--robots", "1000", "--json", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())["capacities"]
    assert [each["arrivals"] for each in found] == list(ARRIVALS)
    assert all(each["robots"] > 1 for each in found)
    said = capsys.readouterr().out
    assert f"One server of flow @ NFE 1 on cpu feeds {found[0]['robots']} robots at 4 decisions a second" in said
    assert "1000 robots are too many for one server" in said

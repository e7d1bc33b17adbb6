"""Where the time went."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from harness.analysis import throughput, time_shares, worker_time
from harness.analysis.timing import BUSY, busy_shares, phase_times, utilisation
from harness.ledger import Ledger

LedgerOf = Callable[..., Ledger]
START = datetime(2026, 3, 1, tzinfo=UTC)


def episode(key: str, start: float = 0.0, wall: float = 10.0, **changes: object) -> dict[str, object]:
    row = {
        "run_id": "r",
        "episode_key": key,
        "policy_id": "p",
        "outcome": "timeout",
        "success": False,
        "wall_s": wall,
        "reset_s": 1.0,
        "physics_s": 4.0,
        "render_s": 2.0,
        "policy_wait_s": 2.5,
        "started_at": START + timedelta(seconds=start),
    }
    return row | changes


def test_shares_add_up_to_one_and_the_rest_is_named_other(ledger_of: LedgerOf) -> None:
    row = time_shares(ledger_of(episodes=[episode("a"), episode("b", render_s=0.0)]).episodes).iloc[0]
    assert row["physics_share"] == pytest.approx(8 / 20)
    assert row["other_s"] == pytest.approx(0.5 + 2.5)
    assert sum(row[f"{part}_share"] for part in ("reset", "physics", "render", "policy_wait", "other")) == 1.0
    assert row["per_worker_hour"] == 360


def test_parts_that_exceed_the_wall_time_leave_no_negative_rest(ledger_of: LedgerOf) -> None:
    row = time_shares(ledger_of(episodes=[episode("a", wall=9.0)]).episodes).iloc[0]
    assert row["other_s"] == 0
    assert row["physics_share"] == pytest.approx(4 / 9.5)


def test_episodes_without_times_have_no_shares(ledger_of: LedgerOf) -> None:
    bare = {"episode_key": "a", "policy_id": "p", "outcome": "timeout", "success": False}
    row = time_shares(ledger_of(episodes=[bare]).episodes).iloc[0]
    assert np.isnan([row["physics_share"], row["per_worker_hour"]]).all()


def test_throughput_counts_overlap_once_and_pauses_not_at_all(ledger_of: LedgerOf) -> None:
    rows = [episode("a", 0), episode("b", 5), episode("c", 1000), episode("d", 1000)]
    row = throughput(ledger_of(episodes=rows).episodes).iloc[0]
    assert row["busy_s"] == pytest.approx(25)
    assert row["per_hour"] == pytest.approx(4 * 3600 / 25)
    assert row["concurrency"] == pytest.approx(40 / 25)


def test_the_parts_of_workers_time_add_up_to_workers_times_the_run(ledger_of: LedgerOf) -> None:
    rows = [
        episode("a", 12, 10, worker="w0", startup_s=8.0, build_s=3.0, idle_s=1.0),
        episode("b", 23, 10, worker="w0", startup_s=0.0, build_s=0.0, idle_s=1.0),
        episode("c", 15, 5, worker="w1", startup_s=9.0, build_s=6.0, idle_s=0.0),
    ]
    row = worker_time(ledger_of(episodes=rows).episodes).iloc[0]
    assert (row["workers"], row["run_s"], row["worker_s"]) == (2, 33, 66)
    parts = {"startup": 17, "build": 9, "idle": 2, "episodes": 25, "end": 13}
    assert {part: row[f"{part}_s"] for part in parts} == parts
    assert sum(row[f"{part}_share"] for part in parts) == pytest.approx(1)


def test_ledgers_of_before_say_nothing_of_workers(ledger_of: LedgerOf) -> None:
    assert worker_time(ledger_of(episodes=[episode("a")]).episodes).empty
    assert worker_time(ledger_of().episodes).empty


def test_no_episodes_have_no_throughput(ledger_of: LedgerOf) -> None:
    assert throughput(ledger_of().episodes).empty
    assert time_shares(ledger_of().episodes).empty


def test_utilisation_is_the_mean_over_samples_of_each_node(ledger_of: LedgerOf) -> None:
    rows = [
        {"run_id": "run", "node_id": node, "at": START + timedelta(seconds=second), "workers": workers} | busy
        for second, node, workers, busy in (
            (0, "box", 4, {"workers_busy": 4, "server_busy": None, "gpu_busy": 0.2}),
            (30, "box", 4, {"workers_busy": 2, "server_busy": 0.5, "gpu_busy": 0.4}),
            (0, "edge", 0, {"workers_busy": 0, "server_busy": None, "gpu_busy": None}),
        )
    ]
    usage = ledger_of(usage=rows).usage
    assert busy_shares(usage)["minutes"].tolist() == [0, 0.5, 0]
    box, edge = utilisation(usage).to_dict("records")
    assert (box["workers"], box["samples"]) == (4, 2)
    assert [box[name] for name in BUSY] == pytest.approx([0.75, 0.5, 0.3])
    assert all(math.isnan(edge[name]) for name in BUSY)


def test_phases_that_did_not_come_to_pass_took_no_time(ledger_of: LedgerOf) -> None:
    rows = [{"run_id": "run", "phase": phase, "seconds": s} for phase, s in (("ray", 2.0), ("rollouts", 5.0))]
    (row,) = phase_times(ledger_of(phases=rows).phases).to_dict("records")
    assert (row["total_s"], row["ray"], row["rollouts"], row["probes"]) == (7, 2, 5, 0)

"""Results as rows of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from stub_runs import make_unit

from harness.cluster.rows import decision_rows, episode_rows, motion_rows
from harness.ledger import LedgerWriter, read
from harness.schedule.result import DecisionLog, EpisodeResult, Motion
from harness.spec.observation import PolicyInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INFO = PolicyInfo("flow", checkpoint="repo@1", checkpoint_sha256="ef" * 32, dtype="float32")


def test_a_result_survives_the_way_into_a_ledger_and_out(tmp_path):
    log = DecisionLog([0.5, 0.0], [3.0, 4.0], [2, 1], [0, 0], ["h100", None], [1.5, None], [0.0, 0.0])
    good = EpisodeResult(
        make_unit(1, 2, "p", 10), "success", NOW, 2, steps=30, clipped=1, sim_s=1.5, wall_s=2.5, reset_s=0.1,
        physics_s=1.0, render_s=0.2, policy_wait_s=0.7, trajectory_sha256="aa" * 32, decisions=log, task="task_1",
        node_id="n", hardware="cpu", video="videos/p.mp4", motion=Motion([0.1, 0.25], [0, 0], [1, 1], [-1, 1]),
    )  # fmt: skip
    bad = EpisodeResult(make_unit(1, 3, "p", 10), "error", NOW, 3, error_type="WorkerDied", error_message="gone")
    writer = LedgerWriter(tmp_path)
    writer.append("decisions", decision_rows("run", [good, bad]))
    writer.append("motion", motion_rows("run", [good, bad]))
    writer.append("episodes", episode_rows("run", [good, bad], {"p": INFO}))

    ledger = read(tmp_path)
    first, second = ledger.episodes.to_dict("records")
    for name in ("outcome", "attempt", "steps", "clipped", "sim_s", "wall_s", "reset_s", "physics_s", "render_s",
                 "policy_wait_s", "trajectory_sha256", "task", "node_id", "hardware", "video"):  # fmt: skip
        assert first[name] == getattr(good, name), name
    for name in ("episode_key", "protocol_sha256", "suite", "task_id", "init_state_id", "trial", "nfe"):
        assert first[name] == getattr(good.unit, name), name
    assert (first["policy_id"], first["checkpoint"], first["dtype"]) == ("p", "repo@1", "float32")
    assert (first["run_id"], first["clock"], first["success"], first["decisions"]) == ("run", "synchronous", True, 2)
    assert first["started_at"] == NOW
    assert (second["outcome"], second["error_type"], second["error_message"]) == ("error", "WorkerDied", "gone")
    assert ledger.episodes["success"].isna().tolist() == [False, True]
    assert ledger.decisions["hardware"].tolist() == ["h100", "cpu"]
    assert ledger.decisions["decision"].tolist() == [0, 1]
    assert ledger.decisions["queue_ms"].tolist() == [0.5, 0.0]
    assert ledger.decisions["transport_ms"].isna().tolist() == [False, True]
    assert ledger.decisions["transport_ms"].iloc[0] == 1.5
    (moved,) = ledger.motion.to_dict("records")
    assert (moved["episode_key"], moved["policy_id"], moved["nfe"], moved["attempt"]) == (
        first["episode_key"],
        "p",
        10,
        2,
    )
    assert (moved["x_m"].tolist(), moved["gripper"].tolist()) == ([np.float32(0.1), 0.25], [-1, 1])

"""Results as rows of the ledger. By column, because a stub run has tens of thousands of decisions a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from harness.ledger.schema import TABLES
from harness.schedule.canaries import CanaryCheck
from harness.schedule.result import EpisodeResult
from harness.schedule.stragglers import Duplicate
from harness.spec.observation import PolicyInfo

COPIED = (
    "outcome", "steps", "clipped", "sim_s", "wall_s", "reset_s", "physics_s", "render_s", "policy_wait_s", "attempt",
    "node_id", "hardware", "task", "trajectory_sha256", "video", "error_type", "error_message", "started_at", "worker",
    "startup_s", "build_s", "idle_s", "goals", "goals_held_end", "goals_held_best", "stage", "success_step",
    "stale_steps", "hold_steps", "jerk_m_s3", "energy_j", "overruns", "canary",
)  # fmt: skip
"""Columns of `episodes` that are fields of a result."""
FROM_UNIT = (
    "episode_key",
    "protocol_sha256",
    "suite",
    "task_id",
    "init_state_id",
    "trial",
    "nfe",
    "clock",
    "latency_source",
)
FROM_INFO = ("checkpoint", "checkpoint_sha256", "dtype")


def duplicate_rows(run_id: str, duplicates: Sequence[Duplicate]) -> list[dict[str, object]]:
    """Rows of the table `duplicates`.

    Args:
        run_id: The run that the rows belong to.
        duplicates: Episodes that ended twice.
    """
    compared = ("node_id", "hardware", "outcome", "wall_s", "trajectory_sha256")
    return [
        {
            "run_id": run_id,
            "policy_id": each.other.unit.policy,
            **{name: getattr(each.other.unit, name) for name in ("episode_key", "nfe", "clock", "latency_source")},
            **{name: getattr(each.other, name) for name in compared},
            **{f"counted_{name}": getattr(each.counted, name) for name in compared},
            "equal": each.equal,
        }
        for each in duplicates
    ]


def canary_rows(run_id: str, checks: Sequence[CanaryCheck]) -> list[dict[str, object]]:
    """Rows of the table `canaries`.

    Args:
        run_id: The run that the rows belong to.
        checks: One per row.
    """
    return [
        {
            "run_id": run_id,
            "node_id": each.node.node_id,
            "hardware": each.node.hardware,
            **dict(zip(("isa", "gl", "accelerator"), each.node.machine, strict=True)),
            **{name: getattr(each.answer, name) for name in ("kind", "subject", "sha256", "error")},
            "reference_node_id": each.reference.node_id,
            **{name: getattr(each, name) for name in ("equal", "difference", "tolerance", "within")},
        }
        for each in checks
    ]


def episode_rows(run_id: str, results: Sequence[EpisodeResult], infos: Mapping[str, PolicyInfo]) -> pa.Table:
    """Rows of the table `episodes`.

    Args:
        run_id: The run that the rows belong to.
        results: One per row.
        infos: Policy label → what the policy says of itself.
    """
    n = len(results)
    columns: dict[str, list[object]] = {
        "run_id": [run_id] * n,
        "policy_id": [result.unit.policy for result in results],
        "success": [None if result.outcome == "error" else result.outcome == "success" for result in results],
        "decisions": [len(result.decisions) for result in results],
        **{name: [getattr(result, name) for result in results] for name in COPIED},
        **{name: [getattr(result.unit, name) for result in results] for name in FROM_UNIT},
        **{name: [getattr(infos[result.unit.policy], name) for result in results] for name in FROM_INFO},
    }
    return _table("episodes", columns)


def decision_rows(run_id: str, results: Sequence[EpisodeResult]) -> pa.Table:
    """Rows of the table `decisions`: those of every result, episode by episode."""
    columns: dict[str, list[object]] = {name: [] for name in TABLES["decisions"].names}
    for result in results:
        log, n = result.decisions, len(result.decisions)
        columns["run_id"] += [run_id] * n
        columns["episode_key"] += [result.unit.episode_key] * n
        columns["policy_id"] += [result.unit.policy] * n
        columns["nfe"] += [result.unit.nfe] * n
        columns["decision"] += range(n)
        columns["queue_ms"] += log.queue_ms
        columns["infer_ms"] += log.infer_ms
        columns["batch_size"] += log.batch_size
        columns["delay_steps"] += log.delay_steps
        columns["hardware"] += [place or result.hardware for place in log.hardware]
        columns["transport_ms"] += log.transport_ms
        columns["attempt"] += [result.attempt] * n
        columns["delay_ms"] += log.delay_ms
        columns["clock"] += [result.unit.clock] * n
        columns["latency_source"] += [result.unit.latency_source] * n
    return _table("decisions", columns)


def motion_rows(run_id: str, results: Sequence[EpisodeResult]) -> pa.Table:
    """Rows of the table `motion`: of the results that hold theirs."""
    told = [(result, result.motion) for result in results if result.motion is not None]
    columns: dict[str, list[object]] = {
        "run_id": [run_id] * len(told),
        "policy_id": [result.unit.policy for result, _ in told],
        "attempt": [result.attempt for result, _ in told],
        **{
            name: [getattr(result.unit, name) for result, _ in told]
            for name in ("episode_key", "nfe", "clock", "latency_source")
        },
        **{name: [getattr(motion, name) for _, motion in told] for name in ("x_m", "y_m", "z_m", "gripper")},
    }
    return _table("motion", columns)


def _table(name: str, columns: Mapping[str, Sequence[object]]) -> pa.Table:
    schema = TABLES[name]
    return pa.table([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)

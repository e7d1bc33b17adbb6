"""A synthetic ledger with everything that a report can show. No number in it was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.ledger import LedgerWriter

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
TASKS = tuple(
    f"pick up the black bowl {where} and place it on the plate"
    for where in (
        *("between the plate and the ramekin", "next to the ramekin", "from table center", "on the cookie box"),
        *("in the top drawer of the wooden cabinet", "on the ramekin", "next to the cookie box", "on the stove"),
        *("next to the plate", "on the wooden cabinet"),
    )
)
SUITE = """name: demo
description: The 20-episode protocol with controls and with flow; then the latency of flow.
policies:
- {kind: scripted, label: scripted}
- {kind: noop, label: noop}
- {kind: flow, label: flow}
"""
MANIFEST = {
    "suite": "libero_spatial",
    "max_steps": 280,
    "settle_steps": 10,
    "replan_interval": "checkpoint",
    "renderer": "egl-software",
    "version.mujoco": "3.3.2",
}


@pytest.fixture
def build_ledger(tmp_path: Path) -> Callable[..., Path]:
    def build(
        *,
        scripted: float = 1.0,
        noop: float = 0.0,
        status: str = "finished",
        task_names: tuple[str, ...] = TASKS,
        error_message: str = "node 10.0.0.7 was lost: heartbeat missed for 30 s",
        tables: tuple[str, ...] = ("runs", "nodes", "episodes", "decisions", "motion", "latency", "usage", "phases"),
        videos: bool = False,
    ) -> Path:
        root = tmp_path / "ledger"
        rng = np.random.default_rng(7)
        rates = {("scripted", None): scripted, ("noop", None): noop, ("flow", 1): 0.55, ("flow", 10): 0.8}
        rows = {
            "runs": [_run(status)],
            "nodes": [_node("n1", "cpu"), _node("n2", "h100-sxm-80gb")],
            "episodes": list(_episodes(rates, task_names, error_message, videos, rng)),
            "decisions": list(_decisions(rng)),
            "motion": list(_motion(len(task_names))),
            "latency": [
                row
                for hardware, scale in (("cpu", 1.0), ("h100-sxm-80gb", 0.3))
                for row in _latency(hardware, scale, rng)
            ],
        }
        rows["usage"] = [_usage(second) for second in range(30)]
        rows["phases"] = [
            {"run_id": "20260301-demo-1f", "phase": phase, "started_at": START, "seconds": seconds}
            for phase, seconds in (("prepare", 1.5), ("ray", 4.0), ("rollouts", 180.0), ("end", 0.5))
        ]
        writer = LedgerWriter(root)
        for table in tables:
            writer.append(table, rows[table])
        if videos:
            (root / "videos").mkdir()
            for name in ("flow-0.mp4", "flow-1 & 2.mp4"):
                (root / "videos" / name).write_bytes(b"\0")
        return root

    return build


def _run(status: str) -> dict[str, Any]:
    return {
        "run_id": "20260301-demo-1f",
        "suite": SUITE,
        "protocol": json.dumps({"libero_spatial": MANIFEST}),
        "protocol_sha256": "5d" * 32,
        "git_revision": "0123456789abcdef",
        "versions": {"python": "3.12.1", "mujoco": "3.3.2", "robosuite": "1.4.0"},
        "started_at": START,
        "ended_at": START + timedelta(minutes=4),
        "status": status,
    }


def _usage(second: int) -> dict[str, Any]:
    return {
        "run_id": "20260301-demo-1f",
        "node_id": "n2",
        "at": START + timedelta(seconds=second),
        "workers": 4,
        "workers_busy": 4 if second < 20 else 1,
        "server_busy": None if second == 0 else 0.5,
        "gpu_busy": 0.25,
    }


def _node(node_id: str, hardware: str) -> dict[str, Any]:
    gpu = hardware != "cpu"
    return {
        "run_id": "20260301-demo-1f",
        "node_id": node_id,
        "hardware": hardware,
        "cpu": "Example CPU 9000",
        "cores": 16 if gpu else 2,
        "memory_bytes": (128 if gpu else 8) * 2**30,
        "accelerator": "Example H100" if gpu else None,
        "driver": "570.1" if gpu else None,
        "versions": {"python": "3.12.1", "torch": "2.11.0"},
        "copy_gb_s": 2900.0 if gpu else 11.2,
        "matmul_tflop_s": 728.0 if gpu else 0.11,
        "launch_us": 5.2 if gpu else 0.9,
    }


def _episodes(
    rates: dict[tuple[str, int | None], float],
    task_names: tuple[str, ...],
    error_message: str,
    videos: bool,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    start = 0.0
    for (policy, nfe), rate in rates.items():
        for number in range(2 * len(task_names)):
            task_id = number // 2
            control = policy in ("scripted", "noop")
            solved = number < round(2 * len(task_names) * rate) if control else bool(rng.random() < rate)
            outcome = "error" if policy == "flow" and number == 7 else "success" if solved else "timeout"
            wall = float(rng.uniform(4, 6) if solved else rng.uniform(9, 11))
            start += wall / 2
            yield {
                "run_id": "20260301-demo-1f",
                "episode_key": f"{number:064x}",
                "protocol_sha256": "5d" * 32,
                "suite": "libero_spatial",
                "task_id": task_id,
                "task": task_names[task_id],
                "init_state_id": number % 2,
                "trial": 0,
                "policy_id": policy,
                "nfe": nfe,
                "checkpoint": f"/checkpoints/{policy}" if not control else None,
                "checkpoint_sha256": "c0ffee" * 10 + "0000" if not control else None,
                "outcome": outcome,
                "success": None if outcome == "error" else outcome == "success",
                "steps": int(rng.integers(115, 160)) if solved else 280,
                "decisions": 28,
                "clipped": 0,
                "wall_s": wall,
                "reset_s": 0.3,
                "physics_s": 0.45 * wall,
                "render_s": (0.3 if nfe else 0.0) * wall,
                "policy_wait_s": (0.15 if nfe else 0.01) * wall,
                "attempt": 2 if number == 3 else 1,
                "hardware": "cpu",
                "video": f"videos/flow-{('0', '1 & 2')[number]}.mp4" if videos and nfe == 1 and number < 2 else None,
                "error_type": "NodeError" if outcome == "error" else None,
                "error_message": error_message if outcome == "error" else None,
                "started_at": START + timedelta(seconds=start),
            }


def _decisions(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for nfe in (1, 10):
        for decision in range(200):
            yield {
                "run_id": "20260301-demo-1f",
                "episode_key": f"{decision // 28:064x}",
                "policy_id": "flow",
                "nfe": nfe,
                "decision": decision % 28,
                "queue_ms": float(rng.exponential(2.0)),
                "infer_ms": 12 + 1.5 * nfe + float(rng.exponential(0.5)),
                "batch_size": int(rng.integers(1, 3)),
                "delay_steps": 0,
                "hardware": "cpu",
            }


def _motion(tasks: int) -> Iterator[dict[str, Any]]:
    for nfe in (1, 10):
        for number in range(2 * tasks):
            turn = np.linspace(0, 2 + nfe / 10, 140)
            yield {
                "run_id": "20260301-demo-1f",
                "episode_key": f"{number:064x}",
                "policy_id": "flow",
                "nfe": nfe,
                "attempt": 2 if number == 3 else 1,
                "x_m": (0.1 * np.cos(turn)).tolist(),
                "y_m": (0.1 * np.sin(turn) + 0.01 * number).tolist(),
                "z_m": (1.1 - 0.1 * turn).tolist(),
                "gripper": [-1.0] * 70 + [1.0] * 70,
            }


def _latency(hardware: str, scale: float, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    fixed = {"preprocess": 1.0, "vision": 5.0, "prefix": 6.0, "postprocess": 0.3}
    for nfe in (1, 2, 5, 10):
        base = {
            "run_id": "20260301-demo-1f",
            "node_id": "n1" if hardware == "cpu" else "n2",
            "hardware": hardware,
            "policy_id": "flow",
            "nfe": nfe,
            "dtype": "float32",
            "compile": "eager",
            "batch_size": 1,
            "memory_bytes": 3 * 2**30,
            "throttled": False if hardware == "cpu" else None,
            **({} if hardware == "cpu" else {"sm_clock_mhz": 1980.0, "temperature_c": 41.0, "power_w": 310.5}),
        }
        for sample in range(400 if nfe == 1 else 80):
            jitter = float(rng.exponential(0.4))
            yield base | {"component": "e2e", "sample": sample, "latency_ms": scale * (12.3 + 1.5 * nfe + jitter)}
        for sample in range(40):
            for component, ms in fixed.items():
                yield base | {
                    "component": component,
                    "sample": sample,
                    "latency_ms": scale * ms * float(rng.uniform(1, 1.1)),
                }
            for _ in range(nfe):
                yield base | {
                    "component": "denoise_step",
                    "sample": sample,
                    "latency_ms": scale * float(rng.uniform(1.45, 1.6)),
                }

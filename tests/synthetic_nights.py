"""Ledgers of an invented policy's nights, in the shape that a shipped suite gives them: its plan, its probe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.ledger import LedgerWriter
from harness.schedule.plan import SuiteCounts, plan_episodes
from harness.schedule.units import EpisodeUnit
from harness.sim.shipped import describe_shipped
from harness.spec.manifest import manifest_sha256
from harness.spec.suite import Suite

START = datetime(2026, 3, 1, 2, 17, tzinfo=UTC)
POLICY, NFE = "pi", 10
RATES = (1.0, 0.99, 0.98, 0.97, 0.96, 0.99, 1.0, 0.95, 0.98, 0.96)
"""Success rate of each task of a suite: unlike, and 97.8 % in the mean."""


class Nights:
    """Nights of one policy on one machine; every one is drawn anew about the first, as the arguments say."""

    def __init__(self, root: Path, suite: Suite, rng: np.random.Generator, *, median_ms: float = 58.0) -> None:
        """Plan the suite; `median_ms` is the policy's latency, from which the number of samples follows."""
        self.root, self.suite, self.rng, self.median_ms = root, suite, rng, median_ms
        described = {tasks.suite: describe_shipped(tasks.suite) for tasks in suite.tasks}
        self.manifests: dict[str, Mapping[str, Any]] = {
            name: suite.protocol.manifest(
                name, init_states_sha256=one.init_states_sha256, versions=one.versions, renderer="egl-gpu"
            )
            for name, one in described.items()
        }
        counts = {
            name: SuiteCounts(one.n_init_states, manifest_sha256(self.manifests[name]))
            for name, one in described.items()
        }
        self.plan: tuple[EpisodeUnit, ...] = plan_episodes(suite.tasks, counts, [(POLICY, NFE)])
        self.rates = np.array([RATES[unit.task_id % len(RATES)] for unit in self.plan])
        self.first = rng.random(len(self.plan)) < self.rates

    def write(
        self,
        name: str,
        *,
        flips: float = 0.0,
        drop: float = 0.0,
        slower: float = 1.0,
        launch_sd: float = 0.01,
    ) -> Path:
        """Write a night below the root.

        Args:
            name: Its folder.
            flips: Share of the first night's episodes that end otherwise by chance.
            drop: Rate of success that is truly lost against the first night.
            slower: True latency over the first night's.
            launch_sd: Standard deviation of the level between launches.
        """
        solved = self._solved(flips, drop)
        path = self.root / name
        writer, run = LedgerWriter(path), f"run-{name}"
        protocol = json.dumps({name: dict(manifest) for name, manifest in self.manifests.items()})
        writer.append(
            "runs", [{"run_id": run, "suite": self.suite.to_yaml(), "protocol": protocol, "status": "finished"}
                     | {"protocol_sha256": manifest_sha256(self.manifests), "started_at": START}]
        )  # fmt: skip
        writer.append(
            "nodes", [{"run_id": run, "node_id": "box", "cpu": "invented", "cores": 16, "accelerator": "H100"}]
        )
        writer.append("episodes", self._episodes(run, name, solved))
        writer.append("latency", self._latency(run, slower, launch_sd))
        return path

    def _solved(self, flips: float, drop: float) -> np.ndarray:
        """Outcomes of a night: the first one's, with flips both ways and a drop."""
        rate = self.first.mean()
        lost, gained = (flips + drop) / 2, (flips - drop) / 2
        if drop > flips:
            lost, gained = drop, 0.0
        odds = np.where(self.first, lost / rate, min(gained / max(1 - rate, 1e-9), 1.0))
        flipped = self.rng.random(self.first.size) < odds
        return np.where(flipped, ~self.first, self.first)

    def _episodes(self, run: str, name: str, solved: np.ndarray) -> list[dict[str, Any]]:
        fields = ("episode_key", "protocol_sha256", "suite", "task_id", "init_state_id", "trial", "nfe")
        return [
            {column: getattr(unit, column) for column in fields}
            | {"run_id": run, "policy_id": POLICY, "task": f"{unit.suite} {unit.task_id}", "attempt": 1}
            | {"checkpoint": f"pi@{name}", "checkpoint_sha256": f"sha-{name}", "hardware": "h100-sxm-80gb"}
            | {"outcome": "success" if won else "timeout", "success": bool(won), "started_at": START}
            for unit, won in zip(self.plan, solved, strict=True)
        ]

    def _latency(self, run: str, slower: float, launch_sd: float) -> pa.Table:
        """The probe of the suite: its launches, each as long as its budget of time and samples makes it."""
        assert self.suite.probe is not None
        budget, launches = self.suite.probe.budget, self.suite.probe.launches
        median = self.median_ms * slower
        size = max(budget.min_samples, round(budget.min_seconds * 1e3 / median))
        level = launch_sd * self.rng.standard_normal((launches, 1))
        noise = 0.03 * self.rng.standard_normal((launches, size))
        slow = np.where(self.rng.random((launches, size)) < 0.02, 0.3 * self.rng.random((launches, size)), 0.0)
        n = launches * size
        return pa.table(
            {
                "run_id": [run] * n,
                "node_id": ["box"] * n,
                "hardware": ["h100-sxm-80gb"] * n,
                "policy_id": [POLICY] * n,
                "nfe": pa.array([NFE] * n, pa.int32()),
                "dtype": ["bfloat16"] * n,
                "compile": ["eager"] * n,
                "batch_size": pa.array([1] * n, pa.int32()),
                "component": ["e2e"] * n,
                "sample": pa.array(range(n), pa.int64()),
                "latency_ms": (median * np.exp(level + noise + slow)).ravel(),
                "launch": pa.array(np.repeat(np.arange(launches), size), pa.int32()),
            }
        )

"""How large a batch should be, and how long a request may wait for one: chosen from measured batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.latency.inputs import synthetic_observations
from harness.policies.base import Policy
from harness.policies.registry import serving_options
from harness.rollout.time_source import TimeSource
from harness.schedule.batching import choose_batch
from harness.schedule.keys import decision_noise

BUDGET_S = 10.0
"""No larger batch is tried once measuring has taken this long, seconds."""
CALLS = 2
"""Timed calls of a batch size; the faster one counts, since whatever disturbs makes calls slower."""
DEFAULT_WAIT_S = 0.005
"""Longest wait where nothing was measured, seconds."""
NOISE_KEY = "0" * 64


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a server batches."""

    max_batch: int
    max_wait_s: float
    measured_ms: Mapping[int, float] = field(default_factory=dict)
    """Batch size → latency, milliseconds, where it was measured."""
    why: str = ""
    """One clause for people: where the numbers are from."""

    def record(self) -> dict[str, object]:
        """Plain data for the ledger."""
        return {
            "max_batch": self.max_batch,
            "max_wait_ms": round(self.max_wait_s * 1e3, 3),
            "why": self.why,
            "measured_ms": {str(size): round(ms, 3) for size, ms in self.measured_ms.items()},
        }


def asked_for(options: Mapping[str, object]) -> tuple[int | None, float | None]:
    """Batch size and wait that a policy's options ask for, e.g. `flow?max_batch=8&max_wait_ms=2`.

    Returns:
        (max_batch, longest wait in seconds); None for what is to be chosen.

    Raises:
        UsageError: A value that is no size or no time.
    """
    asked = serving_options(options)
    return asked.max_batch, None if asked.max_wait_ms is None else asked.max_wait_ms / 1e3


def plan_batches(
    policy: Policy, *, clock: TimeSource, max_batch: int | None = None, max_wait_s: float | None = None
) -> BatchPlan:
    """Choose batch size and wait, by timing a few batches unless both are given.

    Args:
        policy: What will be served; it is asked for a few decisions on invented observations.
        clock: Stopwatch.
        max_batch: Largest batch; None to choose.
        max_wait_s: Longest wait of a request for others, seconds; None to choose.
    """
    limit = min(max_batch or policy.info.max_batch, policy.info.max_batch)
    fallback_s = DEFAULT_WAIT_S if max_wait_s is None else max_wait_s
    if max_batch is not None and max_wait_s is not None:
        return BatchPlan(limit, fallback_s, why="as asked")
    if limit == 1:
        return BatchPlan(1, 0.0 if max_wait_s is None else max_wait_s, why="one observation at a time")
    if policy.info.privileged:
        return BatchPlan(limit, fallback_s, why="not measured: it reads object poses, which cannot be invented")
    measured = measure_batches(policy, clock=clock, largest=limit)
    shown = {size: seconds * 1e3 for size, seconds in measured.items()}
    if len(measured) < 2:
        return BatchPlan(limit, fallback_s, shown, "not measured: two batches would take too long, or failed")
    size, wait_s = choose_batch(measured)
    wait_s = wait_s if max_wait_s is None else max_wait_s
    return BatchPlan(limit if max_batch else size, wait_s, shown, "chosen from measured batches")


def measure_batches(policy: Policy, *, clock: TimeSource, largest: int, budget_s: float = BUDGET_S) -> dict[int, float]:
    """Time batches of 1, 2, 4, … at the policy's default NFE, until more does not pay, or fails, or takes too long.

    A size that raises (out of memory, most likely) ends the search: the sizes before it are what the machine can do.

    Returns:
        Batch size → latency, seconds.
    """
    began = clock.seconds()
    measured: dict[int, float] = {}
    size = 1
    while size <= largest:
        try:
            measured[size] = _time(policy, size, clock)
        except Exception:
            break
        # Twice in a row, since one disturbed measurement should not decide.
        if choose_batch(measured)[0] < size // 2:
            break
        spent = clock.seconds() - began
        if spent + 2 * (CALLS + 1) * measured[size] > budget_s:
            break
        size *= 2
    return measured


def _time(policy: Policy, size: int, clock: TimeSource) -> float:
    """Seconds of one batch, after a call that warms it up."""
    info = policy.info
    observations = synthetic_observations(size, cameras=info.cameras)
    noise = None
    if info.noise_shape is not None:
        noise = np.stack([decision_noise(NOISE_KEY, n, info.noise_shape) for n in range(size)])
    times = []
    for _ in range(CALLS + 1):
        start = clock.seconds()
        policy.act(observations, noise)
        times.append(clock.seconds() - start)
    return min(times[1:])

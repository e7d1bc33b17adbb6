"""Rows of the ledger's `counts` table: what each component of a policy asks of its device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.latency.kernels import Activity, profile_cuda
from harness.latency.probe import Labels
from harness.latency.spans import nothing, synchronizer
from harness.ledger.schema import COMPONENTS, Row
from harness.policies.base import Policy, TimedPolicy
from harness.schedule.keys import decision_noise
from harness.spec.observation import Observation

if TYPE_CHECKING:
    from harness.latency.operators import OperatorCounter, Tally

METHOD = (
    "operators of one eager decision: flops by torch.utils.flop_counter's formulas (a multiply-add is 2), parameters "
    "once a call by their stored dtype, activations in and out of products, convolutions and attention"
)
PROFILED = "; kernels and busy time by torch.profiler in one decision"

RECORDED = 3
"""Kernels an operator: operators launch one or two, so that a component with more than this replays a recording."""

WORK = (
    *("flops", "flops_by_format", "parameter_bytes", "kv_bytes", "activation_bytes", "elementwise_bytes"),
    "operators",
)
"""Columns that the operators tell."""


def count(policy: Policy, observations: Sequence[Observation], *, nfe: int | None, batch_size: int) -> list[Row]:
    """Count one decision of a policy by component; nothing here is timed but what the device's profiler says.

    Args:
        policy: A policy that runs in this process on torch; others cannot be counted.
        observations: Inputs; the first `batch_size` are used.
        nfe: Number of function evaluations.
        batch_size: Observations in the decision.

    Returns:
        One row per component and one for `e2e`, without the columns that identify the configuration. Empty for a policy
        that uses no torch in this process.
    """
    if "torch" not in sys.modules:
        return []
    from harness.latency.operators import OperatorCounter

    decide = _decision(policy, observations, nfe, batch_size)
    counter = OperatorCounter(weights_of(policy))
    with _uncompiled(), counter:
        decide(counter.span)
    if not any(tally.operators for tally in counter.calls):
        return []
    rows = rows_of(counter)
    synchronize = synchronizer(policy)
    if synchronize is not nothing:
        _add_activity(rows, profile_cuda(decide, synchronize))
    return rows


def count_rows(
    policy: Policy,
    observations: Sequence[Observation],
    now: datetime,
    labels: Labels,
    *,
    nfe: int | None,
    batch_size: int,
) -> list[Row]:
    """`count`, with the columns that identify the configuration: rows for `LedgerWriter.append("counts", …)`."""
    constant: Row = {
        "run_id": labels.run_id,
        "node_id": labels.node_id,
        "hardware": labels.hardware,
        "policy_id": labels.policy_id or policy.info.policy_id,
        "nfe": nfe,
        "dtype": policy.info.dtype,
        "compile": labels.compile,
        "batch_size": batch_size,
        "started_at": now,
    }
    return [constant | row for row in count(policy, observations, nfe=nfe, batch_size=batch_size)]


def rows_of(counter: OperatorCounter) -> list[Row]:
    """Rows of what a counter saw of one decision: `e2e` first, then each component, per call."""
    components: dict[str, list[Tally]] = {}
    for tally in counter.calls:
        components.setdefault(tally.component, []).append(tally)
    rows = [
        _row(name, calls, sum(counter.cache_bytes.values()) if name == "prefix" else None)
        for name, calls in components.items()
        if name in COMPONENTS
    ]
    return [_whole(counter.calls, sum(row["kv_bytes"] * row["calls"] for row in rows)), *rows]


def weights_of(policy: Policy) -> Iterator[Any]:
    """Parameters and buffers of the torch modules that a policy holds."""
    from torch import nn

    for value in vars(policy).values():
        if isinstance(value, nn.Module):
            yield from value.parameters()
            yield from value.buffers()


def _row(name: str, calls: Sequence[Tally], cache_bytes: int | None) -> Row:
    n = len(calls)
    return {
        "component": name,
        "calls": n,
        "flops": sum(tally.flops for tally in calls) // n,
        "flops_by_format": _formats(calls, n),
        "parameter_bytes": sum(tally.parameter_bytes for tally in calls) // n,
        "kv_bytes": cache_bytes if cache_bytes is not None else sum(sum(t.cache.values()) for t in calls) // n,
        "activation_bytes": sum(tally.activation_bytes for tally in calls) // n,
        "elementwise_bytes": sum(tally.elementwise_bytes for tally in calls) // n,
        "operators": sum(tally.operators for tally in calls) // n,
        "method": METHOD,
    }


def _whole(calls: Sequence[Tally], kv_bytes: int) -> Row:
    """A decision: the sum over all calls, and what runs outside of them."""
    return {
        "component": "e2e",
        "calls": 1,
        "flops": sum(tally.flops for tally in calls),
        "flops_by_format": _formats(calls, 1),
        "parameter_bytes": sum(tally.parameter_bytes for tally in calls),
        "kv_bytes": kv_bytes,
        "activation_bytes": sum(tally.activation_bytes for tally in calls),
        "elementwise_bytes": sum(tally.elementwise_bytes for tally in calls),
        "operators": sum(tally.operators for tally in calls),
        "method": METHOD,
    }


def _formats(calls: Sequence[Tally], n: int) -> dict[str, float]:
    names = dict.fromkeys(name for tally in calls for name in tally.flops_by_format)
    return {name: sum(tally.flops_by_format.get(name, 0) for tally in calls) / n for name in names}


def _add_activity(rows: Sequence[Row], activities: Sequence[Activity]) -> None:
    for row in rows:
        own = [activity for activity in activities if activity.component == row["component"]]
        if own:
            _hide_recorded(row, sum(activity.kernels for activity in own) / len(own))
            row["kernels"] = round(sum(activity.kernels for activity in own) / len(own))
            row["busy_ms"] = sum(activity.busy_ms for activity in own) / len(own)
            row["method"] += PROFILED


def _hide_recorded(row: Row, kernels: float) -> None:
    """Leave out counts of a component that replays a recorded graph: its operators do not pass by."""
    if kernels > RECORDED * max(1, row["operators"]):
        row.update(dict.fromkeys(WORK))
        row["method"] = "replayed from a recorded graph, so that no operator can be seen"


def _decision(
    policy: Policy, observations: Sequence[Observation], nfe: int | None, batch_size: int
) -> Callable[[Callable[[str], Any]], None]:
    """One decision, as a function of the span timer to install for it."""
    batch = [observations[n % len(observations)] for n in range(batch_size)]
    shape = policy.info.noise_shape
    noise = None if shape is None else decision_noise("0" * 64, 0, (batch_size, *shape))

    def decide(span: Callable[[str], Any]) -> None:
        with _spans(policy, span):
            policy.act(batch, noise, nfe=nfe)

    return decide


@contextmanager
def _spans(policy: Any, span: Callable[[str], Any]) -> Iterator[None]:
    if not isinstance(policy, TimedPolicy):
        yield
        return
    before, policy.span = policy.span, span
    try:
        yield
    finally:
        policy.span = before


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Let compiled functions run as they were written: inside a compiled graph no operator can be seen."""
    import torch

    if "torch._dynamo" not in sys.modules:
        # Nothing was compiled; setting the stance would import the compiler, for a second.
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield

"""A probe from plan to ledger: what `harness probe` does, without Ray and without a simulator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.latency.inputs import probe_observations
from harness.latency.isolate import run_isolated
from harness.latency.node import describe_node, node_name, versions
from harness.latency.probe import Labels, ProbeResult
from harness.latency.stopping import Budget
from harness.ledger import LedgerWriter
from harness.ledger.provenance import git_revision
from harness.policies.registry import make_policy
from harness.rollout.clock import Clock
from harness.spec.manifest import manifest_sha256
from harness.spec.suite import ProbePlan, Suite


@dataclass(frozen=True, slots=True)
class ProbeSession:
    """What a probe left behind."""

    run_id: str
    results: tuple[ProbeResult, ...]
    """One per policy."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it early."""
        return any(result.interrupted for result in self.results)


def probe_to_ledger(
    suite: Suite,
    out: str,
    *,
    clock: Clock,
    hardware: str | None,
    append: bool = False,
    max_seconds: float = 300.0,
    on_message: Callable[[str], None] = lambda text: None,
) -> ProbeSession:
    """Probe every policy of a suite's plan, each configuration in its own process, into a ledger.

    Args:
        suite: A suite with a probe plan.
        out: Directory or URI of the ledger.
        clock: Time of day and stopwatch.
        hardware: Name of the node's hardware profile; None when none matches.
        append: Whether the ledger may hold rows already.
        max_seconds: Most measuring time of a configuration, seconds.
        on_message: Told what is measured, what was found, and every warning.

    Raises:
        UsageError: A policy does not offer an NFE or batch size that the plan asks for.
        LedgerError: `out` cannot take the rows.
    """
    assert suite.probe is not None  # noqa: S101 - the caller builds the plan
    writer = LedgerWriter(out)
    digest = manifest_sha256({})
    writer.claim(suite.to_yaml(), "{}", digest, resume=append)
    run_id, started = f"probe-{uuid.uuid4().hex[:12]}", clock.now()
    run: dict[str, Any] = {
        "run_id": run_id,
        "suite": suite.to_yaml(),
        "protocol": json.dumps({}),
        "protocol_sha256": digest,
        "git_revision": git_revision(),
        "versions": dict(versions()),
        "started_at": started,
    }
    writer.append("runs", [{**run, "status": "running"}])
    status = "failed"
    results: tuple[ProbeResult, ...] = ()
    try:
        results = tuple(_probe_policies(suite.probe, writer, run_id, hardware, clock, max_seconds, on_message))
        status = "interrupted" if any(result.interrupted for result in results) else "finished"
    finally:
        writer.append("runs", [{**run, "status": status, "ended_at": clock.now()}])
    return ProbeSession(run_id, results)


def _probe_policies(
    plan: ProbePlan,
    writer: LedgerWriter,
    run_id: str,
    hardware: str | None,
    clock: Clock,
    max_seconds: float,
    on_message: Callable[[str], None],
) -> list[ProbeResult]:
    budget = Budget(plan.min_seconds, plan.min_samples, max_seconds=max(max_seconds, plan.min_seconds))
    results: list[ProbeResult] = []
    for index, spec in enumerate(plan.policies):
        on_message(f"{spec.label}: probing")
        isolated = run_isolated(
            partial(make_policy, spec),
            observations=probe_observations(plan.batch_sizes),
            nfes=plan.nfe,
            batch_sizes=plan.batch_sizes,
            budget=budget,
            labels=Labels(run_id=run_id, node_id=node_name(), hardware=hardware, policy_id=spec.label),
            clock=clock,
            calibrate=index == 0,
            on_rows=partial(_record, writer, on_message),
            on_counts=partial(writer.append, "counts"),
        )
        if index == 0:
            row = describe_node(run_id=run_id, hardware=hardware, calibration=isolated.calibration)
            writer.append("nodes", [row])
        for warning in isolated.probe.warnings:
            on_message(f"warning: {warning}")
        results.append(isolated.probe)
        if isolated.probe.interrupted:
            break
    return results


def _record(writer: LedgerWriter, on_message: Callable[[str], None], rows: Sequence[dict[str, Any]]) -> None:
    """Write one configuration's samples at once, so that a later crash cannot take them."""
    writer.append("latency", rows)
    n = sum(row["component"] == "e2e" for row in rows)
    first = rows[0]
    nfe = "" if first["nfe"] is None else f" @ NFE {first['nfe']}"
    on_message(f"{first['policy_id']}{nfe}, batch {first['batch_size']}: {n} decisions timed")

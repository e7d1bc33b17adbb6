"""Probe leases: an actor that holds a whole node while it times a policy, so that nothing else runs there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.cluster.messages import NodeIdentity
from harness.cluster.parcel import Parcel, build_at, send_checkpoints
from harness.cluster.ray_errors import ask_controller, cause_of, harness_error
from harness.cluster.ray_session import RaySession
from harness.interrupts import Interrupts
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.rollout.faults import describe_exception
from harness.schedule.placement import NodeResources
from harness.spec.budget import Budget
from harness.spec.policy import PolicyAtNfe, PolicySpec
from harness.spec.suite import ProbePlan

POLL_S = 0.25

ProbedConfiguration = tuple[str, str, int | None, int, int]
"""(node id, policy label, NFE, batch size, launch) that the ledger has samples of."""


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """One launch of one policy on one node."""

    spec: PolicySpec
    launch: int
    """Which, from 0."""
    nfes: tuple[int, ...]
    """Empty: the policy's default."""
    batch_sizes: tuple[int, ...]
    budget: Budget
    resolution: int = 256
    """Of the frames, pixels."""
    variant: str | None = None
    """What sets it apart from its reference."""
    share_process: bool = False
    allow_shared: bool = False

    @property
    def processes(self) -> int:
        """In how many it measures, at most."""
        return 1 if self.share_process else max(1, len(self.nfes)) * len(self.batch_sizes)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How the probe of one policy on one node went; its samples are in the ledger."""

    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    node_row: Mapping[str, Any] | None = None
    """Row of `nodes` with the ceilings measured beside the policy."""


@dataclass(frozen=True, slots=True)
class ProbesEnd:
    """How all probes of a run went."""

    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    interrupted: bool = False


def missing_jobs(
    plan: ProbePlan,
    node_id: str,
    held: Collection[ProbedConfiguration],
    resolution: int = 256,
    hardware: str | None = None,
) -> tuple[ProbeJob, ...]:
    """What of a plan a node still has to measure: every policy once, then every one again.

    Args:
        plan: The suite's probes.
        node_id: The node, by its name in ledgers.
        held: What the ledger has already.
        resolution: Of the frames, pixels.
        hardware: What the node is: policies that are to be timed on something else are not its business.
    """
    jobs = []
    for launch, variant in itertools.product(range(plan.launches), plan.variants):
        spec = variant.spec
        if (spec.on or plan.on) and hardware not in (spec.on or plan.on):
            continue
        mine = {key[2:] for key in held if key[:2] == (node_id, spec.label)}
        done = {(nfe, batch) for nfe, batch, number in mine if number == launch}
        # A policy without a denoising loop is measured once, with NFE null, whatever the plan lists.
        looped = not any(nfe is None for nfe, *_ in mine)
        lacking = [nfe for nfe in plan.nfe if any((nfe, batch) not in done for batch in plan.batch_sizes)]
        known = {batch for _, batch in done}
        if (plan.nfe and looped and lacking) or not known.issuperset(plan.batch_sizes):
            jobs.append(
                ProbeJob(
                    spec,
                    launch,
                    tuple(lacking) if looped else (),
                    plan.batch_sizes,
                    plan.budget,
                    resolution=resolution,
                    variant=variant.text or None,
                    share_process=plan.process_per == "variant",
                    allow_shared=plan.allow_shared,
                )
            )
    return tuple(jobs)


def read_probed(out: str) -> set[ProbedConfiguration]:
    """What a ledger has latency samples of."""
    rows = read_rows(Location.of(out), "latency", ["node_id", "policy_id", "nfe", "batch_size", "launch"])
    return {(row["node_id"], row["policy_id"], row["nfe"], row["batch_size"], row.get("launch") or 0) for row in rows}


class ProbeLease:
    """Runs on the probed node, alone. The timing itself happens in a child process per configuration."""

    def __init__(self, place: NodeIdentity, run_id: str, controller: Any) -> None:
        """Probe for a run; rows go through `controller`."""
        self._place, self._run_id, self._controller = place, run_id, controller
        self._calibrated = False
        self._failed: dict[str, set[tuple[int | None, int]]] = {}
        self._numbers: Any = None
        self._standby: Any = None

    def run(self, job: ProbeJob, following: ProbeJob | None = None, parcel: Parcel | None = None) -> ProbeReport:
        """Launch one policy; each configuration's rows are in the ledger when it ends.

        Args:
            job: What to launch.
            following: The job after it, whose processes may start while this one's counts and ends.
            parcel: Its weights, if the driver has them on its disk.

        Raises:
            HarnessError: The request is wrong, or the policy cannot be built.
        """
        from harness.latency import Labels, describe_node, probe_observations, run_isolated
        from harness.latency.launches import SampleNumbers
        from harness.latency.standby import PolicyCode, Standby
        from harness.policies.registry import make_policy

        numbers = self._numbers = self._numbers or SampleNumbers()
        standby = self._standby = self._standby or Standby()
        skip = self._failed.setdefault(job.spec.label, set())
        build = partial(make_policy, job.spec)
        if parcel is not None:
            import ray

            build = partial(build_at, job.spec, parcel.checkpoint, parcel.place(ray.get), make_policy)
        result = run_isolated(
            build,
            observations=probe_observations(job.batch_sizes, resolution=job.resolution),
            nfes=job.nfes,
            batch_sizes=job.batch_sizes,
            budget=job.budget,
            labels=Labels(
                run_id=self._run_id,
                node_id=self._place.node_id,
                hardware=self._place.hardware,
                policy_id=job.spec.label,
                variant=job.variant,
                launch=job.launch,
            ),
            share_process=job.share_process,
            allow_shared=job.allow_shared,
            calibrate=not self._calibrated,
            on_rows=lambda rows: self._append("latency", numbers.continued(rows)),
            on_counts=None if job.launch else partial(self._append, "counts"),
            imports=PolicyCode.of(job.spec),
            standby=standby,
            following=[] if following is None else [PolicyCode.of(following.spec)] * following.processes,
            skip=skip,
        )
        skip |= {(c.nfe, c.batch_size) for c in result.probe.configurations if c.failure is not None}
        row = None
        if result.calibration is not None:
            self._calibrated = True
            row = describe_node(
                run_id=self._run_id,
                node_id=self._place.node_id,
                hardware=self._place.hardware,
                calibration=result.calibration,
                gl=self._place.gl,
            )
        failed = tuple(
            f"probe of {PolicyAtNfe(c.policy_id, c.nfe).label}, batch {c.batch_size}: {c.failure.message}"
            for c in result.probe.configurations
            if c.failure is not None
        )
        notes = result.calibration.notes if result.calibration is not None else ()
        return ProbeReport((*result.probe.warnings, *notes), failed, row)

    def _append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        import ray

        ray.get(self._controller.append.remote(table, list(rows)))


def run_probes(
    session: RaySession,
    nodes: Sequence[NodeResources],
    places: Mapping[str, NodeIdentity],
    plan: ProbePlan,
    controller: Any,
    *,
    run_id: str,
    held: Collection[ProbedConfiguration],
    resolution: int,
    interrupts: Interrupts,
    say: Callable[[str], None],
) -> ProbesEnd:
    """Probe every node that has CPUs, all nodes at the same time, the policies of a node one after the other.

    Raises:
        HarnessError: A request is wrong, or a policy cannot be built.
    """
    pending = {
        node.node_id: list(
            missing_jobs(plan, places[node.node_id].node_id, held, resolution, places[node.node_id].hardware)
        )
        for node in nodes
        if node.cpus
    }
    actors = {
        node.node_id: _start(session, node, places[node.node_id], run_id, controller)
        for node in nodes
        if pending.get(node.node_id)
    }
    jobs_of = {(job.spec.label, node_id): job.spec for node_id, jobs in pending.items() for job in jobs}
    wanted: dict[str, list[str]] = {}
    for label, node_id in jobs_of:
        wanted.setdefault(label, []).append(node_id)
    parcels = send_checkpoints(session, nodes, {label: spec for (label, _), spec in jobs_of.items()}, wanted)
    warnings: list[str] = []
    failures: list[str] = []
    running: dict[Any, str] = {}
    try:
        while True:
            busy = set(running.values())
            for node_id, jobs in pending.items():
                if jobs and node_id not in busy:
                    job = jobs.pop(0)
                    again = f", launch {job.launch + 1} of {plan.launches}" if plan.launches > 1 else ""
                    say(f"Probing {job.spec.label} on {places[node_id].node_id}{again}")
                    running[actors[node_id].run.remote(job, jobs[0] if jobs else None, parcels.get(job.spec.label))] = (
                        node_id
                    )
            if not running or interrupts.count:
                return ProbesEnd(tuple(warnings), tuple(failures), interrupts.count > 0)
            session.head.require()
            ended, _ = session.ray.wait(list(running), timeout=POLL_S)
            for ref in ended:
                node_id = running.pop(ref)
                report = _take(session, ref, places[node_id])
                warnings += report.warnings
                failures += report.failures
                if report.node_row is not None:
                    ask_controller(session.ray, controller.append.remote("nodes", [dict(report.node_row)]))
    finally:
        for actor in actors.values():
            session.ray.kill(actor)


def _start(session: RaySession, node: NodeResources, place: NodeIdentity, run_id: str, controller: Any) -> Any:
    return (
        session.ray.remote(ProbeLease)
        .options(num_cpus=node.cpus, num_gpus=node.gpus, scheduling_strategy=session.on(node.node_id))
        .remote(place, run_id, controller)
    )


def _take(session: RaySession, ref: Any, place: NodeIdentity) -> ProbeReport:
    from ray.exceptions import RayError

    try:
        report: ProbeReport = session.ray.get(ref)
    except RayError as error:
        if (told := harness_error(error)) is not None:
            raise told from None
        return ProbeReport(failures=(f"probe on {place.node_id}: {describe_exception(cause_of(error))}",))
    return report

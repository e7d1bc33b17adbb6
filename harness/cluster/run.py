"""A run, from request to ledger: the public `harness.run`."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from harness.cluster.drive import DriveResult
from harness.cluster.film import cameras_for
from harness.cluster.interrupts import Interrupts
from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.messages import NodeIdentity, WorkerSetup
from harness.cluster.nodes import NodeReport, NodeRequest, describe_nodes, inspect_nodes, local_report
from harness.cluster.policy_servers import PolicyServers, open_policies
from harness.cluster.prepare import RunRequest, check_infos, plan_variants, prepare, task_counts
from harness.cluster.probes import read_probed, run_probes
from harness.cluster.provenance import run_versions
from harness.cluster.ray_session import RaySession, open_session
from harness.cluster.recording import TEST_SET, Recording, check_parts, finish_recording
from harness.cluster.rollouts import EarlierEpisodes, read_held, roll_out, start_controller
from harness.errors import HarnessError, UsageError
from harness.ledger import LedgerWriter
from harness.ledger.provenance import git_revision
from harness.policies.ability import frame_warning
from harness.rollout.dataset import Dataset
from harness.rollout.time_source import TimeSource, WallTime
from harness.schedule.early_stopping import STOP_RECORD, EarlyStopping, StopNote
from harness.schedule.placement import place_workers
from harness.schedule.plan import missing, plan_episodes
from harness.schedule.progress import Progress
from harness.schedule.units import EpisodeUnit
from harness.spec import PolicySpec, Suite
from harness.spec.manifest import canonical_json, manifest_sha256
from harness.spec.policy import PolicyAtNfe
from harness.spec.protocol import run_protocol_sha256

EarlyStoppingBuilder = Callable[[Sequence[EpisodeUnit], Mapping[str, Mapping[str, Any]]], EarlyStopping]
"""(plan, LIBERO suite → protocol manifest) → what looks at the run."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did."""

    run_id: str
    out: str
    planned: int = 0
    """Episodes of the whole plan."""
    skipped: int = 0
    """Of those, in the ledger before."""
    done: int = 0
    """Episodes that this run wrote."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Outcome → episodes that this run wrote."""
    interrupted: bool = False
    stopped: StopNote | None = None
    """Why the rest of the plan was dropped, when early stopping had seen enough."""
    errors: tuple[str, ...] = ()
    """One sentence per type of error among its episodes, and per failed probe."""
    warnings: tuple[str, ...] = ()
    workers: int = 0
    """Rollout workers that came to their end."""
    rollout_s: float = 0.0
    """From the first lease to the end of the rollouts, seconds."""
    worker_s: float = 0.0
    """Between a worker's first question for work and its last answer, summed over workers, seconds."""
    build_s: float = 0.0
    """Of `worker_s`, spent building simulators."""
    idle_s: float = 0.0
    """Of `worker_s`, spent without work while another worker still had some."""
    recorded: Dataset | None = None
    """The dataset of a run that recorded one and ran to its end."""


def run(
    suite: Suite | str,
    *,
    policies: Sequence[PolicySpec | str] | None = None,
    nfe: Sequence[int] | None = None,
    out: str | os.PathLike[str],
    workers: int | None = None,
    address: str | None = None,
    resume: bool = False,
    video: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    clock: TimeSource | None = None,
    early_stopping: EarlyStoppingBuilder | None = None,
    only: Collection[str] | None = None,
    isolation: Isolation | None = None,
    record: Recording | None = None,
) -> RunResult:
    """Run a suite: its episodes, then its latency probes. Every finished episode is in the ledger at once.

    Args:
        suite: A suite or its name.
        policies: Policies in place of the suite's.
        nfe: NFE values in place of the suite's.
        out: Directory or `pyarrow.fs` URI of the ledger.
        workers: Rollout workers; None for one per CPU that policy servers leave.
        address: Ray cluster to join ("auto", HOST:PORT); None starts one for the length of the run.
        resume: Continue the ledger in `out`: only what it lacks is run.
        video: "none", "failures" or "all", in place of the suite's.
        on_progress: Called about four times a second while episodes run.
        on_message: Called with a line about what goes on before and after.
        clock: Time.
        early_stopping: Builds what looks at results as they come in and may drop the rest of the plan (a sequential
            gate). It is called with the plan and each suite's manifest before anything is written.
        only: Keys of the episodes to run; None for the whole plan.
        isolation: Niceness, CPUs and GPU memory that workers and policy servers are limited to.
        record: Where to record episodes as a LeRobot dataset, which is made when all have run; None for nowhere.

    Returns:
        What was done. After Ctrl-C `interrupted` is set, and everything finished is in the ledger.

    Raises:
        HarnessError: The request is wrong, or it is useless to go on; what is finished is in the ledger.
    """
    request = prepare(
        suite,
        policies=policies,
        nfe=nfe,
        out=out,
        resume=resume,
        video=video,
        workers=workers,
        record=record,
        local=address is None,
    )
    say = on_message or _nobody
    if request.recording is not None and request.suite.protocol.placements == "init_states":
        say(TEST_SET)
    say("Starting Ray on this machine" if address is None else f"Joining the Ray cluster at {address}")
    with open_session(address) as opened:
        session = replace(opened, isolation=isolation or NO_LIMITS)
        return _Run(request, session, clock or WallTime(), on_progress or _nobody, say, early_stopping, only).execute()


def only_keys(plan: Sequence[EpisodeUnit], keys: Collection[str]) -> tuple[EpisodeUnit, ...]:
    """Keep the units with certain episode keys.

    Raises:
        UsageError: A key is not planned: the suite, or the protocol on this machine, is not that of the episodes.
    """
    lacking = set(keys) - {unit.episode_key for unit in plan}
    if lacking:
        raise UsageError(
            f"{len(lacking)} of {len(keys)} wanted episodes are not in the plan: suite or protocol (versions, "
            "renderer) differs from that of the run that they come from. Run on a machine like it."
        )
    return tuple(unit for unit in plan if unit.episode_key in keys)


def _nobody(message: object) -> None:
    del message


class _Run:
    """One run on a connected cluster."""

    def __init__(
        self,
        request: RunRequest,
        session: RaySession,
        clock: TimeSource,
        on_progress: Callable[[Progress], None],
        say: Callable[[str], None],
        early_stopping: EarlyStoppingBuilder | None,
        only: Collection[str] | None,
    ) -> None:
        self.build_early_stopping, self.only, self.recording = early_stopping, only, request.recording
        self.early_stopping: EarlyStopping | None = None
        self.request, self.session, self.clock = request, session, clock
        self.on_progress, self.say = on_progress, say
        self.suite, self.out = request.suite, request.out
        self.writer = LedgerWriter(self.out)
        self.nodes = session.nodes()
        started = clock.now()
        self.run_id = f"{self.suite.name}-{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        self.row: dict[str, Any] = {"run_id": self.run_id, "suite": self.suite.to_yaml(), "started_at": started}
        self.result = RunResult(self.run_id, self.out)

    def execute(self) -> RunResult:
        """Bring the policies up, claim the ledger, roll out, probe."""
        heavy = [spec.label for spec in self.suite.policies if spec.label not in self.request.light]
        if heavy:
            self.say(f"Loading {', '.join(heavy)}")
        house = open_policies(self.session, self.nodes, self.suite.policies, self.request.light)
        try:
            for warning in house.warnings:
                self.say(f"warning: {warning}")
            check_infos(house.infos, self.suite)
            for label, info in house.infos.items():
                if (caution := frame_warning(label, info, self.suite.protocol.resolution)) is not None:
                    self.say(f"warning: {caution}")
            variants = plan_variants(house.infos, self.suite.nfe, asked=self.request.nfe_asked)
            reports = self._inspect(house)
            plan = self._claim(house, variants, reports)
            self._fulfil(house, plan, reports)
        finally:
            house.close()
        if self.recording is not None and self._whole():
            self.say("Writing the dataset")
            provenance = self._provenance(house, reports)
            self.result = replace(self.result, recorded=finish_recording(self.recording, self.out, plan, provenance))
        return self.result

    def _whole(self) -> bool:
        """Whether every episode of the plan has run."""
        done = self.result.skipped + self.result.done - self.result.outcomes.get("error", 0)
        return not self.result.interrupted and done == self.result.planned

    def _provenance(self, house: PolicyServers, reports: Mapping[str, NodeReport]) -> dict[str, Any]:
        """What a dataset says of the run that it was recorded in."""
        (info,) = house.infos.values()
        renderers = sorted({report.backend.renderer for report in reports.values() if report.backend is not None})
        return {
            "run_id": self.run_id,
            "protocol": json.loads(self.row["protocol"]),
            "renderers": renderers,
            "policy": info.policy_id,
            "checkpoint": info.checkpoint,
            "checkpoint_sha256": info.checkpoint_sha256,
            "git_revision": self.row["git_revision"],
            "versions": self.row["versions"],
        }

    def _fulfil(self, house: PolicyServers, plan: Sequence[EpisodeUnit], reports: Mapping[str, NodeReport]) -> None:
        """Do what was claimed, and write down how it ended."""
        held = read_held(self.out, resume=self.request.resume)
        todo = missing(plan, held.finished)
        self.result = replace(self.result, planned=len(plan), skipped=len(plan) - len(todo))
        status = "failed"
        try:
            self._work(house, plan, len(todo), held, reports)
            status = self._status()
        except KeyboardInterrupt:
            self.result = replace(self.result, interrupted=True)
            status = "interrupted"
        finally:
            # When a full disk is why the run failed, its own error counts, not that this row cannot be written.
            with suppress(*([HarnessError] if status == "failed" else [])):
                self.writer.append("runs", [{**self.row, "ended_at": self.clock.now(), "status": status}])

    def _status(self) -> str:
        if self.result.interrupted:
            return "interrupted"
        if self.result.stopped is None:
            return "finished"
        if not self.result.stopped.record:
            return self.result.stopped.status
        record = json.dumps(dict(self.result.stopped.record), indent=2) + "\n"
        location = self.writer.location
        location.write_whole(f"{location.root}/{STOP_RECORD}", pa.py_buffer(record.encode()))
        return self.result.stopped.status

    def _inspect(self, house: PolicyServers) -> dict[str, NodeReport]:
        """Look at the nodes that episodes will run on."""
        if not self.suite.tasks:
            return {}
        renders = (
            self.recording is not None
            or self.suite.video != "none"
            or any(info.cameras for info in house.infos.values())
        )
        if renders and self.suite.world != "stub":
            self.say("Choosing a renderer")
        request = NodeRequest(self.suite.world, tuple(self.request.descriptions), renders, self.suite.protocol.renderer)
        if self.session.owned:
            return {self.session.driver_node_id: local_report(request, self.request.descriptions)}
        own = NodeReport("the driver", self.request.descriptions, None)
        return inspect_nodes(self.session, [node for node in self.nodes if node.cpus], request, own)

    def _claim(
        self, house: PolicyServers, variants: Sequence[PolicyAtNfe], reports: Mapping[str, NodeReport]
    ) -> tuple[EpisodeUnit, ...]:
        """Write down what is about to be done, and make the ledger this run's."""
        reads_frames = any(info.cameras for info in house.infos.values())
        backends = [report.backend for report in reports.values() if report.backend is not None]
        renderer = backends[0].renderer if reads_frames and backends else "none"
        descriptions = self.request.descriptions
        manifests = {
            suite: self.suite.protocol.manifest(
                suite,
                init_states_sha256=description.init_states_sha256,
                versions=description.versions,
                renderer=renderer,
            )
            for suite, description in descriptions.items()
        }
        self.row |= {
            "protocol": canonical_json(manifests),
            "protocol_sha256": run_protocol_sha256(manifests),
            "git_revision": git_revision(),
            "versions": run_versions(descriptions.values()),
            "policies": canonical_json(house.records),
        }
        counts = {
            suite: task_counts(descriptions[suite], self.suite.protocol, manifest_sha256(manifest))
            for suite, manifest in manifests.items()
        }
        plan = plan_episodes(self.suite.tasks, counts, variants)
        if self.only is not None:
            plan = only_keys(plan, self.only)
        if self.recording is not None:
            check_parts(self.recording, plan)
        if self.build_early_stopping is not None:
            self.early_stopping = self.build_early_stopping(plan, manifests)
        if warning := self.writer.location.partition_warning:
            self.say(f"warning: {warning}")
        self.writer.claim(
            self.row["suite"], self.row["protocol"], self.row["protocol_sha256"], resume=self.request.resume
        )
        self.writer.append("runs", [{**self.row, "status": "running"}])
        return plan

    def _work(
        self,
        house: PolicyServers,
        plan: Sequence[EpisodeUnit],
        n_todo: int,
        held: EarlierEpisodes,
        reports: Mapping[str, NodeReport],
    ) -> None:
        """Roll out, then probe; the result is in `self.result`, also when an exception ends it."""
        nodes = describe_nodes(self.session, self.nodes, self.run_id, reports)
        self.writer.append("nodes", list(nodes.values()))
        places = {node_id: NodeIdentity(row["node_id"], row["hardware"], row["gl"]) for node_id, row in nodes.items()}
        hosts = [node for node in self.nodes if node.node_id in reports]
        slots = place_workers(hosts, house.slots, self.request.workers, n_todo) if n_todo else ()
        controller = start_controller(
            self.session,
            self.suite,
            self.out,
            self.run_id,
            plan,
            house.infos,
            held,
            n_workers=len(slots),
            clock=self.clock,
            early_stopping=self.early_stopping,
        )
        try:
            with Interrupts() as interrupts:
                if n_todo:
                    environments = {
                        node_id: report.backend.env for node_id, report in reports.items() if report.backend
                    }
                    setup = self._worker_setup(house, places, reports)
                    self._take(
                        roll_out(
                            self.session,
                            slots,
                            house,
                            setup,
                            controller,
                            environments,
                            suite=self.suite,
                            clock=self.clock,
                            interrupts=interrupts,
                            on_progress=self.on_progress,
                        )
                    )
                # Probes need every CPU and GPU of a node.
                house.close()
                self._probe(controller, places, interrupts)
        finally:
            self.session.ray.kill(controller)

    def _worker_setup(
        self, house: PolicyServers, places: Mapping[str, NodeIdentity], reports: Mapping[str, NodeReport]
    ) -> WorkerSetup:
        films, location = self.suite.video != "none", self.writer.location
        renderers = [report.backend.renderer for report in reports.values() if report.backend is not None]
        return WorkerSetup(
            world=self.suite.world,
            protocol=self.suite.protocol,
            limits=self.suite.limits,
            policies=house.setups,
            task_names={
                (suite, task_id): name
                for suite, description in self.request.descriptions.items()
                for task_id, name in enumerate(description.tasks)
            },
            places=places,
            video_dir=(location.root if location.is_local else location.label) if films else None,
            video_cameras=cameras_for(renderers[0] if renderers else "none"),
            recording=self.recording,
            isolation=self.session.isolation,
        )

    def _take(self, ended: DriveResult) -> None:
        progress = ended.snapshot.progress
        timeouts = progress.done - progress.successes - progress.errors
        self.result = replace(
            self.result,
            done=progress.done,
            outcomes={"success": progress.successes, "timeout": timeouts, "error": progress.errors},
            interrupted=ended.interrupted,
            stopped=None if ended.snapshot.finished else ended.snapshot.decided,
            errors=tuple(
                f"{error.count} × {error.error_type}; the first: {error.message}" for error in ended.snapshot.errors
            ),
            warnings=(*ended.snapshot.warnings, *_heavy_workers(ended)),
            workers=len(ended.summaries),
            rollout_s=progress.elapsed_s,
            worker_s=sum(summary.active_s for summary in ended.summaries),
            build_s=sum(summary.build_s for summary in ended.summaries),
            idle_s=sum(summary.idle_s for summary in ended.summaries),
        )

    def _probe(self, controller: Any, places: Mapping[str, NodeIdentity], interrupts: Interrupts) -> None:
        if self.suite.probe is None or self.result.interrupted:
            return
        held = read_probed(self.out) if self.request.resume else set()
        warnings, failures, interrupted = run_probes(
            self.session,
            self.nodes,
            places,
            self.suite.probe,
            controller,
            run_id=self.run_id,
            held=held,
            interrupts=interrupts,
            say=self.say,
        )
        self.result = replace(
            self.result,
            interrupted=interrupted,
            errors=(*self.result.errors, *failures),
            warnings=(*self.result.warnings, *warnings),
        )


def _heavy_workers(ended: DriveResult) -> tuple[str, ...]:
    """A warning when rollout workers have imported what belongs into policy servers."""
    found = sorted({name for summary in ended.summaries for name in summary.heavy_modules})
    if not found:
        return ()
    return (
        f"Rollout workers have imported {' and '.join(found)}, which costs each of them memory and start-up time: a "
        'policy that needs it should declare placement="server".',
    )

"""A run, from request to ledger: the public `harness.run`.

`RunRequest` → `prepare` → `Prepared` → `claim` → `Claimed` → `fulfil` → `RunResult`, each frozen. Until `claim` returns
nothing has been written; from then on `runs.status` says where the run is (see `RunStatus`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from harness.clocks import CLOCK_OF, DelaySource
from harness.cluster.canaries import compare_nodes
from harness.cluster.claim import Claimed, claim
from harness.cluster.controller import start_controller
from harness.cluster.drive import DriveResult, RolloutDrive
from harness.cluster.film import cameras_for
from harness.cluster.group import WorkerGroup
from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.messages import NodeIdentity, WorkerSetup
from harness.cluster.nodes import (
    NodeReport,
    NodeRequest,
    describe_nodes,
    free_gpu_bytes,
    inspect_nodes,
    local_report,
    recognise,
)
from harness.cluster.policy_servers import PolicyServers, open_policies
from harness.cluster.prepare import Prepared, prepare
from harness.cluster.probes import ProbesEnd, read_probed, run_probes
from harness.cluster.ray_errors import as_node_error
from harness.cluster.ray_session import RaySession, open_session, session_is_open
from harness.cluster.recording import TEST_SET, Recording, finish_recording
from harness.cluster.request import Admission, EarlyStoppingBuilder, RunListener, RunRequest
from harness.cluster.usage import PhaseLog, UsageLog
from harness.errors import HarnessError
from harness.interrupts import Interrupts, interruptible
from harness.ledger.lock import LedgerLock
from harness.ledger.storage import Location
from harness.policies.ability import frame_warning
from harness.rollout.course import replan_interval
from harness.rollout.dataset import Dataset
from harness.schedule.balance import ServerDemand, reserved_cores
from harness.schedule.early_stopping import STOP_RECORD, StopNote
from harness.schedule.placement import (
    NodeResources,
    WorkerSlot,
    place_workers,
    renderer_room,
    require_hardware,
    spread_renderers,
)
from harness.schedule.progress import Progress
from harness.schedule.status import RunStatus
from harness.serve.sizing import Awaited
from harness.spec import PolicySpec, Suite, parse_policy
from harness.spec.canaries import CanaryMode
from harness.spec.changes import SuiteChanges
from harness.spec.suite import Quantization, Video
from harness.spec.timing import ClockName
from harness.time_source import TimeSource, WallTime
from harness.worlds.registry import get_world


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
    """Rollout workers that ended as they should."""
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
    quantize: Sequence[Quantization] | None = None,
    on: Sequence[str] | None = None,
    canaries: CanaryMode | None = None,
    out: str | os.PathLike[str],
    workers: int | None = None,
    address: str | None = None,
    resume: bool = False,
    video: Video | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    clock: TimeSource | None = None,
    early_stopping: EarlyStoppingBuilder | None = None,
    admission: Admission | None = None,
    only: Collection[str] | None = None,
    only_clocks: Collection[ClockName] | None = None,
    isolation: Isolation | None = None,
    record: Recording | None = None,
    sources: Sequence[DelaySource] = (),
    expected: Future[Mapping[str, Any]] | None = None,
) -> RunResult:
    """Run a suite: its episodes, then its latency probes. Every finished episode is in the ledger at once.

    Args:
        suite: A suite or its name.
        policies: Policies in place of the suite's.
        nfe: NFE values in place of the suite's.
        quantize: Quantisation in place of the suite's, e.g. ("none", "int8").
        on: Hardware profiles of the nodes to run on, in place of the suite's: see `Suite.on`.
        canaries: When unlike nodes are compared before they run, in place of the suite's: see `Suite.canaries`.
        out: Directory or `pyarrow.fs` URI of the ledger.
        workers: Rollout workers; None for one per CPU, less those that busy policy servers keep.
        address: Ray cluster to join ("auto", HOST:PORT); None starts one for the length of the run.
        resume: Continue the ledger in `out`: only what it lacks is run.
        video: "none", "failures" or "all", in place of the suite's.
        on_progress: Called about four times a second while episodes run.
        on_message: Called with a line about what goes on before and after.
        clock: Time of day and stopwatch; None for the machine's.
        early_stopping: Builds what looks at results as they come in and may drop the rest of the plan (a sequential
            gate). It is called with the plan and each suite's manifest before anything is written.
        admission: Called likewise; raises to refuse the run before the first episode.
        only: Keys of the episodes to run; None for the whole plan.
        only_clocks: Clocks of the suite whose episodes are run; the policies are asked whether they can do the others.
        isolation: Niceness, CPUs and GPU memory that workers and policy servers are limited to.
        record: Where to record episodes as a LeRobot dataset, which is made when all have run; None for nowhere.
        sources: What decisions take, for the suite's clocks other than the synchronous one.
        expected: What the run will take, a row of `plans` that is being made meanwhile; nobody waits for it.

    Returns:
        What was done. After Ctrl-C `interrupted` is set, and everything finished is in the ledger.

    Raises:
        HarnessError: The request is wrong, or it is useless to go on; what is finished is in the ledger.
    """
    specs = tuple(parse_policy(policy) if isinstance(policy, str) else policy for policy in policies or ())
    request = RunRequest(
        suite,
        str(out),
        SuiteChanges(
            specs, tuple(nfe or ()), video, quantize=tuple(quantize or ()), on=tuple(on or ()), canaries=canaries
        ),
        workers=workers,
        address=address,
        resume=resume,
        early_stopping=early_stopping,
        admission=admission,
        only=only,
        only_clocks=only_clocks,
        isolation=isolation or NO_LIMITS,
        record=record,
        sources=tuple(sources),
        expected=expected,
    )
    return execute(request, RunListener(on_progress, on_message), clock or WallTime())


def execute(request: RunRequest, listener: RunListener, time: TimeSource) -> RunResult:
    """Take a request through all its phases; see `run`."""
    began, phases = time.now(), PhaseLog(time)
    with interruptible():
        prepared = prepare(request)
        if prepared.recording is not None and prepared.suite.protocol.placements == "init_states":
            listener.say(TEST_SET)
        for sentence in prepared.left_out:
            listener.say(f"warning: {sentence}")
        if not session_is_open():
            at = request.address
            listener.say("Starting Ray on this machine" if at is None else f"Joining the Ray cluster at {at}")
        with LedgerLock(Location.of(prepared.out)) as lock:
            return _execute(prepared, listener, time, lock, began, phases)


def _execute(
    prepared: Prepared,
    listener: RunListener,
    time: TimeSource,
    lock: LedgerLock,
    began: datetime,
    phases: PhaseLog,
) -> RunResult:
    ahead, request = look_ahead(prepared), prepared.request
    phases.enter("ray")
    with open_session(request.address, isolation=request.isolation) as session:
        phases.enter("policies")
        servers = load_policies(prepared, session, listener, time)
        try:
            phases.enter("nodes")
            reports = inspect(prepared, session, servers, listener, ahead)
            phases.enter("claim")
            claimed = claim(prepared, servers, reports, time, began, lock)
            for cell in claimed.left_out:
                listener.say(f"note: {cell.sentence}")
            return fulfil(claimed, session, listener, time, phases)
        finally:
            servers.close()


def load_policies(prepared: Prepared, session: RaySession, listener: RunListener, time: TimeSource) -> PolicyServers:
    """Bring the policies up, and say what they warn of."""
    heavy = [spec.label for spec in prepared.suite.policies if spec.label not in prepared.light]
    if heavy:
        listener.say(f"Loading {', '.join(heavy)}")
    nodes = session.nodes()
    if wanted := prepared.wanted_hardware:
        nodes = recognise(session, nodes)
        require_hardware(nodes, wanted)
    suite = prepared.suite
    awaited = Awaited(tuple(suite.nfe), continued=any(CLOCK_OF[name].freezes for name in suite.clock))
    servers = open_policies(session, nodes, suite.policies, prepared.light, time, awaited)
    for sentence in servers.prepared:
        listener.say(sentence)
    for label, info in servers.infos.items():
        if (caution := frame_warning(info, prepared.suite.protocol.resolution)) is not None:
            servers.record_warning(label, caution)
    for warning in servers.warnings:
        listener.say(f"warning: {warning}")
    return servers


def look_ahead(prepared: Prepared) -> Future[NodeReport] | None:
    """Begin to look at this machine while Ray starts and policies load, where frames may be wanted here."""
    suite = prepared.suite
    looked_at = any(setup.info.cameras for setup in prepared.light.values()) or len(prepared.light) < len(
        suite.policies
    )
    maybe = prepared.recording is not None or suite.video != "none" or looked_at
    if not suite.tasks or not maybe or not get_world(suite.world).interface.gl or prepared.request.address is not None:
        return None
    request = NodeRequest(suite.world, tuple(prepared.descriptions), True, suite.protocol.renderer)
    pool = ThreadPoolExecutor(1, "renderer")
    try:
        return pool.submit(local_report, request, prepared.descriptions)
    finally:
        pool.shutdown(wait=False)


def inspect(
    prepared: Prepared,
    session: RaySession,
    servers: PolicyServers,
    listener: RunListener,
    ahead: Future[NodeReport] | None = None,
) -> dict[str, NodeReport]:
    """Look at the nodes that episodes will run on; `ahead` is what `look_ahead` began."""
    suite = prepared.suite
    if not suite.tasks:
        return {}
    seen = any(info.cameras for info in servers.infos.values())
    renders = prepared.recording is not None or suite.video != "none" or seen
    if renders and get_world(suite.world).interface.gl:
        listener.say("Choosing a renderer")
    request = NodeRequest(suite.world, tuple(prepared.descriptions), renders, suite.protocol.renderer)
    if session.owned and renders and ahead is not None:
        return {session.driver_node_id: ahead.result()}
    if session.owned:
        return {session.driver_node_id: local_report(request, prepared.descriptions)}
    own = NodeReport("the driver", prepared.descriptions, None)
    return inspect_nodes(session, [node for node in session.nodes() if node.cpus], request, own, listener.say)


def fulfil(
    claimed: Claimed, session: RaySession, listener: RunListener, time: TimeSource, phases: PhaseLog
) -> RunResult:
    """Do what was claimed, and write down how it ended.

    Raises:
        HarnessError: It is useless to go on; it says so of itself (`resumable`).
    """
    rolled, probed, status = None, ProbesEnd(), RunStatus.FAILED.value
    try:
        if warning := claimed.writer.location.partition_warning:
            listener.say(f"warning: {warning}")
        claimed.write_status(RunStatus.RUNNING, time)
        rolled, probed = work(claimed, session, listener, time, phases)
        status = conclude(claimed, rolled, probed)
    except KeyboardInterrupt:
        status = RunStatus.INTERRUPTED.value
    except Exception as error:
        told = error if isinstance(error, HarnessError) else as_node_error(error)
        if told is None:
            raise
        told.resumable = True
        raise told from None
    finally:
        # When a full disk is why the run failed, its own error counts, not that this row cannot be written.
        with Interrupts(), suppress(*([HarnessError] if status == RunStatus.FAILED else [])):
            claimed.writer.append("phases", phases.rows(claimed.run_id))
            claimed.write_status(status, time)
    recorded = None
    if claimed.prepared.recording is not None and status == RunStatus.FINISHED and is_whole(claimed, rolled):
        claimed.servers.close()
        listener.say("Writing the dataset")
        recorded = finish_recording(claimed.prepared.recording, claimed.prepared.out, claimed.plan, origin(claimed))
    return summarise(claimed, rolled, probed, status, recorded)


def work(
    claimed: Claimed, session: RaySession, listener: RunListener, time: TimeSource, phases: PhaseLog
) -> tuple[DriveResult | None, ProbesEnd]:
    """Roll out, then probe."""
    nodes = session.nodes()
    rows = describe_nodes(session, nodes, claimed.run_id, claimed.reports)
    for node_id, threads in claimed.servers.threads().items():
        if node_id in rows:
            rows[node_id]["threads"] = threads
    compared = compare_nodes(claimed, session, rows, listener.say)
    places = {
        node_id: NodeIdentity(row["node_id"], row["hardware"], row["gl"], compared.labels.get(node_id))
        for node_id, row in rows.items()
    }
    hosts = [node for node in nodes if node.node_id in claimed.reports and node.node_id not in compared.quarantined]
    devices = {node_id: report.backend.devices for node_id, report in claimed.reports.items() if report.backend}
    slots = place(claimed, session, hosts, devices)
    renderers = spread_renderers(slots, devices)
    for node_id, row in rows.items():
        here = {f"worker-{i}": str(n) for i, n in enumerate(renderers) if n is not None and slots[i].node_id == node_id}
        row["renderers"] = here or None
    claimed.writer.append("nodes", list(rows.values()))
    write_expected(claimed, time)
    with Interrupts() as interrupts:
        controller = start_controller(session, claimed, n_workers=len(slots), time=time)
        try:
            rolled = None
            if slots:
                phases.enter("workers")
                setup = worker_setup(claimed, session, places, time)
                group = start_workers(claimed, session, slots, renderers, setup, controller)
                usage = UsageLog(
                    session,
                    claimed.servers,
                    claimed.writer.append,
                    run_id=claimed.run_id,
                    nodes={node_id: place.node_id for node_id, place in places.items()},
                    time=time,
                )
                drive = RolloutDrive(
                    session,
                    group,
                    controller,
                    clock=time,
                    interrupts=interrupts,
                    on_progress=partial(_on_progress, phases, listener),
                    max_attempts=claimed.suite.max_attempts,
                    episode_s=claimed.suite.limits.episode_s,
                    usage=usage,
                )
                try:
                    rolled = drive.drive()
                finally:
                    usage.write()
            # Probes need every CPU and GPU of a node.
            claimed.servers.close()
            if claimed.prepared.probe is None or (rolled is not None and rolled.interrupted):
                return rolled, ProbesEnd()
            phases.enter("probes")
            return rolled, run_probes(
                session,
                nodes,
                places,
                claimed.prepared.probe,
                controller,
                run_id=claimed.run_id,
                held=read_probed(claimed.prepared.out) if claimed.prepared.request.resume else set(),
                resolution=claimed.suite.protocol.resolution,
                interrupts=interrupts,
                say=listener.say,
            )
        finally:
            phases.enter("end")
            session.ray.kill(controller)


def _on_progress(phases: PhaseLog, listener: RunListener, progress: Progress) -> None:
    """Pass progress on; rollouts begin with the first worker that asks for work."""
    if progress.workers and phases.name == "workers":
        phases.enter("rollouts")
    listener.progress(progress)


def place(
    claimed: Claimed, session: RaySession, hosts: Sequence[NodeResources], devices: Mapping[str, Sequence[int]]
) -> tuple[WorkerSlot, ...]:
    """Where rollout workers go; `devices` are the GPUs of each node that render alike."""
    n_todo, wanted = len(claimed.todo), claimed.prepared.request.workers
    if not n_todo:
        return ()
    reserved = reserved_cores({node.node_id: node.cpus for node in hosts}, server_demands(claimed))
    rendering = [node for node in hosts if devices.get(node.node_id)] if wanted is None else []
    free = free_gpu_bytes(session, rendering)
    room = {node_id: renderer_room(len(devices[node_id]), sizes) for node_id, sizes in free.items() if sizes}
    return place_workers(hosts, claimed.servers.slots, wanted, n_todo, reserved, room)


def start_workers(
    claimed: Claimed,
    session: RaySession,
    slots: Sequence[WorkerSlot],
    renderers: Sequence[int | None],
    setup: WorkerSetup,
    controller: Any,
) -> WorkerGroup:
    """Start a worker in every slot, with what it renders by, and tell the policy servers who will ask."""
    claimed.servers.attach(len(slots), {node_id: place.hardware for node_id, place in setup.places.items()})
    backends = [claimed.reports[slot.node_id].backend for slot in slots]
    environments = [
        {} if backend is None else backend.env_on(device) for backend, device in zip(backends, renderers, strict=True)
    ]
    return WorkerGroup(session, slots, setup, controller, environments)


def server_demands(claimed: Claimed) -> list[ServerDemand]:
    """What each policy server takes, as it was timed when its policy was loaded."""
    demands = []
    for slot in claimed.servers.slots:
        setup = claimed.servers.setups[slot.policy]
        measured: Mapping[str, float] = setup.record.get("serving", {}).get("measured_ms", {})
        latency_s = {int(size): ms / 1e3 for size, ms in measured.items()}
        demands.append(ServerDemand(slot.node_id, latency_s, replan_interval(claimed.suite.protocol, setup.info)))
    return demands


def write_expected(claimed: Claimed, time: TimeSource) -> None:
    """Store what this run was expected to take, before its first episode; one that is not ready is late."""
    expected = claimed.prepared.request.expected
    if expected is None:
        return
    row = expected.result() if expected.done() else {"made_at": time.now(), "status": "late"}
    claimed.writer.append("plans", [{**row, "run_id": claimed.run_id}])


def worker_setup(
    claimed: Claimed, session: RaySession, places: Mapping[str, NodeIdentity], time: TimeSource
) -> WorkerSetup:
    """What every rollout worker has to know."""
    suite, location = claimed.suite, claimed.writer.location
    renderers = [report.backend.renderer for report in claimed.reports.values() if report.backend is not None]
    return WorkerSetup(
        world=suite.world,
        protocol=suite.protocol,
        limits=suite.limits,
        policies=claimed.servers.setups,
        task_names={
            (name, task_id): task
            for name, description in claimed.prepared.descriptions.items()
            for task_id, task in enumerate(description.tasks)
        },
        places=places,
        video_dir=(location.root if location.is_local else location.label) if suite.video != "none" else None,
        ledger_node=session.driver_node_id,
        video_cameras=cameras_for(renderers[0] if renderers else "none", get_world(suite.world).interface.cameras),
        recording=claimed.prepared.recording,
        isolation=session.isolation,
        time=time,
        sources={source.name: source for source in claimed.prepared.request.sources},
        began=claimed.row["started_at"],
    )


def conclude(claimed: Claimed, rolled: DriveResult | None, probed: ProbesEnd) -> str:
    """The state in which work ended; what early stopping had decided is kept beside the ledger."""
    if probed.interrupted or (rolled is not None and rolled.interrupted):
        return RunStatus.INTERRUPTED.value
    note = rolled.stopped if rolled is not None else None
    if note is None:
        return RunStatus.FINISHED.value
    if note.record:
        claimed.writer.location.write_file(STOP_RECORD, json.dumps(dict(note.record), indent=2) + "\n")
    return note.status


def is_whole(claimed: Claimed, rolled: DriveResult | None) -> bool:
    """Whether every episode of the plan is in the ledger, none of them as an error."""
    progress = rolled.snapshot.progress if rolled is not None else None
    return len(claimed.todo) == (progress.done - progress.errors if progress is not None else 0)


def origin(claimed: Claimed) -> dict[str, Any]:
    """What a dataset says of the run that it was recorded in."""
    (info,) = claimed.servers.infos.values()
    backends = [report.backend for report in claimed.reports.values() if report.backend is not None]
    return {
        "run_id": claimed.run_id,
        "protocol": json.loads(claimed.row["protocol"]),
        "renderers": sorted({backend.renderer for backend in backends}),
        "policy": info.policy_id,
        "checkpoint": info.checkpoint,
        "checkpoint_sha256": info.checkpoint_sha256,
        "git_revision": claimed.row["git_revision"],
        "versions": claimed.row["versions"],
    }


def summarise(
    claimed: Claimed, rolled: DriveResult | None, probed: ProbesEnd, status: str, recorded: Dataset | None
) -> RunResult:
    """What a run did, from what its parts say."""
    begun = RunResult(
        claimed.run_id,
        claimed.prepared.out,
        planned=len(claimed.plan),
        skipped=len(claimed.plan) - len(claimed.todo),
        interrupted=status == RunStatus.INTERRUPTED,
        errors=probed.failures,
        warnings=(*claimed.prepared.left_out, *probed.warnings),
        recorded=recorded,
    )
    if rolled is None:
        return begun
    snapshot, progress = rolled.snapshot, rolled.snapshot.progress
    timeouts = progress.done - progress.successes - progress.errors
    told = tuple(f"{error.count} × {error.error_type}; the first: {error.message}" for error in snapshot.errors)
    return replace(
        begun,
        done=progress.done,
        outcomes={"success": progress.successes, "timeout": timeouts, "error": progress.errors},
        stopped=rolled.stopped,
        errors=(*told, *probed.failures),
        warnings=(*snapshot.warnings, *_heavy_workers(rolled), *begun.warnings),
        workers=len(rolled.summaries),
        rollout_s=progress.elapsed_s,
        worker_s=sum(summary.active_s for summary in rolled.summaries),
        build_s=sum(summary.build_s for summary in rolled.summaries),
        idle_s=sum(summary.idle_s for summary in rolled.summaries),
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

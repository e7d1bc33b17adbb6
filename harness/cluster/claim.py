"""Make a ledger a run's own: what is about to be done, under which protocol, with which policies."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harness.cluster.cells import LeftOutCell, plan_cells, timing_record
from harness.cluster.earlier import EarlierEpisodes, read_held
from harness.cluster.identity import require_same_policies
from harness.cluster.nodes import NodeReport
from harness.cluster.policy_servers import PolicyServers
from harness.cluster.prepare import Prepared, check_infos, plan_variants, task_counts
from harness.cluster.provenance import run_versions
from harness.cluster.recording import check_parts
from harness.errors import UsageError
from harness.ledger import LedgerWriter
from harness.ledger.lock import LedgerLock
from harness.ledger.parts import read_rows
from harness.ledger.provenance import git_revision
from harness.schedule.early_stopping import EarlyStopping
from harness.schedule.plan import missing, plan_episodes
from harness.schedule.status import RunStatus
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite
from harness.spec.manifest import canonical_json, manifest_sha256
from harness.spec.protocol import run_protocol_sha256
from harness.time_source import TimeSource


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run whose ledger is its own."""

    prepared: Prepared
    run_id: str
    row: Mapping[str, Any]
    """Row of `runs`, without status and end."""
    plan: tuple[EpisodeUnit, ...]
    held: EarlierEpisodes
    servers: PolicyServers
    reports: Mapping[str, NodeReport]
    """Ray's node id → what the node has, for nodes that episodes run on."""
    writer: LedgerWriter
    early_stopping: EarlyStopping | None = None
    left_out: tuple[LeftOutCell, ...] = ()
    """Cells in which nothing would ever be executed."""
    todo: tuple[EpisodeUnit, ...] = field(init=False)
    """The part of the plan that the ledger lacks."""

    def __post_init__(self) -> None:
        """Work out what is missing."""
        object.__setattr__(self, "todo", missing(self.plan, self.held.finished))

    @property
    def suite(self) -> Suite:
        """The suite that runs."""
        return self.prepared.suite

    def write_status(self, status: RunStatus | str, time: TimeSource) -> None:
        """Append the run's state to the ledger."""
        ended = {} if status == RunStatus.RUNNING else {"ended_at": time.now()}
        self.writer.append("runs", [{**self.row, **ended, "status": str(status)}])


def claim(
    prepared: Prepared,
    servers: PolicyServers,
    reports: Mapping[str, NodeReport],
    time: TimeSource,
    began: datetime | None = None,
    lock: LedgerLock | None = None,
) -> Claimed:
    """Plan a run, and make the ledger its own.

    Args:
        prepared: The request, checked, with its suite.
        servers: The policies, loaded.
        reports: Ray's node id → what the node has.
        time: Time of day of the run's row.
        began: When the run began, UTC; None for now.
        lock: Held by the driver as soon as there is a directory.

    Raises:
        UsageError: Policies and protocol do not fit, or a wanted episode is not in the plan.
        LedgerError: The ledger is another suite's, or under another protocol, or another driver's at this moment.
        PolicyChanged: It holds episodes of another policy under the same name.
    """
    suite, request, started = prepared.suite, prepared.request, began or time.now()
    check_infos(servers.infos, suite)
    manifests = build_manifests(prepared, servers, reports)
    counts = {
        name: task_counts(prepared.descriptions[name], suite.protocol, manifest_sha256(manifest))
        for name, manifest in manifests.items()
    }
    variants = plan_variants(servers.infos, suite.nfe, asked=bool(request.changes.nfe))
    timed = request.only_clocks is not None
    cells = plan_cells(suite, request.sources, variants, servers.infos, timed=timed)
    plan = plan_episodes(suite.tasks, counts, variants, cells.timings)
    if request.only is not None:
        plan = only_keys(plan, request.only)
    if request.only_clocks is not None:
        plan = tuple(unit for unit in plan if unit.clock in request.only_clocks)
    if prepared.recording is not None:
        check_parts(prepared.recording, plan)
    if request.admission is not None:
        request.admission(plan, manifests)
    early_stopping = request.early_stopping(plan, manifests) if request.early_stopping is not None else None
    run_id = f"{suite.name}-{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
    row: dict[str, Any] = {
        "run_id": run_id,
        "suite": suite.to_yaml(),
        "started_at": started,
        "protocol": canonical_json(manifests),
        "protocol_sha256": run_protocol_sha256(manifests),
        "git_revision": git_revision(),
        "versions": run_versions(prepared.descriptions.values()),
        "policies": canonical_json(servers.records),
        "timing": canonical_json(timing_record(suite, request.sources, cells)),
    }
    writer = LedgerWriter(prepared.out)
    if lock is not None:
        lock.hold()
    writer.claim(row["suite"], row["protocol"], row["protocol_sha256"], resume=request.resume)
    if lock is not None:
        # The directory may be there only now.
        lock.hold()
    if request.resume:
        require_same_policies(prepared.out, servers.infos)
    held = read_held(prepared.out, resume=request.resume)
    return Claimed(prepared, run_id, row, plan, held, servers, reports, writer, early_stopping, cells.left_out)


def build_manifests(
    prepared: Prepared, servers: PolicyServers, reports: Mapping[str, NodeReport]
) -> dict[str, dict[str, Any]]:
    """LIBERO suite → protocol manifest."""
    reads_frames = any(info.cameras for info in servers.infos.values())
    backends = [report.backend for report in reports.values() if report.backend is not None]
    renderer = backends[0].renderer if reads_frames and backends else "none"
    if not reads_frames and prepared.request.resume:
        # What looks at no frame plays alike under every renderer: it joins the episodes of those that look.
        renderer = held_renderer(prepared.out) or renderer
    return {
        suite: prepared.suite.protocol.manifest(
            suite,
            init_states_sha256=description.init_states_sha256,
            versions=description.versions,
            renderer=renderer,
        )
        for suite, description in prepared.descriptions.items()
    }


def held_renderer(out: str) -> str | None:
    """The renderer under which a ledger's episodes were keyed; None where it holds no run."""
    location = LedgerWriter(out).location
    for row in read_rows(location, "runs", ["protocol"]) if location.exists() else ():
        with suppress(ValueError):
            for manifest in json.loads(row["protocol"] or "{}").values():
                renderer = manifest.get("renderer") if isinstance(manifest, dict) else None
                if isinstance(renderer, str):
                    return renderer
    return None


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

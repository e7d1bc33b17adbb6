"""What the nodes of a cluster are and can do, looked at before anything runs on them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from harness.cluster.nodes import INSPECT_S, describe_nodes
from harness.cluster.ray_errors import reason_of
from harness.cluster.ray_session import RaySession
from harness.schedule.placement import NodeResources

ASKED = 3
"""How often a node is asked for the time: the quickest answer bounds its clock best."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node."""

    node_id: str
    """As ledgers name it."""
    hardware: str | None
    """Profile of its label or match; else what the device calls itself."""
    cores: float
    """CPUs that Ray hands out."""
    gpus: float
    gl: str | None
    """What renders there, class and device."""
    isa: str | None
    versions: Mapping[str, str]
    clock_s: float | None
    """Its clock ahead of the driver's, seconds."""
    clock_within_s: float | None
    """Half the round trip in which that was measured, seconds."""
    cannot: tuple[str, ...]
    """What it cannot take part in, each with its reason."""

    def as_json(self) -> dict[str, Any]:
        """Its fields, as JSON takes them."""
        return {**asdict(self), "versions": dict(self.versions), "cannot": list(self.cannot)}


def look_at_nodes(session: RaySession) -> list[NodeStatus]:
    """Ask every node what it is; one that does not answer is told as such.

    Raises:
        UsageError: A node's label `hardware` names no profile.
    """
    nodes = session.nodes()
    task = session.ray.remote(num_cpus=0, max_retries=0)(_abilities)
    refs = {node.node_id: task.options(scheduling_strategy=session.on(node.node_id)).remote() for node in nodes}
    told, silent = {}, []
    for node in nodes:
        try:
            told[node.node_id] = session.ray.get(refs[node.node_id], timeout=INSPECT_S)
        except Exception as error:
            silent.append(_silent(node, reason_of(error)))
    answering = [node for node in nodes if node.node_id in told]
    rows = describe_nodes(session, answering, "", {})
    return [_status(session, node, rows[node.node_id], *told[node.node_id]) for node in answering] + silent


def _status(
    session: RaySession, node: NodeResources, row: Mapping[str, Any], gl: str | None, cannot: tuple[str, ...]
) -> NodeStatus:
    ahead, within = _clock(session, node)
    if not node.cpus:
        cannot = ("run anything: it has no CPU for Ray (`ray start --num-cpus`)",)
    elif not node.gpus and row["accelerator"]:
        cannot = (*cannot, f"use its {row['accelerator']}: Ray counts no GPU there (`ray start --num-gpus`)")
    found = (row["node_id"], row["hardware"], node.cpus, node.gpus, gl, row["isa"], dict(row["versions"]))
    return NodeStatus(*found, ahead, within, cannot)


def _silent(node: NodeResources, reason: str) -> NodeStatus:
    return NodeStatus(
        node.host, node.hardware, node.cpus, node.gpus, None, None, {}, None, None, (f"answer: {reason}",)
    )


def _clock(session: RaySession, node: NodeResources) -> tuple[float, float]:
    """(seconds that the node's clock is ahead, half the round trip)."""
    task = session.ray.remote(num_cpus=0)(_now).options(scheduling_strategy=session.on(node.node_id))
    found = []
    for _ in range(ASKED):
        before = time.time()
        there = session.ray.get(task.remote(), timeout=INSPECT_S)
        after = time.time()
        found.append((there - (before + after) / 2, (after - before) / 2))
    return min(found, key=lambda each: each[1])


def _now() -> float:
    return time.time()


def _abilities() -> tuple[str | None, tuple[str, ...]]:
    """(what renders here, what cannot be done here and why)."""
    from harness.errors import HarnessError
    from harness.sim.gl import choose_backend
    from harness.sim.package import find_package

    gl, cannot = None, []
    try:
        find_package()
        backend = choose_backend(env=os.environ)
        gl = f"{backend.renderer}: {backend.device}"
    except HarnessError as error:
        cannot.append(f"simulate: {error}")
    if find_spec("torch") is None:
        cannot.append("serve torch policies: torch is not installed (pip install 'vla-harness[policies]')")
    return gl, tuple(cannot)

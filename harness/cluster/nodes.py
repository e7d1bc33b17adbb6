"""What each node has to have before it may roll out: the same world, the same versions, the same renderer."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.cluster.ray_errors import harness_error, reason_of
from harness.cluster.ray_session import RaySession
from harness.errors import NodeError, SimulatorError
from harness.schedule.placement import NodeResources
from harness.worlds.base import GLBackend, SuiteDescription

INSPECT_S = 300.0
"""Limit of one node's inspection, seconds: importing LIBERO and rendering frames on a busy machine."""


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What is asked of a node."""

    world: str
    suites: tuple[str, ...]
    renders: bool
    """Whether workers on it will render."""
    renderer: str = "auto"
    """`Protocol.renderer`."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node answers."""

    host: str
    descriptions: Mapping[str, SuiteDescription]
    backend: GLBackend | None


def inspect_node(request: NodeRequest) -> NodeReport:
    """Look at the node that this runs on.

    Raises:
        UsageError: The world has no such suite.
        SimulatorError: LIBERO is not usable here, or (`RenderError`) no GL backend is.
    """
    from harness.worlds.registry import get_world

    world = get_world(request.world)
    world.require_installed()
    descriptions = {suite: world.describe(suite) for suite in request.suites}
    return NodeReport(socket.gethostname(), descriptions, _backend(request))


def local_report(request: NodeRequest, descriptions: Mapping[str, SuiteDescription]) -> NodeReport:
    """Look at the driver's own machine, whose world has been described already."""
    return NodeReport(socket.gethostname(), descriptions, _backend(request))


def inspect_nodes(
    session: RaySession,
    nodes: Sequence[NodeResources],
    request: NodeRequest,
    driver: NodeReport,
    say: Callable[[str], None],
) -> dict[str, NodeReport]:
    """Look at every node, in a task pinned to it. One that cannot simulate may still serve policies and be probed.

    Args:
        session: Connection to the Ray cluster.
        nodes: The nodes that episodes will run on.
        request: What to look at.
        driver: What the driver has: the protocol manifests are made from it.
        say: Takes a line for each node that cannot simulate.

    Returns:
        Node id → report, of the nodes that can simulate.

    Raises:
        SimulatorError: No node can simulate.
        NodeError: A node failed (names it), or two nodes differ in what decides scores (names both and the values).
    """
    from ray.exceptions import RayError

    task = session.ray.remote(num_cpus=0, max_retries=0)(inspect_node)
    refs = {node: task.options(scheduling_strategy=session.on(node.node_id)).remote(request) for node in nodes}
    reports: dict[str, NodeReport] = {}
    unable: dict[str, SimulatorError] = {}
    for node, ref in refs.items():
        try:
            reports[node.node_id] = session.ray.get(ref, timeout=INSPECT_S)
        except RayError as error:
            told = harness_error(error)
            if isinstance(told, SimulatorError):
                unable[node.host] = told
                continue
            if len(nodes) == 1 and told is not None:
                raise told from None
            raise NodeError(
                f"Node {node.host} cannot take part: {reason_of(error)}. Repair it, or take it out of the cluster."
            ) from error
    if not reports and unable:
        raise next(iter(unable.values()))
    for host, told in unable.items():
        say(f"warning: no episodes run on {host}: {told}")
    require_alike([driver, *reports.values()])
    return reports


def require_alike(reports: Sequence[NodeReport]) -> None:
    """Refuse nodes that would give different scores.

    Raises:
        NodeError: Names the two nodes, what differs, both values, and the remedy.
    """
    first = reports[0]
    rendering = [report for report in reports if report.backend is not None]
    for other in rendering[1:]:
        ours, theirs = _renderer(rendering[0]), _renderer(other)
        if ours != theirs:
            raise NodeError(
                f"Node {other.host} renders with {theirs!r}, but {rendering[0].host} with {ours!r}, and pixels differ "
                "between the two. Make one renderer available on both, fix `renderer` in the protocol, or take a node "
                "out of the cluster."
            )
    for other in reports[1:]:
        for suite, description in first.descriptions.items():
            for what, mine, its in _differences(description, other.descriptions[suite]):
                raise NodeError(
                    f"Node {other.host} has {what} {its!r} for {suite}, but {first.host} has {mine!r}; scores would "
                    "not compare. Install the same packages on both (see requirements.lock)."
                )


def _renderer(report: NodeReport) -> str | None:
    return report.backend.renderer if report.backend is not None else None


def describe_nodes(
    session: RaySession, nodes: Sequence[NodeResources], run_id: str, reports: Mapping[str, NodeReport]
) -> dict[str, dict[str, Any]]:
    """Describe every node: a private cluster's only one from here, others in a task pinned to each.

    Args:
        session: Connection to the Ray cluster.
        nodes: Nodes to describe, the driver's first.
        run_id: The run that they are described for.
        reports: Ray's node id → what the node renders with.

    Returns:
        Ray's node id → row of the ledger's table `nodes`. A node is the hardware that its label names, else what it is
        found to be. Nodes of one host have names of their own: the second is called HOST-2.
    """
    gl = {node_id: f"{r.backend.renderer}: {r.backend.device}" for node_id, r in reports.items() if r.backend}
    if session.owned:
        return {session.driver_node_id: _describe(run_id, gl.get(session.driver_node_id))}
    task = session.ray.remote(num_cpus=0)(_describe)
    refs = {
        node.node_id: task.options(scheduling_strategy=session.on(node.node_id)).remote(run_id, gl.get(node.node_id))
        for node in nodes
    }
    rows = dict(zip(refs, session.ray.get(list(refs.values()), timeout=INSPECT_S), strict=True))
    names = Counter[str]()
    for node in nodes:
        row = rows[node.node_id]
        row["hardware"] = node.hardware or row["hardware"]
        names[row["node_id"]] += 1
        if (n := names[row["node_id"]]) > 1:
            row["node_id"] += f"-{n}"
    return rows


def recognise(session: RaySession, nodes: Sequence[NodeResources]) -> tuple[NodeResources, ...]:
    """Find out what unlabelled nodes are: the profile that alone fits, else what the device calls itself."""
    unknown = [node for node in nodes if node.hardware is None]
    task = session.ray.remote(num_cpus=0)(_hardware)
    refs = [task.options(scheduling_strategy=session.on(node.node_id)).remote() for node in unknown]
    found = [_hardware()] * len(unknown) if session.owned else session.ray.get(refs, timeout=INSPECT_S)
    told = {node.node_id: hardware for node, hardware in zip(unknown, found, strict=True)}
    return tuple(replace(node, hardware=node.hardware or told[node.node_id]) for node in nodes)


def _hardware() -> str | None:
    from harness.latency.node import hardware_of_node

    return hardware_of_node()


def free_gpu_bytes(session: RaySession, nodes: Sequence[NodeResources]) -> dict[str, list[int]]:
    """Node id → free memory of each of its GPUs now; empty where the driver does not say."""
    if session.owned:
        return {node.node_id: _free_gpu_bytes() for node in nodes}
    task = session.ray.remote(num_cpus=0)(_free_gpu_bytes)
    refs = {node.node_id: task.options(scheduling_strategy=session.on(node.node_id)).remote() for node in nodes}
    return dict(zip(refs, session.ray.get(list(refs.values()), timeout=INSPECT_S), strict=True))


def _free_gpu_bytes() -> list[int]:
    from harness.latency.nvml import NvmlSource

    return [memory[1] for source in NvmlSource.every() if (memory := source.memory()) is not None]


def _describe(run_id: str, gl: str | None) -> dict[str, Any]:
    from harness.latency.node import describe_node

    row = describe_node(run_id=run_id, gl=gl)
    return {**row, "versions": dict(row["versions"])}


def _differences(ours: SuiteDescription, theirs: SuiteDescription) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [
        ("init states", ours.init_states_sha256, theirs.init_states_sha256),
        *(
            (f"version of {name}", ours.versions.get(name), theirs.versions.get(name))
            for name in sorted({*ours.versions, *theirs.versions})
        ),
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _backend(request: NodeRequest) -> GLBackend | None:
    """The GL backend that workers here will use; None when they render nothing."""
    from harness.worlds.registry import get_world

    if not request.renders or not get_world(request.world).interface.gl:
        return None
    from harness.sim.gl import choose_backend

    wanted = request.renderer
    backend = choose_backend(None if wanted == "auto" else wanted, env=os.environ)
    if wanted not in ("auto", backend.renderer):
        raise NodeError(
            f"The protocol asks for renderer {wanted!r}, but {socket.gethostname()} has {backend.renderer!r} "
            f"({backend.device}). Install what it needs (`harness doctor` says what), or set `renderer: auto`."
        )
    return backend

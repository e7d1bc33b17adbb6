"""Where actors go, from what the nodes have. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import NodeError

WORKER_MEMORY_BYTES = 5 * 2**29
"""What a rollout worker needs: with two LIBERO tasks built its resident memory is 1.5 to 2.3 GB."""


RENDERER_MEMORY_BYTES = 530 * 10**6
"""What a rollout worker takes of a GPU's memory to render LIBERO: its GL contexts with their textures (on an H100)."""


@dataclass(frozen=True, slots=True)
class NodeResources:
    """What Ray says of a node."""

    node_id: str
    host: str
    cpus: float
    gpus: float
    memory_bytes: float
    hardware: str | None = None
    """Hardware profile that its label `hardware` names (`ray start --labels hardware=…`), or that it was found to be;
    None where neither is known."""


@dataclass(frozen=True, slots=True)
class ServerSlot:
    """Where one policy server goes."""

    policy: str
    node_id: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Where one rollout worker goes."""

    node_id: str
    cpus: float


def place_servers(
    nodes: Sequence[NodeResources], policies: Sequence[str], on: Mapping[str, str] | None = None
) -> tuple[ServerSlot, ...]:
    """Place policy servers: one per policy on every GPU, sharing GPUs when policies outnumber them; else one on CPUs.

    Policies that are to run on a hardware profile share its nodes; the others share the nodes that no policy names, or,
    where each is named, those with the most GPUs.

    Args:
        nodes: Nodes of the cluster with their free CPUs, GPUs and memory.
        policies: Labels of policies that need a server.
        on: Policy → hardware profile that it is to run on, for those that say one.

    Raises:
        NodeError: No node has a CPU, or none is what a policy is to run on (names it, and what the nodes are).
    """
    wanted = on or {}
    require_hardware(nodes, [(policy, wanted[policy]) for policy in policies if policy in wanted])
    pools = {
        wanted[policy]: [n for n in nodes if n.hardware == wanted[policy]] for policy in policies if policy in wanted
    }
    rest = [node for node in nodes if node.hardware not in pools]
    if not any(node.cpus for node in rest) and pools:
        rest = max(pools.values(), key=lambda pool: (sum(n.gpus for n in pool), sum(n.cpus for n in pool)))
    home = {policy: tuple(pools[wanted[policy]] if policy in wanted else rest) for policy in policies}
    shared: dict[tuple[NodeResources, ...], list[str]] = {}
    for policy, pool in home.items():
        shared.setdefault(pool, []).append(policy)
    return tuple(slot for pool, tenants in shared.items() for slot in _place_servers(pool, tenants))


def require_hardware(nodes: Sequence[NodeResources], wanted: Iterable[tuple[str, str]]) -> None:
    """Refuse hardware that no node is.

    Args:
        nodes: Nodes of the cluster, with what they are.
        wanted: (policy, hardware profile that it is to run on).

    Raises:
        NodeError: Names the policy, the profile, and what the nodes are.
    """
    for policy, profile in wanted:
        if not any(node.cpus for node in nodes if node.hardware == profile):
            there = ", ".join(f"{node.host} is {node.hardware or 'of no known profile'}" for node in nodes)
            raise NodeError(
                f"{policy!r} is to run on {profile}, but no node with a CPU is one: {there}. Label it when it joins "
                f"(`ray start --labels hardware={profile}`), or change `on`; `harness cluster status` shows the nodes."
            )


def _place_servers(nodes: Sequence[NodeResources], policies: Sequence[str]) -> tuple[ServerSlot, ...]:
    gpus = [node for node in nodes for _ in range(int(node.gpus))]
    if not gpus:
        roomiest = max(_with_cpus(nodes), key=lambda node: node.cpus)
        chosen = [(policy, roomiest, 0.0) for policy in policies]
    elif len(policies) <= len(gpus):
        chosen = [(policies[i % len(policies)], node, 1.0) for i, node in enumerate(gpus)]
    else:
        # Ray cannot spread a fraction over two GPUs, so it must divide one.
        per_gpu = -(-len(policies) // len(gpus))
        chosen = [(policy, gpus[i // per_gpu], _floor(1 / per_gpu)) for i, policy in enumerate(policies)]
    crowd = Counter(node.node_id for _, node, _ in chosen)
    # One CPU each, yet something must be left for workers.
    return tuple(
        ServerSlot(policy, node.node_id, min(1.0, _floor(node.cpus / (crowd[node.node_id] + 1))), share)
        for policy, node, share in chosen
    )


def place_workers(
    nodes: Sequence[NodeResources],
    servers: Sequence[ServerSlot],
    wanted: int | None,
    n_units: int,
    reserved: Mapping[str, int] | None = None,
    render_room: Mapping[str, int] | None = None,
) -> tuple[WorkerSlot, ...]:
    """Place rollout workers.

    Args:
        nodes: Nodes of the cluster with their free CPUs, GPUs and memory.
        servers: What policy servers take.
        wanted: Number of workers (≥ 1); None for one per CPU that is not reserved, as memory allows, and at least one.
        n_units: Units of work: more workers than that would idle.
        reserved: Node → CPUs that servers keep for themselves (`harness.schedule.balance`); on any other node workers
            share every CPU with the servers.
        render_room: Node → workers that its GPUs have memory to render for (`renderer_room`), where that is known.

    Raises:
        NodeError: No node has a CPU.
    """
    taken: defaultdict[str, float] = defaultdict(float)
    for server in servers:
        taken[server.node_id] += server.cpus
    hosts = _with_cpus(nodes)
    free = {node.node_id: max(node.cpus - taken[node.node_id], 0.0) for node in hosts}
    kept, gpus = reserved or {}, render_room or {}
    room = {node.node_id: min(int(node.cpus) - kept.get(node.node_id, 0), _by_memory(node)) for node in hosts}
    room = {node_id: min(n, gpus.get(node_id, n)) for node_id, n in room.items()}
    if wanted is None:
        wanted = max(sum(room.values()), 1)
    count = min(wanted, max(n_units, 1))
    chosen = Counter[str]()
    for _ in range(count):
        # Fill the room first, evenly; beyond it, the node with the most CPU per worker.
        node_id = max(free, key=lambda node: (chosen[node] < room[node], free[node] / (chosen[node] + 1)))
        chosen[node_id] += 1
    # An actor that asks for more than is free would wait for ever.
    return tuple(
        WorkerSlot(node_id, min(1.0, _floor(free[node_id] / n))) for node_id, n in chosen.items() for _ in range(n)
    )


def renderer_room(n_devices: int, free_bytes: Sequence[int]) -> int:
    """Workers that a node's GPUs have memory to render for, spread evenly: the fullest one decides.

    Args:
        n_devices: GPUs that they are spread over.
        free_bytes: Free memory of each GPU, once policies are loaded.
    """
    return n_devices * (min(free_bytes) // RENDERER_MEMORY_BYTES)


def spread_renderers(slots: Sequence[WorkerSlot], devices: Mapping[str, Sequence[int]]) -> tuple[int | None, ...]:
    """Choose a GPU to render on for each worker: those of a node in turn, so that their numbers differ by at most one.

    Args:
        slots: Where workers go.
        devices: Node → EGL devices that render alike.

    Returns:
        EGL device of each slot; None where there is no choice.
    """
    seen = Counter[str]()
    chosen: list[int | None] = []
    for slot in slots:
        of_node = devices.get(slot.node_id, ())
        chosen.append(of_node[seen[slot.node_id] % len(of_node)] if of_node else None)
        seen[slot.node_id] += 1
    return tuple(chosen)


def _with_cpus(nodes: Sequence[NodeResources]) -> list[NodeResources]:
    found = [node for node in nodes if node.cpus > 0]
    if not found:
        hosts = ", ".join(node.host for node in nodes) or "no node at all"
        raise NodeError(f"No node of the cluster offers a CPU ({hosts}); start one with `ray start --num-cpus N`.")
    return found


def _by_memory(node: NodeResources) -> int:
    return max(int(node.memory_bytes // WORKER_MEMORY_BYTES), 1)


def _floor(share: float) -> float:
    """Ray counts resources in ten-thousandths; rounding up would ask for more than there is."""
    return int(share * 1e4) / 1e4

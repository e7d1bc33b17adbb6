"""How many workers a node gets, from what its policy servers need. Pure.

Work in a run is handed on: while a worker waits for a decision it computes nothing, and while it steps physics the
server idles. So a core that is kept for a server stands idle whenever the server does, and on few cores that costs more
than a server that is now and then interrupted. On many cores a busy server is worth a core of its own: every worker
waits for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

STEP_S = 0.010
"""A control step without a frame, seconds: 9 on a core of its own, 18 where two threads share one. Frames take longer
still, so that a server is taken for busier than it is."""
BUSY = 0.5
"""Share of its time from which a server is worth a core of its own."""
CORES_PER_BUSY_SERVER = 4
"""With fewer cores for each busy server, keeping one costs workers more than it gives the server."""


@dataclass(frozen=True, slots=True)
class ServerDemand:
    """What one policy server was measured to take, and how often its workers ask."""

    node_id: str
    latency_s: Mapping[int, float]
    """Batch size → seconds of one batch, as timed when the policy was loaded; empty: not known."""
    steps: int
    """Control steps between two decisions of an episode."""


def busy_share(demand: ServerDemand, n_workers: float) -> float:
    """Share of its time that a server computes when `n_workers` ask it, 0 to 1; 1 when nothing was measured.

    Each worker steps physics, asks, waits, and steps again; the server takes what waits as one batch.
    """
    if not demand.latency_s:
        return 1.0
    if n_workers <= 0:
        return 0.0
    between_s = demand.steps * STEP_S
    share = 1.0
    smallest = min(demand.latency_s)
    for size, seconds in demand.latency_s.items():
        if size > max(n_workers, smallest):
            continue
        # Were batches of this size: so many come in a second, as often as workers are round.
        share = min(share, n_workers / size * seconds / (between_s + seconds))
    return share


def reserved_cores(cores: Mapping[str, float], demands: Iterable[ServerDemand]) -> dict[str, int]:
    """Node → cores that workers leave to its servers, when nobody says how many workers there shall be.

    Args:
        cores: Node → its cores.
        demands: The policy servers.
    """
    servers = list(demands)
    each = sum(cores.values()) / max(len(servers), 1)
    busy = Counter(demand.node_id for demand in servers if busy_share(demand, each) >= BUSY)
    return {node: busy[node] if cores[node] >= CORES_PER_BUSY_SERVER * busy[node] else 0 for node in cores}

"""A run in simulated time: the controller's bookkeeping, its placement and its batching, with drawn durations.

Nothing here decides anything: `RunState` hands out leases and judges results, `place_servers` and `place_workers` say
who goes where, `next_batch` when a batch starts. Only time is simulated, by a heap of events.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from harness.errors import UsageError
from harness.planning.draws import NO_GPU, Basis, Draws
from harness.planning.evidence import EpisodeSample
from harness.schedule.balance import ServerDemand, reserved_cores
from harness.schedule.batching import Waiting, choose_batch, next_batch, patience
from harness.schedule.leases import WorkItem
from harness.schedule.order import TaskId
from harness.schedule.placement import NodeResources, ServerSlot, WorkerSlot, place_servers, place_workers
from harness.schedule.result import EpisodeResult, lost_episode
from harness.schedule.state import RunState
from harness.schedule.units import EpisodeUnit
from harness.spec.policy import PolicyAtNfe
from harness.spec.profile import CPU_PROFILE

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Time of day in simulated results; nobody reads it."""
HELD_TASKS = 2
"""Tasks that a worker keeps open (`harness.cluster.simulators`)."""
GAPS = 64
"""Gaps between arrivals that a server remembers (`harness.serve.batching`)."""
CATEGORIES = ("start-up", "opening tasks", "simulation", "rendering", "policy", "tail")
"""What a worker's time goes to."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a plan is carried out."""

    nodes: tuple[NodeResources, ...]
    workers: int | None = None
    """Rollout workers; None: as the scheduler places them."""
    start_s: Mapping[str, float] = field(default_factory=dict)
    """Node → seconds until it joins."""
    max_attempts: int = 3
    lease_limit_s: float = 1e9


@dataclass(slots=True)
class SimulatedRun:
    """One simulated run; times in seconds from its start."""

    finish_s: float = 0.0
    workers: int = 0
    errors: int = 0
    spans: list[tuple[float, float, tuple[float, ...]]] = field(default_factory=list)
    """(from, to, share of each of `CATEGORIES`) of a worker's time."""
    node_busy_s: dict[str, float] = field(default_factory=dict)
    """Node → seconds in which its workers computed, summed over them."""
    server_busy_s: float = 0.0
    servers: int = 0
    decisions: int = 0


@dataclass(slots=True)
class _Worker:
    name: str
    node: str
    draws: Draws
    lease_id: int = -1
    items: deque[WorkItem] = field(default_factory=deque)
    results: list[EpisodeResult] = field(default_factory=list)
    held: OrderedDict[TaskId, None] = field(default_factory=OrderedDict)
    sample: EpisodeSample | None = None
    began: float = 0.0
    build_s: float = 0.0
    left: int = 0
    """Decisions still to make in the episode."""
    waited_s: float = 0.0
    asked: float = 0.0
    done: float = 0.0


class _Server:
    """One policy server: requests, and when their batch goes."""

    def __init__(self, clock: _Simulation, draws: Draws, max_batch: int, max_wait_s: float) -> None:
        self._draws = draws
        self._clock, self._max_batch, self._max_wait_s = clock, max_batch, max_wait_s
        self._groups: dict[PolicyAtNfe, deque[tuple[float, _Worker]]] = {}
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._patience_s: float | None = None
        """What `patience` says of these gaps; None since the last of them."""
        self._last: float | None = None
        self._computing = False
        self._due: float | None = None
        self.clients = 0
        self.busy_s = 0.0

    def submit(self, variant: PolicyAtNfe, worker: _Worker) -> None:
        now = self._clock.now
        if self._last is not None:
            self._gaps.append(now - self._last)
            self._patience_s = None
        self._last = now
        self._groups.setdefault(variant, deque()).append((now, worker))
        self.look()

    def look(self) -> None:
        """Start a batch, or come back when one is due."""
        if self._computing or not self._groups:
            return
        now = self._clock.now
        if self._patience_s is None:
            self._patience_s = patience(self._gaps, self._max_wait_s)
        by_nfe = {variant.nfe: variant for variant in self._groups}
        nfe, wait_s = next_batch(
            {variant.nfe: Waiting(group[0][0], len(group)) for variant, group in self._groups.items()},
            now,
            max_batch=self._max_batch,
            max_wait_s=self._patience_s,
            n_clients=self.clients,
        )
        if wait_s > 1e-9:
            if self._due is None or self._due > now + wait_s or self._due <= now:
                self._due = now + wait_s
                self._clock.at(self._due, self.look)
            return
        group = self._groups[by_nfe[nfe]]
        batch = [group.popleft()[1] for _ in range(min(len(group), self._max_batch))]
        if not group:
            del self._groups[by_nfe[nfe]]
        seconds = self._draws.batch_s(by_nfe[nfe], len(batch))
        self._computing, self._due = True, None
        self.busy_s += seconds
        self._clock.at(now + seconds, lambda: self._finish(by_nfe[nfe], batch))

    def _finish(self, variant: PolicyAtNfe, batch: Sequence[_Worker]) -> None:
        self._computing = False
        for worker in batch:
            self._clock.at(self._clock.now + self._draws.transport_s(variant), self._clock.answer(worker))
        self.look()


class _Simulation:
    """The heap of events and who is in them."""

    def __init__(
        self,
        units: Sequence[EpisodeUnit],
        bases: Mapping[str, Basis],
        setting: Setting,
        seed: int,
        success: float | None,
    ) -> None:
        self.now, self._basis = 0.0, bases[hardware_of(setting.nodes[0])]
        drawn = {hardware: Draws(basis, seed, success) for hardware, basis in bases.items()}
        self._draws = {node.node_id: drawn[hardware_of(node)] for node in setting.nodes}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._n_events = 0
        served = [policy for policy in dict.fromkeys(unit.policy for unit in units) if self._is_served(policy)]
        slots = place_servers(setting.nodes, served) if served else ()
        for slot in slots:
            self._require_timed(slot, {node.node_id: hardware_of(node) for node in setting.nodes}, bases)
        demands = [ServerDemand(slot.node_id, self._medians(slot.policy), self._steps(slot.policy)) for slot in slots]
        reserved = reserved_cores({node.node_id: node.cpus for node in setting.nodes}, demands)
        seats = place_workers(setting.nodes, slots, setting.workers, len(units), reserved)
        self._state = RunState(
            units,
            max_attempts=setting.max_attempts,
            lease_limit_s=setting.lease_limit_s,
            n_workers=len(seats),
            started=EPOCH,
        )
        self._idle: list[tuple[float, float, _Worker]] = []
        """(when it asked, how long it waits, who) of workers that were told to ask again."""
        self._servers: dict[str, list[_Server]] = {}
        for slot in slots:
            self._servers.setdefault(slot.policy, []).append(
                _Server(self, self._draws[slot.node_id], *self._batching(slot.policy))
            )
        self.outcome = SimulatedRun(workers=len(seats), servers=len(slots))
        self._seat(seats, setting.start_s)

    def run(self) -> SimulatedRun:
        """Let time pass until nothing is left."""
        while self._heap:
            self.now, _, event = heapq.heappop(self._heap)
            event()
        last = self.outcome.finish_s
        for worker in self._workers:
            if worker.done < last:
                self._span(worker.done, last, (0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        self.outcome.server_busy_s = sum(server.busy_s for all_ in self._servers.values() for server in all_)
        self.outcome.finish_s = last + self._basis.end_s
        return self.outcome

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Let something happen."""
        self._n_events += 1
        heapq.heappush(self._heap, (when, self._n_events, event))

    def answer(self, worker: _Worker) -> Callable[[], None]:
        """What happens when a worker's decision arrives."""
        return lambda: self._decided(worker)

    # -- who goes where -------------------------------------------------------------------------------------------

    def _seat(self, seats: Sequence[WorkerSlot], start_s: Mapping[str, float]) -> None:
        self._workers = [
            _Worker(f"worker-{i}", slot.node_id, self._draws[slot.node_id]) for i, slot in enumerate(seats)
        ]
        startup = max(draws.startup_s() for draws in set(self._draws.values()))
        for i, worker in enumerate(self._workers):
            ready = startup + start_s.get(worker.node, 0.0)
            self._span(0.0, ready, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
            worker.done = ready
            self.at(ready, lambda worker=worker: self._ask(worker))  # type: ignore[misc]
            for servers in self._servers.values():
                servers[i % len(servers)].clients += 1

    def _is_served(self, policy: str) -> bool:
        return any(
            source.served is not None for variant, source in self._basis.policies.items() if variant.policy_id == policy
        )

    def _require_timed(self, slot: ServerSlot, hardware: Mapping[str, str], bases: Mapping[str, Basis]) -> None:
        """Refuse to take a GPU's decisions for those of a node without one.

        Raises:
            UsageError: Names the policy and both.
        """
        for variant, source in bases[hardware[slot.node_id]].policies.items():
            timed = source.run.hardware
            if variant.policy_id == slot.policy and source.served and slot.gpus == 0 and timed not in NO_GPU:
                raise UsageError(
                    f"{slot.policy!r} would be served on {hardware[slot.node_id]}, which has no GPU here, but its "
                    f"decisions were timed on {timed} only ({source.run.ledger}). Add a node with a GPU, or a ledger "
                    f"of this policy from such a node with --from."
                )

    def _medians(self, policy: str) -> dict[int, float]:
        for variant, source in self._basis.policies.items():
            if variant.policy_id == policy and source.served is not None:
                return {n: sorted(times)[len(times) // 2] for n, times in source.served.infer_s.items()}
        return {}

    def _steps(self, policy: str) -> int:
        samples = [
            s for v, source in self._basis.policies.items() if v.policy_id == policy for s in source.samples[:100]
        ]
        return max(round(sum(s.steps for s in samples) / max(sum(s.decisions for s in samples), 1)), 1)

    def _batching(self, policy: str) -> tuple[int, float]:
        for variant, source in self._basis.policies.items():
            served = source.served
            if (
                variant.policy_id == policy
                and served is not None
                and served.max_batch
                and served.max_wait_s is not None
            ):
                return served.max_batch, served.max_wait_s
        return choose_batch(self._medians(policy))

    # -- a worker -------------------------------------------------------------------------------------------------

    def _ask(self, worker: _Worker) -> None:
        lease = self._state.lease(worker.name, self.now, EPOCH)
        if lease.stop:
            return
        if not lease.items:
            self._idle.append((self.now, lease.wait_s, worker))
            return
        worker.lease_id, worker.items, worker.results = lease.lease_id, deque(lease.items), []
        self._begin(worker)

    def _wake(self) -> None:
        """Let idle workers ask when they would have asked next: until a unit comes back, the answer stays the same."""
        idle, self._idle = self._idle, []
        for asked, wait_s, worker in idle:
            again = asked + math.ceil((self.now - asked) / wait_s) * wait_s
            self.at(max(again, self.now), lambda worker=worker: self._ask(worker))  # type: ignore[misc]

    def _begin(self, worker: _Worker) -> None:
        unit = worker.items[0].unit
        worker.sample, worker.began = worker.draws.episode(unit), self.now
        worker.build_s = 0.0
        if unit.task not in worker.held:
            worker.build_s = worker.draws.build_s()
        worker.held[unit.task] = None
        worker.held.move_to_end(unit.task)
        while len(worker.held) > HELD_TASKS:
            worker.held.popitem(last=False)
        worker.waited_s = 0.0
        # Under a real clock decisions are made while time passes anyway.
        if unit.policy not in self._servers or worker.sample.in_real_time:
            self.at(self.now + worker.build_s + worker.sample.wall_s, lambda: self._end(worker))
            return
        worker.left = worker.sample.decisions
        first = worker.build_s + worker.sample.reset_s
        self.at(self.now + first, lambda: self._request(worker))

    def _request(self, worker: _Worker) -> None:
        worker.asked = self.now
        unit = worker.items[0].unit
        servers = self._servers[unit.policy]
        servers[int(worker.name[7:]) % len(servers)].submit(unit.policy_at_nfe, worker)

    def _decided(self, worker: _Worker) -> None:
        sample = worker.sample
        assert sample is not None  # noqa: S101
        worker.waited_s += self.now - worker.asked
        worker.left -= 1
        self.outcome.decisions += 1
        then = self.now + max(sample.own_s - sample.reset_s, 0.0) / sample.decisions
        self.at(then, lambda: self._request(worker) if worker.left > 0 else self._end(worker))

    def _end(self, worker: _Worker) -> None:
        self._account(worker)
        item = worker.items.popleft()
        worker.results.append(self._result(worker, item))
        worker.done = self.now
        if worker.items:
            self._begin(worker)
            return
        # As the real worker does: the report is on its way while the next lease runs.
        written = self._state.settle(worker.name, worker.lease_id, worker.results)
        self._state.confirm(written)
        if self._idle and self._state.n_queued:
            self._wake()
        self.outcome.finish_s = max(self.outcome.finish_s, self.now)
        self.at(self.now + worker.draws.idle_s(), lambda: self._ask(worker))

    def _result(self, worker: _Worker, item: WorkItem) -> EpisodeResult:
        sample = worker.sample
        assert sample is not None  # noqa: S101
        if worker.draws.error():
            self.outcome.errors += 1
            return lost_episode(item.unit, item.attempt, EPOCH, ("WorkerDied", "simulated"), worker.node)
        outcome = "success" if sample.success else "timeout"
        wall_s = self.now - worker.began - worker.build_s
        return EpisodeResult(item.unit, outcome, EPOCH, item.attempt, wall_s=wall_s, node_id=worker.node)

    def _account(self, worker: _Worker) -> None:
        sample, spent = worker.sample, self.now - worker.began
        assert sample is not None  # noqa: S101
        wait = worker.waited_s or (sample.wait_s if self._wait_is_local(worker) else 0.0)
        drawn = min(sample.render_s, max(spent - worker.build_s - wait, 0.0))
        rest = max(spent - worker.build_s - wait - drawn, 0.0)
        if spent > 0:
            self._span(
                worker.began,
                self.now,
                (0.0, worker.build_s / spent, rest / spent, drawn / spent, wait / spent, 0.0),
            )
        busy = self.outcome.node_busy_s
        busy[worker.node] = busy.get(worker.node, 0.0) + spent - worker.waited_s

    def _wait_is_local(self, worker: _Worker) -> bool:
        return worker.items[0].unit.policy not in self._servers

    def _span(self, since: float, until: float, shares: tuple[float, ...]) -> None:
        self.outcome.spans.append((since, until, shares))


def hardware_of(node: NodeResources) -> str:
    """Profile of a node; one of no known profile is taken for a CPU."""
    return node.hardware or CPU_PROFILE


def simulate(
    units: Sequence[EpisodeUnit],
    bases: Mapping[str, Basis],
    setting: Setting,
    *,
    seed: int,
    success: float | None = None,
) -> SimulatedRun:
    """Simulate a run once.

    Args:
        units: The plan.
        bases: Hardware profile of every node → what durations are drawn from there.
        setting: Nodes and workers.
        seed: Of the draws.
        success: Rate of success of policies whose own is not known; None: drawn.
    """
    return _Simulation(units, bases, setting, seed, success).run()

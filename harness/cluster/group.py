"""The rollout workers of a run as a group: start, poll, kill, replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cluster.messages import WorkerSetup, WorkerSummary
from harness.cluster.ray_errors import cause_of, harness_error, reason_of
from harness.cluster.ray_session import RaySession
from harness.cluster.worker import RolloutWorker
from harness.rollout.faults import WorkerDied
from harness.schedule.placement import WorkerSlot

NODE_LOST = "NodeLost"
WORKER_DIED = WorkerDied.__name__
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""One core per worker: more threads only make workers wait for each other."""


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker ended."""

    worker_id: str
    slot: WorkerSlot
    summary: WorkerSummary | None = None
    """Set when it stopped of its own accord."""
    error: tuple[str, str] | None = None
    """(error type, message) when it did not."""

    @property
    def node_lost(self) -> bool:
        """Whether the node itself is gone, so that nothing can start there again."""
        return self.error is not None and self.error[0] == NODE_LOST


@dataclass(frozen=True, slots=True)
class _Member:
    worker_id: str
    slot: WorkerSlot
    actor: Any


class WorkerGroup:
    """Workers, each an actor that is inside its `work` call until it stops or dies."""

    def __init__(
        self,
        session: RaySession,
        slots: Sequence[WorkerSlot],
        setup: WorkerSetup,
        controller: Any,
        environments: Sequence[Mapping[str, str]],
    ) -> None:
        """Start one worker in every slot.

        Args:
            session: Connection to the Ray cluster.
            slots: Where they go.
            setup: What they have to know.
            controller: Whom they pull from.
            environments: For each slot, variables for rendering there.
        """
        self._session, self._setup, self._controller = session, setup, controller
        self._environments = {f"worker-{i}": dict(variables) for i, variables in enumerate(environments)}
        self._members: dict[Any, _Member] = {}
        self._generation: dict[str, int] = {}
        for i, slot in enumerate(slots):
            self._start(f"worker-{i}", slot)

    @property
    def n_alive(self) -> int:
        """Workers that have neither stopped nor died."""
        return len(self._members)

    @property
    def places(self) -> dict[str, str]:
        """Worker → Ray's id of its node, for workers that have neither stopped nor died."""
        return {member.worker_id: member.slot.node_id for member in self._members.values()}

    def poll(self, timeout_s: float) -> list[WorkerEnd]:
        """Wait up to `timeout_s` for workers to end, and say which did."""
        if not self._members:
            return []
        ended, _ = self._session.ray.wait(list(self._members), num_returns=len(self._members), timeout=timeout_s)
        return [self._take(ref) for ref in ended]

    def kill(self, worker_id: str, error: tuple[str, str]) -> WorkerEnd | None:
        """Kill a worker that hangs; None if it has ended meanwhile."""
        for ref, member in list(self._members.items()):
            if member.worker_id == worker_id:
                del self._members[ref]
                self._session.ray.kill(member.actor)
                return WorkerEnd(worker_id, member.slot, error=error)
        return None

    def replace(self, lost: WorkerEnd) -> None:
        """Start a new worker in the place of a lost one."""
        name, _, _ = lost.worker_id.partition(".")
        self._generation[name] = self._generation.get(name, 0) + 1
        self._start(f"{name}.{self._generation[name]}", lost.slot)

    def close(self) -> None:
        """Kill whoever is left."""
        for member in self._members.values():
            self._session.ray.kill(member.actor)
        self._members.clear()

    def _start(self, worker_id: str, slot: WorkerSlot) -> None:
        actor = (
            self._session.ray.remote(RolloutWorker)
            .options(
                num_cpus=slot.cpus,
                max_restarts=0,
                scheduling_strategy=self._session.on(slot.node_id),
                runtime_env={"env_vars": {**THREADS, **self._environments[worker_id.partition(".")[0]]}},
            )
            .remote(worker_id, self._setup, self._controller)
        )
        self._members[actor.work.remote()] = _Member(worker_id, slot, actor)

    def _take(self, ref: Any) -> WorkerEnd:
        member = self._members.pop(ref)
        try:
            summary: WorkerSummary = self._session.ray.get(ref)
        except Exception as error:
            return WorkerEnd(member.worker_id, member.slot, error=explain_end(error))
        self._session.ray.kill(member.actor)
        return WorkerEnd(member.worker_id, member.slot, summary)


def explain_end(error: Exception) -> tuple[str, str]:
    """Turn the exception of a `work` call into (error type, message)."""
    from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError

    if (told := harness_error(error)) is not None:
        return type(told).__name__, str(told)
    if isinstance(error, RayTaskError):
        cause = cause_of(error)
        return WORKER_DIED, f"The rollout worker raised {type(cause).__name__}: {cause}"
    if isinstance(error, ActorUnschedulableError):
        return NODE_LOST, "The node of the rollout worker has left the cluster."
    detail = reason_of(error)
    if isinstance(error, RayActorError):
        return WORKER_DIED, f"The process of the rollout worker died: {detail}"
    return WORKER_DIED, f"The rollout worker was lost: {type(error).__name__}: {detail}"

"""Who was busy while a run rolled out, about once a second; and what its phases took. Rows of `usage` and `phases`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.cluster.policy_servers import PolicyServers
from harness.cluster.ray_session import RaySession
from harness.ledger.schema import PHASES
from harness.schedule.usage import ServerUse, busy_share
from harness.time_source import TimeSource

EVERY_S = 1.0
"""Least time between two rows of a node, seconds."""
WRITE_S = 60.0
"""How long rows wait to be written together, seconds: a part of the ledger for each would be many small files."""


class UsageLog:
    """Samples of workers and policy servers. It never waits for a server: one that does not answer leaves a gap."""

    def __init__(
        self,
        session: RaySession,
        servers: PolicyServers,
        append: Callable[[str, Sequence[Mapping[str, Any]]], object],
        *,
        run_id: str,
        nodes: Mapping[str, str],
        time: TimeSource,
    ) -> None:
        """Begin to sample.

        Args:
            session: The cluster.
            servers: The run's policy servers.
            append: Appends rows to a table of the ledger.
            run_id: The run.
            nodes: Ray's node id → `node_id` of the ledger.
            time: Time.
        """
        self._session, self._servers, self._append = session, servers, append
        self._run_id, self._nodes, self._time = run_id, dict(nodes), time
        self._rows: list[dict[str, Any]] = []
        self._asked: dict[Any, str] = {}
        self._used: dict[str, list[ServerUse]] = {}
        self._before: dict[str, list[ServerUse]] = {}
        self._sampled = self._written = time.seconds()
        self._ask()

    def sample(self, workers: Mapping[str, str], busy: Sequence[str]) -> None:
        """Take a sample, if the last one is old enough.

        Args:
            workers: Worker → Ray's id of its node, for those alive.
            busy: Workers that hold work.
        """
        if self._time.seconds() - self._sampled < EVERY_S or not self._take_answers():
            return
        self._sampled, at = self._time.seconds(), self._time.now()
        alive = Counter(workers.values())
        at_work = Counter(workers[worker] for worker in busy if worker in workers)
        for node in sorted({*alive, *self._used} & self._nodes.keys()):
            used = self._used.get(node, [])
            gpus = [use.gpu_busy for use in used if use.gpu_busy is not None]
            self._rows.append(
                {
                    "run_id": self._run_id,
                    "node_id": self._nodes[node],
                    "at": at,
                    "workers": alive[node],
                    "workers_busy": at_work[node],
                    "server_busy": busy_share(self._before.get(node, []), used),
                    "gpu_busy": sum(gpus) / len(gpus) if gpus else None,
                }
            )
        self._before = self._used
        self._ask()
        if self._time.seconds() - self._written >= WRITE_S:
            self.write()

    def write(self) -> None:
        """Append what has been sampled."""
        rows, self._rows, self._written = self._rows, [], self._time.seconds()
        if rows:
            self._append("usage", rows)

    def _ask(self) -> None:
        self._used, self._asked = {}, self._servers.ask_use()

    def _take_answers(self) -> bool:
        """Take the servers' answers; whether none is under way any more."""
        if self._asked:
            ready, _ = self._session.ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
            for ref in ready:
                node = self._asked.pop(ref)
                try:
                    self._used.setdefault(node, []).append(self._session.ray.get(ref))
                except Exception:  # noqa: S112 - a server that died is a gap here; who asks it for actions says so
                    continue
        return not self._asked or self._time.seconds() - self._sampled >= 2 * EVERY_S


@dataclass(slots=True)
class _Phase:
    name: str
    began: datetime
    since: float


class PhaseLog:
    """What the phases of a run take. They follow one another, so their seconds add up to the run's."""

    def __init__(self, time: TimeSource) -> None:
        """Begin with the first phase, now."""
        self._time = time
        self._done: list[dict[str, Any]] = []
        self._phase = _Phase(PHASES[0], time.now(), time.seconds())

    @property
    def name(self) -> str:
        """The phase that is under way."""
        return self._phase.name

    def enter(self, name: str) -> None:
        """End the phase that is under way, and begin `name`."""
        now = self._time.seconds()
        phase = self._phase
        self._done.append({"phase": phase.name, "started_at": phase.began, "seconds": now - phase.since})
        self._phase = _Phase(name, self._time.now(), now)

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        """Rows of `phases`, the phase that is under way up to now."""
        self.enter("")
        return [{**row, "run_id": run_id} for row in self._done]

"""Work order: who runs what next. Pure: a queue goes in, a choice and the remaining queue come out.

Order never changes a result (keys and noise do not know it); it only changes how long a run takes. Three rules: a
worker stays with its task while that has work (building one costs seconds); an idle worker takes the task with the
most expected work for each worker on it (longest first, so that no straggler starts last); within a task, episodes go
by their key, which is as good as random over init states and policies, so that a run cut short is a fair sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.schedule.units import EpisodeUnit

TaskId = tuple[str, int]


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """Units still to be leased, by task."""

    by_task: Mapping[TaskId, tuple[EpisodeUnit, ...]] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """Units that nobody has leased."""
        return sum(len(units) for units in self.by_task.values())


def fill_queue(units: Iterable[EpisodeUnit]) -> WorkQueue:
    """Build a queue: the same for any order of `units`."""
    by_task: dict[TaskId, list[EpisodeUnit]] = {}
    for unit in units:
        by_task.setdefault(unit.task, []).append(unit)
    return WorkQueue({task: tuple(sorted(members, key=_position)) for task, members in sorted(by_task.items())})


def put_back(queue: WorkQueue, units: Iterable[EpisodeUnit]) -> WorkQueue:
    """Return units to the queue: those of a lost worker, or those to be retried."""
    returned = fill_queue(units).by_task
    merged = {
        task: tuple(sorted([*queue.by_task.get(task, ()), *members], key=_position))
        for task, members in returned.items()
    }
    return WorkQueue({**queue.by_task, **merged}) if merged else queue


def set_aside(queue: WorkQueue, may_run: Callable[[EpisodeUnit], bool]) -> tuple[WorkQueue, tuple[EpisodeUnit, ...]]:
    """Take the units out of a queue that its asker may not run: (the rest, those units)."""
    kept = {task: tuple(filter(may_run, units)) for task, units in queue.by_task.items()}
    aside = tuple(unit for units in queue.by_task.values() for unit in units if not may_run(unit))
    return WorkQueue({task: units for task, units in kept.items() if units}), aside


def take(
    queue: WorkQueue,
    worker: str,
    assignments: Mapping[str, TaskId],
    expected_s: Callable[[TaskId], float],
    n_units: int,
) -> tuple[tuple[EpisodeUnit, ...], WorkQueue]:
    """Choose the next units of an idle worker, all of one task.

    Args:
        queue: Units that nobody has begun.
        worker: The idle worker.
        assignments: Worker → the task it has built, for every worker (the idle one included if it has one).
        expected_s: Expected seconds of one episode of a task.
        n_units: Most units to take (1 for long episodes; more when an episode is shorter than a round trip).

    Returns:
        The chosen units (none when the queue is empty) and the remaining queue.
    """
    if not queue.by_task:
        return (), queue
    task = _choose_task(queue, worker, assignments, expected_s)
    members = queue.by_task[task]
    chosen, rest = members[:n_units], members[n_units:]
    remaining = {key: value for key, value in queue.by_task.items() if key != task}
    if rest:
        remaining[task] = rest
    return chosen, WorkQueue(remaining)


def _choose_task(
    queue: WorkQueue, worker: str, assignments: Mapping[str, TaskId], expected_s: Callable[[TaskId], float]
) -> TaskId:
    own = assignments.get(worker)
    if own is not None and own in queue.by_task:
        return own
    others = Counter(task for name, task in assignments.items() if name != worker)

    def load(task: TaskId) -> tuple[float, int, TaskId]:
        share = len(queue.by_task[task]) * expected_s(task) / (1 + others[task])
        return (-share, others[task], task)

    return min(queue.by_task, key=load)


def _position(unit: EpisodeUnit) -> tuple[str, str, int]:
    return (unit.episode_key, unit.policy, unit.nfe or 0)

"""The plan: a suite unrolled into keyed units of work. A pure function of its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeIdentity, EpisodeUnit
from harness.spec.policy import UNNAMED_POLICY, PolicyAtNfe
from harness.spec.suite import TaskSet
from harness.spec.timing import SYNCHRONOUS, ClockName

TimingKey = tuple[ClockName, str | None]
"""(clock, source of delays), as rows hold them."""
IN_NO_TIME: tuple[TimingKey, ...] = ((SYNCHRONOUS, None),)


@dataclass(frozen=True, slots=True)
class SuiteCounts:
    """What a plan has to know of a LIBERO suite."""

    n_init_states: tuple[int, ...]
    """Number of init states by task id; its length is the number of tasks."""
    protocol_sha256: str
    """Digest of the suite's protocol manifest."""


def plan_episodes(
    task_sets: Iterable[TaskSet],
    counts: Mapping[str, SuiteCounts],
    variants: Sequence[tuple[str | None, int | None]],
    timings: Mapping[PolicyAtNfe, Sequence[TimingKey]] | None = None,
) -> tuple[EpisodeUnit, ...]:
    """Unroll task sets × init states × trials × (policy, NFE) × (clock, source of delays).

    Args:
        task_sets: The suite's tasks.
        counts: LIBERO suite → its tasks, init states and protocol digest.
        variants: (policy label, NFE) pairs; NFE None for policies without a denoising loop.
        timings: Variant → (clock, source of delays) that it runs under; None: all under the synchronous clock.

    Returns:
        Units with unique identities, sorted by nothing in particular: `harness.schedule.order` decides the order.

    Raises:
        UsageError: A task or init state that the suite does not have.
    """
    units = [
        EpisodeUnit(
            policy=policy or UNNAMED_POLICY,
            nfe=nfe,
            suite=task_set.suite,
            task_id=task_id,
            init_state_id=init_state_id,
            trial=trial,
            episode_key=episode_key(
                counts[task_set.suite].protocol_sha256, task_set.suite, task_id, init_state_id, trial
            ),
            protocol_sha256=counts[task_set.suite].protocol_sha256,
            clock=clock,
            latency_source=source,
        )
        for task_set in task_sets
        for task_id in _task_ids(task_set, len(counts[task_set.suite].n_init_states))
        for init_state_id in _init_state_ids(task_set, task_id, counts[task_set.suite].n_init_states[task_id])
        for trial in range(task_set.trials)
        for policy, nfe in variants
        for clock, source in (IN_NO_TIME if timings is None else timings[PolicyAtNfe(policy, nfe)])
    ]
    return tuple(units)


def missing(units: Iterable[EpisodeUnit], finished: set[EpisodeIdentity]) -> tuple[EpisodeUnit, ...]:
    """The units that a ledger does not hold yet: what `--resume` runs."""
    return tuple(unit for unit in units if unit.identity not in finished)


def _task_ids(task_set: TaskSet, n_tasks: int) -> tuple[int, ...]:
    if task_set.tasks == "all":
        return tuple(range(n_tasks))
    beyond = [task_id for task_id in task_set.tasks if task_id >= n_tasks]
    if beyond:
        raise UsageError(f"{task_set.suite} has no task {beyond[0]}; its tasks are 0 to {n_tasks - 1}.")
    return task_set.tasks


def _init_state_ids(task_set: TaskSet, task_id: int, n_states: int) -> tuple[int, ...]:
    wanted = task_set.init_states
    if wanted == "all":
        return tuple(range(n_states))
    ids = tuple(range(wanted)) if isinstance(wanted, int) else wanted
    if max(ids) >= n_states:
        raise UsageError(
            f"{task_set.suite} task {task_id} has no init state {max(ids)}; it has {n_states}, ids 0 to {n_states - 1}."
        )
    return ids

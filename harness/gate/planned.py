"""Which episodes a ledger's runs were to have, whether they are there or not: what looks are planned over."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from harness.analysis.paired.pairing import Side
from harness.errors import UsageError
from harness.schedule.plan import SuiteCounts, plan_episodes
from harness.spec.manifest import manifest_sha256
from harness.spec.resolve import parse
from harness.spec.suite import Suite, TaskSet


def planned_tasks(side: Side, *others: Side) -> dict[str, tuple[str, int]]:
    """Every episode that the runs of a side were to have, by the suites that its ledger records.

    Args:
        side: Of which the plan is asked.
        others: Sides of the same protocol: where a suite says "all", there are as many tasks and init states as
            any side has episodes of.

    Returns:
        Episode key → (suite, task); what is there is always among them. Ledgers of imports, whose runs record no suite,
        planned what is there.
    """
    found = dict(_held(side))
    places = [place for one in (side, *others) for place in _places(one)]
    for text in side.suites:
        for task_set in _task_sets(text):
            manifest = side.manifests.get(task_set.suite)
            here = [(task, state) for suite, task, state in places if suite == task_set.suite]
            if manifest is None or not here:
                continue
            counts = SuiteCounts(_init_states(task_set, here), manifest_sha256(manifest))
            units = plan_episodes([task_set], {task_set.suite: counts}, [(side.policy_id, side.nfe)])
            found |= {unit.episode_key: unit.task for unit in units}
    return found


def _held(side: Side) -> Iterable[tuple[str, tuple[str, int]]]:
    columns = (side.details[column].to_pylist() for column in ("suite", "task_id"))
    places = ((suite or "", task or 0) for suite, task in zip(*columns, strict=True))
    return zip(side.keys.to_pylist(), places, strict=True)


def _places(side: Side) -> Iterable[tuple[str, int, int]]:
    columns = (side.details[column].to_pylist() for column in ("suite", "task_id", "init_state_id"))
    return ((suite, task, state) for suite, task, state in zip(*columns, strict=True) if None not in (task, state))


def _task_sets(text: str) -> tuple[TaskSet, ...]:
    try:
        return parse(Suite, yaml.safe_load(text), "the suite of a ledger").tasks
    except (UsageError, yaml.YAMLError):
        return ()


def _init_states(task_set: TaskSet, places: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Init states by task id: as many as were seen, and as the suite names."""
    named = task_set.init_states
    least = 0 if named == "all" else named if isinstance(named, int) else max(named) + 1
    seen: dict[int, int] = {}
    for task, state in places:
        seen[task] = max(seen.get(task, 0), state + 1)
    n_tasks = max([*seen, *(() if task_set.tasks == "all" else task_set.tasks)]) + 1
    return tuple(max(seen.get(task, 0), least) for task in range(n_tasks))

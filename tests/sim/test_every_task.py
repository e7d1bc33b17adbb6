"""Every task of the five base suites constructs, resets to each of its init states, and steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.sim import LiberoWorld, SimConfig
from harness.sim.libero import LiberoSim
from harness.sim.resources import BASE_SUITES

STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
SAMPLE = (("libero_spatial", 9), ("libero_goal", 3), ("libero_10", 8), ("libero_90", 57))
"""Tasks that the quick test runs: a cabinet, an opened drawer, two moka pots, a living room."""


def every_task() -> Iterator[tuple[str, int]]:
    world = LiberoWorld()
    for suite in BASE_SUITES:
        for task_id in range(len(world.describe(suite).tasks)):
            yield suite, task_id


def check(suite: str, task_id: int, init_states: tuple[int, ...]) -> None:
    sim = LiberoSim(suite, task_id, config=SimConfig(settle_steps=1, privileged=True))
    assert sim.n_init_states == 50
    starts = set()
    for init in init_states:
        observation = sim.reset(init)
        assert observation is not None
        assert np.isfinite(observation.state).all()
        assert all(np.isfinite(pose).all() for pose in observation.privileged.values())
        starts.add(sim.qpos.tobytes())
        before = sim.qpos
        result = sim.step(STILL)
        assert np.isfinite(sim.qpos).all()
        assert (sim.qpos != before).any()
        assert not result.success
    assert len(starts) == len(init_states)
    sim.close()


@pytest.mark.parametrize(("suite", "task_id"), SAMPLE)
def test_a_sampled_task_resets_to_several_init_states_and_steps(suite: str, task_id: int) -> None:
    check(suite, task_id, (0, 24, 49))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", BASE_SUITES)
def test_every_task_resets_to_all_fifty_init_states_and_steps(suite: str) -> None:
    failed = {}
    for name, task_id in every_task():
        if name == suite:
            try:
                check(name, task_id, tuple(range(50)))
            except Exception as error:
                failed[task_id] = repr(error)
    assert failed == {}

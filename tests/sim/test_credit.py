"""Partial credit of LIBERO episodes: what holds, which stages were reached, and nothing changed by looking."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from harness.policies.registry import make_policy
from harness.sim import LiberoSim, SimConfig
from harness.sim.libero import SETTLE_ACTION
from harness.spec.policy import PolicySpec
from harness.worlds.base import Credit

STILL = np.array(SETTLE_ACTION, np.float32)


@pytest.fixture(scope="module")
def sim() -> Iterator[LiberoSim]:
    """Task 0 of libero_spatial: a bowl onto a plate."""
    sim = LiberoSim("libero_spatial", 0, config=SimConfig(privileged=True))
    yield sim
    sim.close()


def play(sim: LiberoSim, *, until: str | None = None) -> list[Credit]:
    """Credit after every control step of the scripted expert; it lets go for good once a stage is reached."""
    policy = make_policy(PolicySpec.model_validate("scripted"))
    seen = sim.reset(0, episode_key="a" * 64)
    found: list[Credit] = []
    decision = 0
    while len(found) < 150 and (not found or found[-1].held_now == 0):
        assert seen is not None
        actions = policy.act([dataclasses.replace(seen, decision=decision)], None).actions[0]
        decision += 1
        for number, action in enumerate(actions[: policy.info.replan_interval], start=1):
            dropping = until is not None and any(one.stage == until for one in found)
            last = number == policy.info.replan_interval
            step = sim.step(STILL if dropping else action, observe=last)
            found.append(sim.credit)
            if step.success:
                break
            seen = step.observation
    return found


def test_an_expert_passes_the_stages_in_order_and_ends_with_its_goal_held(sim: LiberoSim) -> None:
    found = play(sim)
    stages = list(dict.fromkeys(one.stage for one in found if not one.held_now))
    assert [stage for stage in stages if stage != "touched"] == ["none", "grasped", "lifted", "over_target"]
    assert found[-1] == Credit(goals=1, held_now=1, held_best=1, stage="none")


def test_who_drops_what_was_lifted_keeps_the_stage_and_fails(sim: LiberoSim) -> None:
    found = play(sim, until="lifted")
    assert found[-1] == Credit(goals=1, held_now=0, held_best=0, stage="lifted")


def test_a_reset_begins_anew(sim: LiberoSim) -> None:
    play(sim, until="grasped")
    sim.reset(1, observe=False)
    assert sim.credit == Credit(goals=1, held_now=0, held_best=0, stage="none")


def test_looking_changes_no_bit(sim: LiberoSim, monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> list[bytes]:
        sim.reset(2, observe=False)
        rng = np.random.default_rng(3)
        return [bytes(sim.qpos) for _ in range(12) if sim.step(rng.uniform(-1, 1, 7).astype(np.float32)) is not None]

    watched = states()
    monkeypatch.setattr(sim._goals, "watch", lambda: None)
    assert states() == watched


def test_a_task_of_two_goals_has_both_and_what_cannot_be_carried_can_be_touched() -> None:
    sim = LiberoSim("libero_10", 2, config=SimConfig())
    sim.reset(0, observe=False)
    assert sim.credit == Credit(goals=2, held_now=0, held_best=0, stage="none")
    watch = sim._goals
    stove = next(goal for goal in watch._goals if goal.body is None)
    assert stove.state[0] == "turnon"
    both_fingers = np.array([True, True])
    assert watch._stage_of(sim._data, 0, stove, both_fingers) == 1, "touched, never grasped"
    sim.close()

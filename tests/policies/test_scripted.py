"""The positive control: it solves LIBERO, repeats itself exactly, and recovers from a grasp that missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.scripted import SUPPORTED_SUITES, ScriptedPolicy
from harness.policies.scripted.motion import DOWN, command, half_turn, palm_distance
from harness.policies.scripted.phases import Expert, Phase
from harness.policies.scripted.recipes import read_job
from harness.sim import LiberoSim, LiberoWorld
from harness.spec.observation import Observation
from harness.worlds.base import SimConfig

MAX_STEPS = 280
BRISK = 120
"""Steps in which an episode should be over: the benchmark's time is mostly these."""

EPISODES = [
    ("libero_spatial", 0, 7),
    ("libero_spatial", 4, 3),
    ("libero_object", 3, 20),
    ("libero_object", 5, 33),
    *(
        pytest.param(*episode, marks=pytest.mark.slow)
        for episode in (
            ("libero_spatial", 7, 11),
            ("libero_spatial", 9, 1),
            ("libero_object", 1, 1),
            ("libero_object", 7, 42),
        )
    ),
]
"""A bowl on the table and in a drawer, a bottle, a can; slow, as each task has to be built: a bowl on a stove and on a
cabinet, a flat box beside a carton, a carton."""

GetSim = Callable[[str, int], LiberoSim]
Disturb = Callable[[Observation], Observation]


@dataclass(frozen=True)
class Course:
    """What happened in an episode."""

    success: bool
    actions: NDArray[np.float32]


@pytest.fixture(scope="module")
def sim_of() -> Iterator[GetSim]:
    """Simulators by task, built once."""
    sims: dict[tuple[str, int], LiberoSim] = {}

    def get(suite: str, task_id: int) -> LiberoSim:
        if (suite, task_id) not in sims:
            sims[suite, task_id] = LiberoSim(suite, task_id, config=SimConfig(privileged=True))
        return sims[suite, task_id]

    yield get
    for sim in sims.values():
        sim.close()


def steps(
    policy: ScriptedPolicy, sim: LiberoSim, init_state_id: int, key: str, disturb: Disturb = lambda seen: seen
) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Run an episode one control step at a time; yields each action and whether it solved the task."""
    seen = sim.reset(init_state_id, episode_key=key)
    for decision in range(MAX_STEPS):
        assert seen is not None
        action = policy.act([disturb(replace(seen, decision=decision))], None).actions[0, 0]
        step = sim.step(action, observe=True)
        yield action, step.success
        if step.success:
            return
        seen = step.observation


def run(policy: ScriptedPolicy, sim: LiberoSim, init_state_id: int, key: str = "a", **kwargs: Disturb) -> Course:
    """Run an episode to its end."""
    actions, successes = zip(*steps(policy, sim, init_state_id, key, **kwargs), strict=True)
    policy.end_episode(key)
    return Course(successes[-1], np.stack(actions))


@pytest.mark.parametrize(("suite", "task_id", "init_state_id"), EPISODES)
def test_the_expert_solves_an_episode_briskly(sim_of: GetSim, suite: str, task_id: int, init_state_id: int) -> None:
    course = run(ScriptedPolicy(), sim_of(suite, task_id), init_state_id)
    assert course.success
    assert len(course.actions) <= BRISK


def test_the_same_episode_is_the_same_to_the_bit(sim_of: GetSim) -> None:
    policy, sim = ScriptedPolicy(), sim_of("libero_spatial", 0)
    first = run(policy, sim, 7)
    run(policy, sim, 8, key="between")
    assert np.array_equal(run(policy, sim, 7).actions, first.actions)
    assert np.array_equal(run(ScriptedPolicy(), sim, 7, key="other").actions, first.actions)


def test_an_episode_that_starts_over_under_its_key_forgets_the_first_try(sim_of: GetSim) -> None:
    policy, sim = ScriptedPolicy(), sim_of("libero_spatial", 0)
    for _ in islice(steps(policy, sim, 8, "a"), 35):
        pass
    assert np.array_equal(run(policy, sim, 7).actions, run(ScriptedPolicy(), sim, 7).actions)


def test_interleaved_episodes_do_not_disturb_each_other(sim_of: GetSim) -> None:
    bowl, can = sim_of("libero_spatial", 0), sim_of("libero_object", 5)
    alone = [run(ScriptedPolicy(), bowl, 7).actions, run(ScriptedPolicy(), can, 33).actions]
    policy = ScriptedPolicy()
    running = {0: steps(policy, bowl, 7, "bowl"), 1: steps(policy, can, 33, "can")}
    together: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    while running:
        for which, episode in list(running.items()):
            action, success = next(episode)
            together[which].append(action)
            if success:
                del running[which]
    assert np.array_equal(together[0], alone[0])
    assert np.array_equal(together[1], alone[1])


def test_a_batch_is_decided_like_its_members(sim_of: GetSim) -> None:
    seen = [
        sim.reset(0, episode_key=key)
        for sim, key in [(sim_of("libero_spatial", 0), "bowl"), (sim_of("libero_object", 5), "can")]
    ]
    batch = ScriptedPolicy().act([each for each in seen if each is not None], None).actions
    assert batch.shape == (2, 1, 7)
    for row, each in zip(batch, seen, strict=True):
        assert each is not None
        assert np.array_equal(row, ScriptedPolicy().act([each], None).actions[0])


def test_a_grasp_that_missed_is_tried_again(sim_of: GetSim) -> None:
    """The expert is shown a bowl 7 cm from where it is until its fingers have closed on nothing."""

    def mislead(seen: Observation) -> Observation:
        if seen.decision >= 33:
            return seen
        false = seen.privileged["akita_black_bowl_1"] + [-0.07, 0, 0, 0, 0, 0, 0]
        return replace(seen, privileged={**seen.privileged, "akita_black_bowl_1": false})

    course = run(ScriptedPolicy(), sim_of("libero_spatial", 0), 7, disturb=mislead)
    fingers = course.actions[:, 6]
    closed_at = [step for step in range(1, len(fingers)) if fingers[step] > 0 >= fingers[step - 1]]
    opened = [step for step in range(1, len(fingers)) if fingers[step] < 0 <= fingers[step - 1]]
    assert course.success
    assert any(first < between < second for first in closed_at for between in opened for second in closed_at)


def test_an_object_lost_on_the_way_is_fetched_again(sim_of: GetSim) -> None:
    policy, sim = ScriptedPolicy(), sim_of("libero_spatial", 0)
    for _ in steps(policy, sim, 7, "a"):
        if policy._experts["a"].phase is Phase.CARRY:
            break
    expert = policy._experts["a"]
    assert expert.last is not None
    state = np.concatenate([expert.last.hand, np.zeros(5)]).astype(np.float32)
    fallen = expert.last.poses["akita_black_bowl_1"] - [0, 0, 0.1, 0, 0, 0, 0]
    expert.act(Observation(sim.instruction, state, {}, {**expert.last.poses, "akita_black_bowl_1": fallen}))
    assert expert.phase is Phase.RETREAT


def test_an_ended_episode_is_forgotten() -> None:
    policy = ScriptedPolicy()
    poses = {"milk_1": np.eye(7)[3], "basket_1": np.eye(7)[3]}
    task = "pick up the milk and place it in the basket"
    policy.act([Observation(task, np.zeros(8, dtype=np.float32), {}, poses, key) for key in ("a", "b")], None)
    policy.end_episode("a")
    policy.end_episode("never begun")
    assert list(policy._experts) == ["b"]


def test_every_task_of_both_suites_names_an_object_and_a_place_that_its_goal_names() -> None:
    world = LiberoWorld()
    for suite in SUPPORTED_SUITES:
        description = world.describe(suite)
        for task_id, instruction in enumerate(description.instructions):
            goal = goal_of(world, suite, task_id)
            assert goal[0] in {"on", "in"}
            job = read_job(instruction, {*goal[1:], "wooden_cabinet_1", "basket_1"})
            assert job.grasp.body == goal[1]
            assert goal[2].startswith(job.place.body)


def goal_of(world: LiberoWorld, suite: str, task_id: int) -> list[str]:
    """The one goal predicate of a task, from its BDDL file: [predicate, object, place]."""
    text = world._resources.task(suite, task_id).bddl.read_text().lower()
    body = text.split("(:goal")[1].replace("(and", "").replace("(", " ").replace(")", " ")
    words = body.split()
    assert len(words) == 3
    return words


@pytest.mark.parametrize(
    "instruction",
    [
        "open the middle drawer of the cabinet",
        "put both the alphabet soup and the tomato sauce in the basket",
        "pick up the book and place it in the back compartment of the caddy",
        "pick up the porcelain mug and place it on the plate",
    ],
)
def test_a_task_of_another_suite_is_refused_with_the_supported_ones(instruction: str) -> None:
    seen = Observation(instruction, np.zeros(8, dtype=np.float32))
    with pytest.raises(PolicyError, match="supports libero_spatial and libero_object only") as caught:
        ScriptedPolicy().act([seen], None)
    assert instruction in str(caught.value)


def test_missing_object_poses_are_named() -> None:
    seen = Observation("pick up the milk and place it in the basket", np.zeros(8, dtype=np.float32))
    with pytest.raises(PolicyError, match="needs the poses of basket_1, milk_1"):
        ScriptedPolicy().act([seen], None)


def test_the_expert_reads_poses_and_no_camera() -> None:
    info = ScriptedPolicy().info
    assert info.privileged
    assert info.cameras == ()
    assert (info.chunk_length, info.noise_shape, info.placement) == (1, None, "worker")


def test_a_command_saturates_and_damps() -> None:
    still, ahead = np.zeros(3), np.array([0.0, 1.0, -0.01])
    action = command(ahead, still, DOWN, 0.0, 0)
    assert action[:3] == pytest.approx([0, 1, -0.468])
    assert action[3:] == pytest.approx(np.zeros(4), abs=1e-6)
    assert command(ahead, np.array([0.0, 0.0, -0.2]), DOWN, 0.0, 0)[2] > action[2]


@pytest.mark.parametrize(("turn", "equal"), [(0.3, 0.3), (np.pi + 0.3, 0.3), (-np.pi + 0.3, 0.3), (2.0, 2.0 - np.pi)])
def test_half_turns_of_the_hand_make_no_difference(turn: float, equal: float) -> None:
    assert half_turn(turn) == pytest.approx(equal)


def test_the_palm_is_wider_along_its_fingers() -> None:
    beside = np.array([0.05, -0.1])
    assert palm_distance(0.0, beside) == pytest.approx(0.018)
    assert palm_distance(-0.4, beside) > 0.04 > palm_distance(0.4, beside)


def test_a_fresh_expert_approaches_first(sim_of: GetSim) -> None:
    sim = sim_of("libero_spatial", 0)
    seen = sim.reset(0)
    assert seen is not None
    expert = Expert(read_job(seen.instruction, seen.privileged))
    expert.act(seen)
    assert expert.phase is Phase.APPROACH
    assert expert.attempts == 0

"""The simulator gives what plain robosuite gives, to the bit: positions, velocities, success, state and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from plain import LerobotLibero, OpenpiLibero, PlainLibero, images, state

from harness.sim import LiberoSim, SimConfig
from harness.spec import Protocol
from harness.spec.observation import CAMERAS, Observation
from harness.worlds.base import sim_config

RESOLUTION = 64
REPLAN = 5
INIT_STATES = (0, 3)
TASKS = {
    "libero_spatial": 0,
    "libero_object": 3,
    "libero_goal": 7,
    "libero_10": 2,
    "libero_90": 0,
}
"""One task of each suite, among them a drawer (libero_90 0) and two stoves (libero_goal 7, libero_10 2)."""
LONG = ("libero_object", "libero_10")
"""Suites whose kinds of scene the others have too: slow. Parity with LeRobot in a closed loop plays libero_object."""


@dataclass(frozen=True)
class Moment:
    """What plain robosuite shows after one control step (or after settling)."""

    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]
    success: bool
    state: NDArray[np.float32]
    images: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Case:
    """A simulator, actions, and what plain robosuite made of them: init state → moments, the first after settling."""

    sim: LiberoSim
    actions: Mapping[int, NDArray[np.float32]]
    plain: Mapping[int, list[Moment]]


def random_actions(seed: int, steps: int) -> NDArray[np.float32]:
    """Uniform actions; every third keeps the orientation, for which the controller takes another branch."""
    actions = np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)
    actions[::3, 3:6] = 0
    return actions


def record(plain: PlainLibero, init_state_id: int, actions: NDArray[np.float32]) -> list[Moment]:
    observation = plain.reset(init_state_id)
    moments = [Moment(plain.qpos, plain.qvel, False, state(observation), images(observation))]
    for action in actions:
        observation, success = plain.step(action)
        moments.append(Moment(plain.qpos, plain.qvel, success, state(observation), images(observation)))
    return moments


@pytest.fixture(
    scope="module",
    params=[pytest.param(suite, marks=pytest.mark.slow if suite in LONG else ()) for suite in TASKS],
)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    suite, task_id = request.param, TASKS[request.param]
    actions = {init: random_actions(init, 2 * REPLAN) for init in INIT_STATES}
    # One after the other: robosuite takes the process's GL context for its own.
    plain = PlainLibero(suite, task_id, RESOLUTION)
    moments = {init: record(plain, init, actions[init]) for init in INIT_STATES}
    plain.close()
    build_afresh(monkeypatch := pytest.MonkeyPatch())
    sim = LiberoSim(suite, task_id, resolution=RESOLUTION)
    monkeypatch.undo()
    yield Case(sim, actions, moments)
    sim.close()


def build_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tasks built, and then kept, even if they were kept before."""
    monkeypatch.setattr("harness.sim.environment.load_task", lambda *_: None)


def refuse_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tasks opened as they were kept on disk, or not at all."""
    monkeypatch.setattr("harness.sim.environment.build_task", lambda *_: pytest.fail("the task was built again"))


def assert_same(sim: LiberoSim, observation: Observation | None, moment: Moment) -> None:
    np.testing.assert_array_equal(sim.qpos, moment.qpos)
    np.testing.assert_array_equal(sim.qvel, moment.qvel)
    if observation is not None:
        np.testing.assert_array_equal(observation.state, moment.state)
        for camera in observation.images:
            np.testing.assert_array_equal(observation.images[camera], moment.images[camera])


def run(sim: LiberoSim, case: Case, init: int, *, observe: bool = True) -> None:
    """Run an episode that observes at each decision, and compare every step of it with plain robosuite."""
    assert_same(sim, sim.reset(init, observe=observe), case.plain[init][0])
    for number, (action, moment) in enumerate(zip(case.actions[init], case.plain[init][1:], strict=True), start=1):
        result = sim.step(action, observe=observe and number % REPLAN == 0)
        assert result.success == moment.success
        assert (result.observation is not None) == (observe and number % REPLAN == 0)
        assert_same(sim, result.observation, moment)


def test_every_step_and_every_decisions_frames_equal_plain_robosuite(case: Case) -> None:
    assert set(case.sim.config.cameras) == set(CAMERAS)
    for init in INIT_STATES:
        run(case.sim, case, init)


def test_a_task_opened_from_disk_gives_the_same_to_the_bit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_build(monkeypatch)
    kept = LiberoSim(case.sim.suite, case.sim.task_id, resolution=RESOLUTION)
    for init in (*reversed(INIT_STATES), INIT_STATES[-1]):
        run(kept, case, init)
    kept.close()


def test_episodes_in_another_order_are_the_same(case: Case) -> None:
    for init in (*reversed(INIT_STATES), INIT_STATES[-1]):
        run(case.sim, case, init)


def test_an_episode_after_one_that_broke_off_anywhere_is_the_same(case: Case) -> None:
    for steps in (0, 1, 7):
        case.sim.reset(11, observe=False)
        for action in random_actions(steps, steps):
            case.sim.step(action * np.float32(0.7))
        run(case.sim, case, INIT_STATES[0])


def test_an_episode_that_never_renders_has_the_same_physics(case: Case) -> None:
    blind = LiberoSim(case.sim.suite, case.sim.task_id, config=SimConfig())
    run(blind, case, INIT_STATES[1], observe=False)
    assert not blind._renderer.started
    blind.close()


def test_the_comparison_itself_sees_one_skipped_restore(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run(case.sim, case, INIT_STATES[0])
    monkeypatch.setattr("harness.sim.osc.OscStepper.restart", lambda self: None)
    with pytest.raises(AssertionError):
        run(case.sim, case, INIT_STATES[0], observe=False)


class TestStove:
    """Objects whose looks follow their state: the burner glows while the knob is turned on."""

    SUITE, TASK = "libero_goal", 7

    def test_a_stove_turned_on_glows_and_counts_as_in_plain_robosuite_and_is_off_in_the_next_episode(self) -> None:
        plain = PlainLibero(self.SUITE, self.TASK, RESOLUTION)
        plain.reset(0, settle_steps=1)
        knob = plain.env.sim.model.get_joint_qpos_addr("flat_stove_1_button")
        plain.env.sim.data.qpos[knob] = 1.0
        still = np.zeros(7, np.float32)
        plain_success, plain_frames = [], []
        for _ in range(2):
            observation, success = plain.step(still)
            plain_success.append(success)
            plain_frames.append(images(observation)["agentview"])
        plain.close()

        config = SimConfig(resolution=RESOLUTION, cameras=("agentview",), settle_steps=1)
        sim = LiberoSim(self.SUITE, self.TASK, config=config)
        before = sim.reset(0)
        sim._data.qpos[knob] = 1.0
        results = [sim.step(still, observe=True) for _ in range(2)]
        after = sim.reset(0)
        sim.close()

        assert plain_success == [True, True]
        assert [result.success for result in results] == plain_success
        for result, frame in zip(results, plain_frames, strict=True):
            assert result.observation is not None
            np.testing.assert_array_equal(result.observation.images["agentview"], frame)
        assert before is not None
        assert after is not None
        assert (results[1].observation.images["agentview"] != before.images["agentview"]).any()  # type: ignore[union-attr]
        np.testing.assert_array_equal(after.images["agentview"], before.images["agentview"])


def test_absolute_control_equals_plain_robosuite_with_absolute_goals() -> None:
    plain = PlainLibero("libero_spatial", 1, 32)
    plain.reset(2)
    plain.env.robots[0].controller.use_delta = False
    target = np.array([-0.1, 0.05, 1.05, 3.1, 0.1, 0.0, 1.0], np.float32)
    expected = []
    for _ in range(3):
        plain.step(target)
        expected.append((plain.qpos, plain.qvel))
    plain.close()

    sim = LiberoSim("libero_spatial", 1, config=SimConfig(control_mode="absolute"))
    for _ in range(2):  # twice: the settle steps of the second episode must be relative again
        sim.reset(2, observe=False)
        for qpos, qvel in expected:
            sim.step(target)
            np.testing.assert_array_equal(sim.qpos, qpos)
            np.testing.assert_array_equal(sim.qvel, qvel)
    sim.close()


EVALUATORS = {"lerobot": LerobotLibero, "openpi": OpenpiLibero}
"""Preset → how its evaluator makes and resets environments."""
PLACED = {
    "libero_spatial": 4,  # a cabinet with an open drawer, and a bowl in it
    "libero_goal": 7,  # a cabinet, a stove and a rack
    "libero_10": 9,  # a microwave with an open door
    "libero_10-caddy": 5,
    "libero_spatial-0": 0,
}
"""Tasks whose scenes hold fixtures, some with doors and drawers, which LIBERO draws more often at every reset."""
QUICK = {
    ("lerobot", "libero_spatial"),
    ("lerobot", "libero_10"),
    ("openpi", "libero_goal"),
    ("openpi", "libero_10-caddy"),
    ("lerobot", "libero_spatial-0"),
}
"""Each task under one of the two presets; the other half of the product takes as long again, and is slow."""
EPISODES = (0, 1, 3)


@dataclass(frozen=True)
class Start:
    """Where an evaluator's episode begins, after settling, and how it goes on for one step."""

    qpos: NDArray[np.float64]
    warm_start: NDArray[np.float64]
    """What MuJoCo's solver begins with."""
    bodies: NDArray[np.float64]
    """Position and quaternion of every body in the model, shape (nbody, 7): fixtures' among them."""
    images: Mapping[str, NDArray[np.uint8]]
    after: NDArray[np.float64]
    """qpos after `ACTION`."""


ACTION = np.array([0.7, -0.4, -0.9, 0.2, -0.1, 0.3, 1], np.float32)


def bodies(model: object) -> NDArray[np.float64]:
    return np.hstack([model.body_pos, model.body_quat])  # type: ignore[attr-defined]


def evaluator_starts(preset: str, suite: str, task_id: int) -> dict[int, Start]:
    """Episodes 0, 1 and 3, in an environment that ran 2 as well."""
    evaluator = EVALUATORS[preset](suite, task_id, RESOLUTION)
    starts = {}
    for episode in range(max(EPISODES) + 1):
        seen = images(evaluator.reset(episode))
        sim = evaluator.env.sim
        qpos, warm = np.array(sim.data.qpos), np.array(sim.data._data.qacc_warmstart)
        evaluator.env.step(ACTION)
        starts[episode] = Start(qpos, warm, bodies(sim.model._model), seen, np.array(sim.data.qpos))
    evaluator.close()
    return starts


def assert_starts_as(sim: LiberoSim, start: Start, episode: int, trial: int = 0) -> None:
    seen = sim.reset(episode, trial=trial)
    assert seen is not None
    np.testing.assert_array_equal(bodies(sim._model), start.bodies)
    np.testing.assert_array_equal(sim.qpos, start.qpos)
    np.testing.assert_array_equal(sim._data.qacc_warmstart, start.warm_start)
    for camera in CAMERAS:
        np.testing.assert_array_equal(seen.images[camera], start.images[camera])
    sim.step(ACTION)
    np.testing.assert_array_equal(sim.qpos, start.after)


def as_preset(preset: str, suite: str, task_id: int) -> LiberoSim:
    protocol = Protocol.model_validate({"preset": preset, "resolution": RESOLUTION})
    return LiberoSim(suite, task_id, config=sim_config(protocol, CAMERAS, privileged=False))


@pytest.mark.parametrize(
    ("preset", "task"),
    [
        pytest.param(preset, task, marks=() if (preset, task) in QUICK else pytest.mark.slow)
        for preset in EVALUATORS
        for task in PLACED
    ],
)
def test_episodes_begin_as_in_the_presets_evaluator_in_whatever_order(preset: str, task: str) -> None:
    suite, task_id = task.split("-")[0], PLACED[task]
    starts = evaluator_starts(preset, suite, task_id)
    assert (starts[0].bodies != starts[1].bodies).any()
    for prepare in (build_afresh, refuse_to_build):
        with pytest.MonkeyPatch.context() as monkeypatch:
            prepare(monkeypatch)
            sim = as_preset(preset, suite, task_id)
        for episode in (*reversed(EPISODES), EPISODES[-1]):
            assert_starts_as(sim, starts[episode], episode)
        sim.close()


def test_seeds_go_on_where_lerobot_begins_again_at_the_first_init_state() -> None:
    evaluator = LerobotLibero("libero_goal", 7, RESOLUTION)
    seen = images(evaluator.reset(51))
    data, model = evaluator.env.sim.data, evaluator.env.sim.model._model
    qpos, warm = np.array(data.qpos), np.array(data._data.qacc_warmstart)
    evaluator.env.step(ACTION)
    start = Start(qpos, warm, bodies(model), seen, np.array(data.qpos))
    evaluator.close()
    sim = as_preset("lerobot", "libero_goal", 7)
    assert_starts_as(sim, start, episode=1, trial=1)
    sim.reset(1, observe=False)
    assert (bodies(sim._model) != start.bodies).any()
    sim.close()

"""An episode played again for its video."""

from __future__ import annotations

import numpy as np
import pytest
from stub_policies import FunctionPolicy, make_unit, ones

from harness.errors import SimulatorError
from harness.policies.controls import RandomPolicy
from harness.rollout.replay import replay_frames
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim


def test_a_replay_shows_the_first_state_and_the_state_after_every_action(play):
    actions, unit = [], make_unit(3, 4)
    result = play(RandomPolicy(), unit=unit, recorder=actions)
    assert len(actions) == result.steps
    frames = list(replay_frames(StubSim("stub", 3, SimConfig()), result, actions, ("agentview",), 32))
    assert [int(frame[1, 0, 0]) for frame in frames] == list(range(result.steps + 1))


def test_cameras_are_put_side_by_side(play):
    actions = []
    result = play(FunctionPolicy(ones()), recorder=actions)
    frame = next(
        replay_frames(StubSim("stub", 0, SimConfig()), result, actions, ("agentview", "robot0_eye_in_hand"), 32)
    )
    assert frame.shape == (32, 64, 3)


def test_recording_changes_nothing(play):
    plain, filmed = play(RandomPolicy()), play(RandomPolicy(), recorder=[])
    assert plain.trajectory_sha256 == filmed.trajectory_sha256


class ArmSim(StubSim):
    """The stub with an arm that is where its counter is."""

    @property
    def eef_position(self):
        return np.array([self.qpos[0], 1.0, 2.0])


def test_what_may_be_filmed_keeps_its_motion_and_nothing_else_does(play):
    def arm():
        return ArmSim("stub", 0, SimConfig())

    actions = []
    told, untold, armless = (
        play(RandomPolicy(), sim=sim, recorder=recorder)
        for sim, recorder in ((arm(), actions), (arm(), None), (None, []))
    )
    assert (untold.motion, armless.motion) == (None, None)
    assert told.trajectory_sha256 == untold.trajectory_sha256
    assert len(told.motion.x_m) == told.steps > 1
    assert (told.motion.y_m[-1], told.motion.z_m[-1]) == (1, 2)
    assert told.motion.gripper == [float(action[6]) for action in actions]


def test_a_replay_that_goes_another_way_is_refused(play):
    actions = []
    result = play(RandomPolicy(), recorder=actions)
    changed = [*actions[:-1], np.zeros(7, dtype=np.float32) + 0.5]
    with pytest.raises(SimulatorError, match="did not run the same way again"):
        list(replay_frames(StubSim("stub", 0, SimConfig()), result, changed, ("agentview",), 16))

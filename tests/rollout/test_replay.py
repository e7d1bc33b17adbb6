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


def test_a_replay_that_goes_another_way_is_refused(play):
    actions = []
    result = play(RandomPolicy(), recorder=actions)
    changed = [*actions[:-1], np.zeros(7, dtype=np.float32) + 0.5]
    with pytest.raises(SimulatorError, match="did not run the same way again"):
        list(replay_frames(StubSim("stub", 0, SimConfig()), result, changed, ("agentview",), 16))

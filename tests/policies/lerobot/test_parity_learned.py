"""A learned policy in the real `lerobot-eval` and in this harness: the same episodes, to the bit of every position.

`lerobot-eval` runs in a process of its own, seeds and places as it does, and takes init states with its own loader. It
is handed the harness's noise and one thread (see `eval_driver`); what it shows the policy and what it executes is its
own. One operation differs: LeRobot computes axis-angles in float32, this harness in float64 as openpi does. So the
harness is compared twice: as it is, and with its states' axis-angles computed by LeRobot's own function. A short
version, in LeRobot's `rollout()`, is in `test_parity.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from eval_driver import PLUGIN, Request
from lerobot_small import LerobotStates
from numpy.typing import NDArray

from harness.policies.base import Policy
from harness.policies.registry import make_policy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.sim import LiberoSim
from harness.spec.observation import CAMERAS
from harness.spec.policy import parse_policy
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import sim_config

ROOT = Path(__file__).parents[3]
TASKS = {"libero_spatial": 0, "libero_object": 3, "libero_goal": 0}
"""One task of each of three suites, with init states and seeds from LeRobot's first."""
EPISODES = 1
FIRST_CHUNK = 5e-6
"""Bound on what the actions of both first decisions differ by, as they are: the rounding of the float32 axis-angle in
the state, and what `flow` makes of it. No contact has amplified it yet."""


@dataclass(frozen=True)
class Played:
    """One episode in this harness."""

    result: EpisodeResult
    actions: NDArray[np.float32]


@dataclass(frozen=True)
class Evaluated:
    """One episode in `lerobot-eval`."""

    success: bool
    trajectory_sha256: str
    actions: NDArray[np.float32]


def keys_of(suite: str) -> list[str]:
    return [episode_key("0" * 64, suite, TASKS[suite], episode, 0) for episode in range(EPISODES)]


def lerobot_eval(suite: str, folder: Path, steps: int | None = None) -> list[Evaluated]:
    """Run the real `lerobot-eval` on the shipped `flow`."""
    policy = folder / "policy"
    path = os.pathsep.join((str(ROOT), str(PLUGIN), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path}
    convert = [sys.executable, "-m", "lerobot_policy_vla_flow", str(ROOT / "checkpoints/flow/teacher"), str(policy)]
    subprocess.run(convert, check=True, env=environment)
    request = Request(str(policy), suite, TASKS[suite], keys_of(suite), str(folder), steps)
    (folder / "request.json").write_text(json.dumps(asdict(request)))
    driver = [sys.executable, str(Path(__file__).with_name("eval_driver.py")), str(folder / "request.json")]
    subprocess.run(driver, check=True, env=environment)
    (task,) = json.loads((folder / "eval/eval_info.json").read_text())["per_task"]
    digests = json.loads((folder / "trajectories.json").read_text())
    noted = np.load(folder / "episodes.npz")
    return [
        Evaluated(bool(success), digest, noted[f"actions{episode}"])
        for episode, (success, digest) in enumerate(zip(task["metrics"]["successes"], digests, strict=True))
    ]


def harness_run(suite: str, policy: Policy, steps: int | None = None, *, preset: str = "lerobot") -> list[Played]:
    """Run the same episodes in this harness."""
    lengths = {} if steps is None else {"max_steps": {suite: steps}}
    protocol = Protocol.model_validate({"preset": preset, **lengths})
    sim = LiberoSim(suite, TASKS[suite], config=sim_config(protocol, CAMERAS, privileged=True))
    played, alarm = [], Alarm()
    try:
        decider = LocalDecider(policy, alarm, WallTime())
        for episode, key in enumerate(keys_of(suite)):
            unit = EpisodeUnit("flow", None, suite, TASKS[suite], episode, 0, key, "0" * 64)
            actions: list[NDArray[np.float32]] = []
            result = run_episode(
                sim, decider, unit, protocol, policy.info, clock=WallTime(), limits=Limits(), recorder=actions
            )
            assert result.outcome != "error", result.error_message
            played.append(Played(result, np.stack(actions)))
    finally:
        alarm.close()
        sim.close()
    return played


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", TASKS)
def test_whole_episodes_of_a_learned_policy_are_those_of_lerobot_eval(suite: str, tmp_path: Path) -> None:
    flow = make_policy(parse_policy("flow?device=cpu"))
    # Before LeRobot's, so that a fault of ours costs no minutes.
    exact, plain = harness_run(suite, LerobotStates(flow)), harness_run(suite, flow)
    theirs = lerobot_eval(suite, tmp_path)
    for same, near, expected in zip(exact, plain, theirs, strict=True):
        assert same.result.trajectory_sha256 == expected.trajectory_sha256
        assert same.result.steps == len(expected.actions)
        np.testing.assert_array_equal(same.actions, np.clip(expected.actions, -1, 1))
        for played in (same, near):
            assert (played.result.outcome == "success") is expected.success
        first = slice(flow.info.replan_interval)
        np.testing.assert_allclose(near.actions[first], np.clip(expected.actions[first], -1, 1), atol=FIRST_CHUNK)

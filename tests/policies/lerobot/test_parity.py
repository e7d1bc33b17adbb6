"""Closed loop: LeRobot's own `rollout()` on its own `LiberoEnv`, and this harness, act alike step by step.

Three things of LeRobot are set for the comparison, none of which touches what a policy sees or does: init states come
from the installed LIBERO package, one per episode by its number; noise is the harness's keyed noise instead of the
global generator's; and `lerobot.datasets`, which an evaluation imports but does not use, is empty. Whole episodes of
the real `lerobot-eval`: `test_parity_learned.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_policy, narrow_lerobot, write_checkpoint
from eval_driver import PLUGIN
from lerobot_small import LerobotStates, statistics
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from harness.policies.base import Policy
from harness.policies.flow.shipped import find_checkpoint
from harness.policies.registry import make_policy
from harness.policies.scripted import ScriptedPolicy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import decision_noise, episode_key
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.sim import LiberoSim
from harness.sim.package import find_package, prepare, quiet
from harness.sim.resources import Resources
from harness.spec.observation import CAMERAS, ActionChunks, Observation
from harness.spec.policy import parse_policy
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import sim_config

RESOLUTION = 64
STEPS = 10
"""Control steps of an episode with random weights: three decisions of four actions, the last cut short."""
INIT_STATE = 3
PROTOCOL = Protocol.model_validate({"preset": "lerobot", "resolution": RESOLUTION})
FLOW_STEPS = 15
"""Control steps of an episode with `flow`: a whole chunk and half of the next."""
TASKS = (("libero_spatial", 0), ("libero_object", 3))
SLACK = 10
"""Times that the last action of the recorded expert is repeated."""

Actions = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """One task in both simulators."""

    suite: str
    task_id: int
    sim: LiberoSim
    lerobot: Any
    """LeRobot's `LiberoEnv`."""
    tokenizer: Path
    folder: Path

    def unit(self) -> EpisodeUnit:
        key = episode_key("0" * 64, self.suite, self.task_id, INIT_STATE, 0)
        return EpisodeUnit("p", None, self.suite, self.task_id, INIT_STATE, 0, key, "0" * 64)

    def run_lerobot(self, folder: Path, steps: int, noise: Actions | None = None) -> tuple[Actions, bool]:
        """Actions and success of LeRobot's own rollout of a checkpoint; its noise is keyed unless it is given.

        Fixtures stand where `lerobot-eval` has them in its episode number `INIT_STATE`.
        """
        import gymnasium as gym
        from lerobot.configs import PreTrainedConfig
        from lerobot.envs.configs import LiberoEnv as LiberoEnvConfig
        from lerobot.envs.factory import make_env_pre_post_processors
        from lerobot.policies import get_policy_class, make_pre_post_processors
        from lerobot.scripts.lerobot_eval import rollout

        config = PreTrainedConfig.from_pretrained(folder)
        policy = get_policy_class(config.type).from_pretrained(folder, config=config).eval()
        draws = iter(noise) if noise is not None else self.keyed(load_policy(folder).info.noise_shape)
        _hand_over(policy, (torch.from_numpy(one)[None] for one in draws))
        env_pre, env_post = make_env_pre_post_processors(LiberoEnvConfig(task=self.suite), config)
        pre, post = make_pre_post_processors(config, pretrained_path=str(folder))
        self.lerobot.init_state_id = INIT_STATE
        self.lerobot._max_episode_steps = steps
        vector = gym.vector.SyncVectorEnv([lambda: self.lerobot], autoreset_mode=gym.vector.AutoresetMode.NEXT_STEP)
        if self.lerobot._env is not None:
            # robosuite takes its GL context for the only one of the process and never makes it current again.
            self.lerobot._env.sim._render_context_offscreen.gl_ctx.make_current()
        seed = PROTOCOL.placement_seed + INIT_STATE
        data = rollout(vector, policy, env_pre, env_post, pre, post, seeds=[seed])
        return data["action"][0].numpy(), bool(data["success"].any())

    def keyed(self, shape: tuple[int, ...]) -> Iterator[Actions]:
        return (decision_noise(self.unit().episode_key, decision, shape) for decision in itertools.count())

    def run_harness(self, policy: Policy, steps: int) -> tuple[Actions, EpisodeResult]:
        """Actions that the harness executed, and the episode's result."""
        actions: list[Actions] = []
        protocol = PROTOCOL.model_copy(update={"max_steps": {self.suite: steps}})
        alarm = Alarm()
        try:
            result = run_episode(
                self.sim,
                LocalDecider(policy, alarm, WallTime()),
                self.unit(),
                protocol,
                policy.info,
                clock=WallTime(),
                limits=Limits(),
                recorder=actions,
            )
        finally:
            alarm.close()
        assert result.outcome != "error", result.error_message
        return np.stack(actions), result


def _hand_over(policy: Any, draws: Iterator[torch.Tensor]) -> None:
    """Have a LeRobot policy take its initial noise from `draws` instead of the global generator."""
    if policy.config.type == "diffusion":
        sample = policy.diffusion.conditional_sample
        policy.diffusion.conditional_sample = lambda *args, **kwargs: sample(*args, **{**kwargs, "noise": next(draws)})
    elif policy.config.type == "vla_flow":
        decide = policy.predict_action_chunk
        policy.predict_action_chunk = lambda batch, *args, **kwargs: decide(batch, next(draws))
    else:
        policy.model.sample_noise = lambda shape, device: next(draws).to(device).reshape(shape)


@pytest.fixture(scope="module")
def lerobot_eval() -> Iterator[None]:
    """LeRobot's evaluation, importable without its data set extra, on the installed LIBERO."""
    with pytest.MonkeyPatch.context() as patch:
        empty = types.ModuleType("lerobot.datasets.lerobot_dataset")
        empty.LeRobotDataset = object  # type: ignore[attr-defined]
        package = types.ModuleType("lerobot.datasets")
        package.__path__ = []
        patch.setenv("SLURM_JOB_ID", "0")  # how LeRobot is told to draw no progress bars
        patch.setitem(sys.modules, "lerobot.datasets", package)
        patch.setitem(sys.modules, "lerobot.datasets.lerobot_dataset", empty)
        prepare()
        import lerobot.scripts.lerobot_eval  # noqa: F401

        yield


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: f"{task[0]}-{task[1]}")
def world(
    request: pytest.FixtureRequest, lerobot_eval: None, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A task in both simulators, with LeRobot's architectures narrowed."""
    from lerobot.envs import libero

    suite, task_id = request.param
    resources = Resources(find_package())
    with pytest.MonkeyPatch.context() as patch, quiet():
        narrow_lerobot(patch, tokenizer)
        patch.setattr(
            libero, "get_task_init_states", lambda *a, **k: resources.init_states(resources.task(suite, task_id))
        )
        env = libero.LiberoEnv(
            libero._get_suite(suite),
            task_id,
            suite,
            obs_type="pixels_agent_pos",
            observation_width=RESOLUTION,
            observation_height=RESOLUTION,
        )
        sim = LiberoSim(suite, task_id, config=sim_config(PROTOCOL, CAMERAS, privileged=True))
        yield World(suite, task_id, sim, env, tokenizer, tmp_path_factory.mktemp("checkpoints"))
        sim.close()
        env.close()


@pytest.fixture(scope="module")
def random_pi05(world: World) -> tuple[Path, Actions, bool]:
    """A small Pi0.5 with random weights, and LeRobot's rollout of it."""
    folder = write_checkpoint(world.folder / "pi05", world.tokenizer, "pi05", size=RESOLUTION)
    return folder, *world.run_lerobot(folder, STEPS)


def test_pi05_acts_as_in_lerobot_at_every_step(world: World, random_pi05: tuple[Path, Actions, bool]) -> None:
    folder, expected, success = random_pi05
    actions, result = world.run_harness(load_policy(folder), STEPS)
    assert actions.shape == (STEPS, 7)
    np.testing.assert_allclose(actions, np.clip(expected, -1, 1), atol=1e-5)
    assert (result.outcome == "success") is success
    assert np.ptp(expected, axis=0).min() > 1e-2


class Mutated:
    """A policy that is shown something else than the simulator showed."""

    def __init__(self, policy: Policy, change: Callable[[Observation], Observation]) -> None:
        """Show `change(observation)` instead."""
        self.policy, self.change, self.info = policy, change, policy.info

    def act(self, observations: Sequence[Observation], noise: Any, *, nfe: int | None = None) -> ActionChunks:
        return self.policy.act([self.change(o) for o in observations], noise, nfe=nfe)


def flipped(seen: Observation) -> Observation:
    return replace(seen, images={camera: image[::-1, ::-1] for camera, image in seen.images.items()})


def swapped(seen: Observation) -> Observation:
    return replace(seen, images=dict(zip(seen.images, reversed(seen.images.values()), strict=True)))


def reordered(seen: Observation) -> Observation:
    return replace(seen, state=np.concatenate([seen.state[6:], seen.state[:6]]))


def quaternion_sign(seen: Observation) -> Observation:
    return replace(seen, state=seen.state * np.array([1, 1, 1, -1, -1, -1, 1, 1], np.float32))


@pytest.fixture(scope="module")
def random_diffusion(world: World) -> tuple[Path, Actions, bool]:
    """A small Diffusion policy that looks at two steps, and LeRobot's rollout of it.

    It predicts actions, not noise: dividing by a small alpha would magnify the last bits of the state a thousandfold.
    """
    sizes = {"noise_scheduler_type": "DDIM", "num_inference_steps": 3, "prediction_type": "sample"}
    folder = write_checkpoint(world.folder / "diffusion", world.tokenizer, "diffusion", size=RESOLUTION, **sizes)
    return folder, *world.run_lerobot(folder, STEPS)


def test_diffusion_acts_as_in_lerobot_at_every_step(world: World, random_diffusion: tuple[Path, Actions, bool]) -> None:
    """The harness renders the step of a decision and the one before it, LeRobot every step.

    LeRobot computes axis-angles in float32, the simulator in float64 (as openpi): states differ in their last bits, and
    this random network feeds that back, magnified some sixty times a decision.
    """
    folder, expected, success = random_diffusion
    actions, result = world.run_harness(load_policy(folder), STEPS)
    np.testing.assert_allclose(actions[:4], np.clip(expected, -1, 1)[:4], atol=1e-5)
    np.testing.assert_allclose(actions, np.clip(expected, -1, 1), atol=2e-3)
    assert (result.outcome == "success") is success


def test_a_history_that_stands_still_breaks_parity(world: World, random_diffusion: tuple[Path, Actions, bool]) -> None:
    folder, expected, _ = random_diffusion
    mutated = Mutated(load_policy(folder), lambda seen: replace(seen, history=(replace(seen, history=()),)))
    actions, _ = world.run_harness(mutated, STEPS)
    assert np.abs(actions - np.clip(expected, -1, 1)).max() > 1e-2


@pytest.mark.parametrize("mutation", [flipped, swapped, reordered, quaternion_sign])
def test_a_mistake_in_what_the_policy_sees_breaks_parity(
    world: World, random_pi05: tuple[Path, Actions, bool], mutation: Callable[[Observation], Observation]
) -> None:
    folder, expected, _ = random_pi05
    actions, _ = world.run_harness(Mutated(load_policy(folder), mutation), STEPS)
    assert np.abs(actions - np.clip(expected, -1, 1)).max() > 1e-3


@pytest.fixture
def vla_flow(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped `flow` as LeRobot's plugin saves it."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    from lerobot_policy_vla_flow.__main__ import main

    main([str(find_checkpoint("teacher")[0]), str(world.folder / "flow")])
    return world.folder / "flow"


def test_a_learned_policy_moves_everything_as_in_lerobot_to_the_bit(
    world: World, vla_flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trajectory's digest: every joint of the scene, at every step, but for LeRobot's float32 axis-angles."""
    policy = LerobotStates(make_policy(parse_policy("flow?device=cpu")))
    _, mine = world.run_harness(policy, FLOW_STEPS)
    step, theirs = type(world.lerobot).step, hashlib.sha256()

    def noted(self: Any, action: Any) -> Any:
        result = step(self, action)
        theirs.update(np.array(self._env.sim.data.qpos, dtype=np.float64).tobytes())
        return result

    monkeypatch.setattr(type(world.lerobot), "step", noted)
    noise = np.stack(list(itertools.islice(world.keyed(policy.info.noise_shape), FLOW_STEPS)))
    _, success = world.run_lerobot(vla_flow, FLOW_STEPS, noise)
    assert mine.trajectory_sha256 == theirs.hexdigest()
    assert (mine.outcome == "success") is success


class Led:
    """A policy that is handed given noise instead of the keyed one."""

    def __init__(self, policy: Policy, noise: Actions) -> None:
        """Hand over `noise[k]` at decision k."""
        self.policy, self.noise, self.info = policy, noise, policy.info

    def act(self, observations: Sequence[Observation], noise: Any, *, nfe: int | None = None) -> ActionChunks:
        del noise
        return self.policy.act(observations, np.stack([self.noise[o.decision] for o in observations]), nfe=nfe)


def without_velocity(folder: Path) -> None:
    """Zero the output layer of a Pi0.5: its velocity is zero everywhere, so that its noise is its actions."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    zeroed = {name: torch.zeros_like(value) for name, value in tensors.items() if "action_out_proj" in name}
    save_file(tensors | zeroed, path)


def test_a_success_is_a_success_in_both(world: World) -> None:
    """Outcomes have to agree on a success too, which random weights never reach.

    A demonstration is put into the noise of a Pi0.5 that answers its noise, chunk by chunk.
    """
    if world.suite != "libero_spatial":
        pytest.skip("one success is enough: it costs LeRobot a rendered frame at every step")
    demonstration, result = world.run_harness(ScriptedPolicy(), 280)
    assert result.outcome == "success"
    folder = write_checkpoint(world.folder / "led", world.tokenizer, "pi05", size=RESOLUTION)
    without_velocity(folder)
    policy = load_policy(folder)
    chunk, interval, steps = policy.info.chunk_length, policy.info.replan_interval, len(demonstration) + SLACK
    stats = {name: value.numpy() for name, value in statistics()["action"].items()}
    wanted = np.concatenate([demonstration, np.repeat(demonstration[-1:], SLACK + chunk, axis=0)])
    normalised = 2 * (wanted - stats["q01"]) / (stats["q99"] - stats["q01"]) - 1
    noise = np.zeros((-(-steps // interval), *policy.info.noise_shape), np.float32)
    for decision in range(len(noise)):
        noise[decision, :, :7] = normalised[decision * interval :][:chunk]
    actions, mine = world.run_harness(Led(policy, noise), steps)
    expected, theirs = world.run_lerobot(folder, steps, noise)
    assert (mine.outcome, theirs) == ("success", True)
    assert len(actions) == len(expected) == mine.steps
    np.testing.assert_allclose(actions, np.clip(expected, -1, 1), atol=1e-5)

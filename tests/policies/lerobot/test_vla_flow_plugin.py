"""`flow` as a LeRobot policy: found by LeRobot, saved and loaded by it, and the same actions in its own rollout."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot_small import lerobot_actions, noise_for, observe

from harness.policies.flow import FlowConfig, FlowPolicy, random_network
from harness.spec.observation import Observation

PLUGIN = Path(__file__).parents[3] / "examples" / "lerobot_policy_vla_flow"
SIZES = FlowConfig(image_size=32, channels=(16, 32, 32), width=48, heads=4, layers=2, prefix_mlp=96, expert_mlp=64)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The plugin as LeRobot discovers it: an installed distribution of that name."""
    from lerobot.utils.import_utils import register_third_party_plugins

    name = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["name"]
    installed = tmp_path / "site" / f"{name}-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(PLUGIN))
    register_third_party_plugins()


@pytest.fixture
def flow(tmp_path: Path) -> FlowPolicy:
    """A small `flow` with statistics of its own, saved in `tmp_path / "flow"`."""
    network = random_network(SIZES, seed=3)
    network.normalization.action_std.fill_(0.4)
    network.normalization.state_mean.fill_(0.1)
    policy = FlowPolicy(network, device="cpu")
    policy.save_pretrained(tmp_path / "flow")
    return policy


def convert(tmp_path: Path) -> Path:
    """What `python -m lerobot_policy_vla_flow` does, in this process."""
    from lerobot_policy_vla_flow.__main__ import main

    main([str(tmp_path / "flow"), str(tmp_path / "lerobot")])
    return tmp_path / "lerobot"


def test_lerobot_answers_what_the_harness_answers(plugin: None, flow: FlowPolicy, tmp_path: Path) -> None:
    folder = convert(tmp_path)
    seen = observe(3)
    noise = noise_for(flow, seen)
    assert noise is not None
    # LeRobot's own loader, LIBERO conversion, processors and sampler.
    np.testing.assert_allclose(lerobot_actions(folder, seen, noise), flow.act(seen, noise).actions, atol=1e-5)


def test_actions_are_taken_one_by_one_until_the_chunk_is_used_up(
    plugin: None, flow: FlowPolicy, tmp_path: Path
) -> None:
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class

    config = PreTrainedConfig.from_pretrained(convert(tmp_path))
    config.n_action_steps, config.num_inference_steps = 4, 2
    policy = get_policy_class("vla_flow").from_pretrained(tmp_path / "lerobot", config=config)
    (seen,) = observe(1)
    frames = {camera: torch.from_numpy(seen.images[camera]).permute(2, 0, 1)[None] / 255 for camera in seen.images}
    batch = {
        "observation.images.image": frames["agentview"],
        "observation.images.image2": frames["robot0_eye_in_hand"],
        "observation.state": torch.from_numpy(seen.state)[None],
        "task": [seen.instruction],
    }
    noise = noise_for(flow, [seen])
    chunk = flow.act([seen], noise, nfe=2).actions
    for step in range(4):
        action = policy.select_action(batch, noise=torch.from_numpy(noise))
        np.testing.assert_allclose(action.numpy(), chunk[:, step], atol=1e-5)
    again = policy.select_action(batch, noise=torch.from_numpy(-noise)).numpy()
    assert np.abs(again - chunk[:, 0]).max() > 1e-3
    with pytest.raises(NotImplementedError, match="train_flow"):
        policy.forward(batch)


class Still:
    """One environment, as gymnasium's vectors wrap it: always the same observation, eight steps, everything noted."""

    num_envs, _max_episode_steps, task_description = 1, 8, "open the drawer"

    def __init__(self, seen: Observation) -> None:  # noqa: D107
        self.seen, self.executed = seen, []
        self.unwrapped, self.metadata, self.envs = self, {"render_fps": 20}, [self]

    def call(self, name: str) -> list:
        return [getattr(self, name)]

    def observation(self) -> dict:
        # Raw frames, as LeRobot's LIBERO environment hands them over: upside down.
        keys = {"image": "agentview", "image2": "robot0_eye_in_hand"}
        pixels = {key: self.seen.images[camera][None, ::-1, ::-1].copy() for key, camera in keys.items()}
        return {"pixels": pixels, "agent_pos": self.seen.state[None]}

    def reset(self, *, seed=None, options=None) -> tuple[dict, dict]:
        return self.observation(), {}

    def step(self, action: np.ndarray) -> tuple:
        self.executed.append(action[0])
        return self.observation(), np.zeros(1), np.array([False]), np.array([False]), {}


def test_lerobots_own_rollout_executes_the_harness_actions(plugin: None, flow: FlowPolicy, tmp_path: Path) -> None:
    from lerobot.policies import get_policy_class, make_pre_post_processors
    from lerobot.processor import PolicyProcessorPipeline
    from lerobot.processor.env_processor import LiberoProcessorStep
    from lerobot.scripts import lerobot_eval

    folder = convert(tmp_path)
    policy = get_policy_class("vla_flow").from_pretrained(folder)
    policy.config.n_action_steps = 5
    pre, post = make_pre_post_processors(policy.config, pretrained_path=str(folder))
    (seen,) = observe(1)
    env = Still(replace(seen, instruction=Still.task_description))
    turn = PolicyProcessorPipeline(steps=[LiberoProcessorStep()])
    torch.manual_seed(11)
    lerobot_eval.rollout(env, policy, turn, PolicyProcessorPipeline(steps=[]), pre, post)

    torch.manual_seed(11)
    shape = (1, SIZES.chunk_length, 7)
    chunks = [flow.act([env.seen], torch.randn(shape).numpy()).actions[0, :5] for _ in range(2)]
    np.testing.assert_allclose(env.executed, np.concatenate(chunks)[:8], atol=1e-5)


def test_lerobot_finds_the_init_states_that_are_written_for_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; "
        "from lerobot_policy_vla_flow.libero_files import write_libero_files; "
        "assert write_libero_files(Path(sys.argv[1])) >= 130; "
        "from lerobot.envs.libero import get_task_init_states; from libero.libero import benchmark; "
        "suite = benchmark.get_benchmark_dict()['libero_spatial'](); "
        "from harness.sim.resources import load_init_states; from harness.sim.package import find_package; "
        "own = find_package(); "
        "files = Path(own.root) / 'init_files' / 'libero_spatial'; "
        "file = next(files.glob(suite.get_task(3).name + '.pruned_init*')); "
        "assert (get_task_init_states(suite, 3) == load_init_states(file)).all()"
    )
    root = Path(__file__).parents[3]
    places = (str(root), str(root / "examples" / "lerobot_policy_vla_flow"))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "LIBERO_CONFIG_PATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=env)

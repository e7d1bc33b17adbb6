"""Meta-World and PushT move exactly as LeRobot's environments do, in any order of episodes, and run as LIBERO does."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

import harness
from harness.cluster.ray_session import open_session
from harness.errors import SimulatorError, UsageError
from harness.sim.gl import choose_backend
from harness.spec import Suite, load_suite
from harness.spec.resolve import parse
from harness.worlds import get_world
from harness.worlds.base import sim_config
from harness.worlds.gymnasium import from_lerobot, require_modules

pytest.importorskip("metaworld", reason="the extra `metaworld` is not installed")
pytest.importorskip("gym_pusht", reason="the extra `pusht` is not installed")

RESULT = ["policy_id", "episode_key", "outcome", "steps", "decisions", "clipped", "trajectory_sha256"]
STEPS = 12


@pytest.fixture(autouse=True, scope="module")
def gl():
    """Render with what this machine has, as a run's workers do."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in choose_backend(env=os.environ).env.items():
            patch.setenv(name, value)
        yield


def simulator(name: str, task_id: int = 0, *, cameras: bool = False, privileged: bool = False):
    suite = load_suite(name)
    world = get_world(suite.world)
    config = sim_config(suite.protocol, world.interface.cameras if cameras else (), privileged=privileged)
    return world.make(suite.tasks[0].suite, task_id, config)


def actions(space, seed: int) -> np.ndarray:
    return space.spread(np.random.default_rng(seed).uniform(-1, 1, (STEPS, space.dim)))


def digest(sim, init_state_id: int) -> str:
    sim.reset(init_state_id, observe=False)
    track = hashlib.sha256()
    for action in actions(sim.action_space, init_state_id):
        sim.step(action)
        track.update(sim.qpos.tobytes())
    return track.hexdigest()


def test_metaworld_is_lerobots_environment_to_the_bit_pixels_too():
    sim = simulator("metaworld:metaworld_easy", 3, cameras=True)
    task = get_world("metaworld").describe("metaworld_easy").tasks[3]
    plain = from_lerobot("metaworld", task=task, obs_type="pixels_agent_pos")[task][0]
    digest(sim, 5)  # what ran before is of no account
    theirs, _ = plain.reset(seed=1002)
    ours = sim.reset(2)
    assert (ours.images["corner2"] == theirs["pixels"]).all()
    for action in actions(sim.action_space, 0):
        theirs, _, done, _, _ = plain.step(action)
        step = sim.step(action)
        assert (sim.qpos == plain._env.data.qpos).all()
        assert step.success == done is False
    seen = sim.step(action, observe=True).observation
    theirs, *_ = plain.step(action)
    assert (seen.images["corner2"] == theirs["pixels"]).all()
    assert (seen.state == theirs["agent_pos"].astype(np.float32)).all()


def test_pusht_is_gym_pushts_to_the_bit_pixels_too():
    sim = simulator("pusht", cameras=True)
    settings = {"observation_width": 96, "observation_height": 96}
    plain = from_lerobot("pusht", task="PushT-v0", obs_type="environment_state_agent_pos", **settings)["pusht"][0]
    digest(sim, 5)
    plain.reset(seed=1002)
    sim.reset(2)
    for action in actions(sim.action_space, 0):
        theirs, _, done, _, _ = plain.step(action)
        step = sim.step(action, observe=True)
        assert (sim.qpos[:2] == theirs["agent_pos"]).all()
        assert step.success == done is False
    assert sim.qpos[8] == plain.block.angle
    plain.observation_width = plain.observation_height = 96
    assert (step.observation.images["top"] == plain._render()).all()


@pytest.mark.parametrize("name", ["metaworld:metaworld_very_hard", "pusht"])
def test_an_episode_is_the_same_whatever_ran_before(name):
    one, other = simulator(name), simulator(name)
    first = digest(one, 1)
    assert digest(one, 4) != first
    assert digest(one, 1) == digest(other, 1) == first


def test_metaworlds_own_expert_is_the_positive_control():
    sim = simulator("metaworld:metaworld_easy", 3, privileged=True)
    seen = sim.reset(0)
    for _ in range(200):
        step = sim.step(seen.privileged["expert_action"].astype(np.float32), observe=True)
        seen = step.observation
        if step.success:
            return
    raise AssertionError("the expert did not solve the task in 200 steps")


def metaworld(**changes) -> Suite:
    data = {
        "name": "two",
        "description": "two tasks of metaworld_easy",
        "world": "metaworld",
        "tasks": [{"suite": "metaworld_easy", "tasks": [0, 3], "init_states": 2}],
        "protocol": {"preset": "lerobot-metaworld", "max_steps": {"metaworld": 110}},
        "policies": ["expert", "random"],
        **changes,
    }
    return parse(Suite, data, "test")


def test_one_and_two_workers_give_identical_episodes_under_two_clocks(tmp_path):
    clocks = {"clock": ["synchronous", "blocking"], "latency": ["constant:30ms"], "policies": ["random"]}
    found = {}
    with open_session(None, n_cpus=4):
        for workers in (1, 2):
            out = tmp_path / str(workers)
            result = harness.run(metaworld(), out=out, workers=workers)
            assert (result.done, result.errors, result.warnings) == (8, (), ())
            found[out.name] = harness.read(out)
        clocked = harness.run(metaworld(**clocks), out=tmp_path / "clocked", workers=2)
    assert (clocked.done, clocked.errors) == (8, ())
    one, two = (found[n].episodes[RESULT].sort_values(RESULT[:2]).to_dict("records") for n in ("1", "2"))
    assert one == two
    outcomes = found["2"].episodes.groupby("policy_id")["outcome"].agg(set).to_dict()
    assert outcomes["random"] == {"timeout"}
    assert "success" in outcomes["expert"]
    held = harness.read(tmp_path / "clocked").episodes.groupby("clock")["hold_steps"].min()
    assert held["blocking"] > 0
    manifest = found["2"].manifest("metaworld_easy")
    assert (manifest["control_hz"], manifest["physics_hz"], manifest["success_rule"]) == (80, 400, "is_success")
    assert manifest["version.metaworld"] == "3.0.0"


@pytest.mark.slow
def test_pusht_is_filmed_compared_gated_and_reported_as_libero_is(tmp_path):
    from harness.cli.app import invoke

    ledgers = [str(tmp_path / name) for name in ("base", "candidate")]
    for ledger in ledgers:
        options = ["--policy", "random", "--episodes", "8", "--workers", "2", "--video", "failures", "--out", ledger]
        assert invoke(["run", "pusht", *options]) == 0
    assert list((tmp_path / "base" / "videos").rglob("*.mp4"))
    assert invoke(["compare", *ledgers]) == 0
    assert invoke(["gate", *ledgers]) in (0, 2)
    assert invoke(["report", ledgers[0], "--html", str(tmp_path / "page.html")]) == 0
    both = [
        harness.read(ledger).episodes.set_index("episode_key")["trajectory_sha256"].sort_index() for ledger in ledgers
    ]
    assert both[0].equals(both[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": "metawrld"}, r"Unknown world 'metawrld'\. Did you mean 'metaworld'"),
        ({"policies": ["scripted"]}, "cannot do suite 'metaworld_easy'"),
        ({"policies": ["flow"]}, r"'flow' answers actions of 7 numbers, but .* 'metaworld' is 4 numbers \(dx, dy"),
        (
            {"protocol": {"preset": "lerobot", "max_steps": {"metaworld": 9}}},
            r"physics_hz 500 \(it has 400\), contr",
        ),
        (
            {"protocol": {"preset": "lerobot-metaworld", "max_steps": {"metaworld": 900}}},
            r"max_steps 900 \(it has at",
        ),
        ({"tasks": [{"suite": "metaworld_eazy"}]}, "Did you mean 'metaworld_easy'"),
    ],
)
def test_what_does_not_fit_is_one_message_that_names_both_sides(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        harness.run(metaworld(**changes), out=tmp_path / "x")


def test_a_policy_of_another_robot_is_refused_before_anything_starts(tmp_path):
    suite = metaworld(policies=["openpi://127.0.0.1:1"])
    from harness.policies.ability import require_able
    from harness.spec.observation import PolicyInfo

    space = get_world("metaworld").interface.space("relative")
    with pytest.raises(
        UsageError, match=r"'mine' answers actions of 7 numbers.*world 'metaworld' is 4 numbers \(dx, dy"
    ):
        require_able("mine", PolicyInfo("mine"), {suite.tasks[0].suite: None}, space, ("corner2",), "metaworld")


def test_a_missing_package_names_the_extra_that_brings_it():
    with pytest.raises(SimulatorError, match=r"World 'w' needs no_such_module, not installed here: .*\[extra\]"):
        require_modules("w", ("numpy", "no_such_module"), "extra")

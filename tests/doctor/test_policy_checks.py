"""Each mistake by which a good policy scores 0 % is found before any rollout, and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.cli.app import invoke
from harness.doctor.check import Check, CheckStatus
from harness.doctor.expectations import (
    WELL,
    Expectations,
    ask,
    make_expectations,
    read_expectations,
    write_expectations,
)
from harness.doctor.observations import load_observations
from harness.doctor.policy_checks import check_policy, expected_answers
from harness.errors import HarnessError, PolicyError, UsageError
from harness.policies.flow import FlowConfig, FlowPolicy, random_network
from harness.policies.scripted import ScriptedPolicy
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import CAMERAS, ActionChunks, Observation

THIRD, WRIST = CAMERAS


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def flow(seed: int, *, trained: bool = True) -> FlowPolicy:
    """A `flow` that passes for a trained one: norm scales and biases are no longer where they began."""
    network = random_network(FlowConfig(), seed)
    network.normalization.action_mean[2] = -0.1
    network.normalization.action_std.fill_(0.4)
    if trained:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return FlowPolicy(network, checkpoint=f"flow-{seed}", weights_sha256=f"sha-{seed}", device="cpu")


class Wrapped:
    """A policy that sees something else than it is shown, or whose answers are changed."""

    def __init__(self, policy: FlowPolicy, see=lambda seen: seen, answer=lambda actions: actions, **info) -> None:  # noqa: D107
        self.inner, self.see, self.answer = policy, see, answer
        self.info = replace(policy.info, **info)

    def act(self, observations, noise, *, nfe=None) -> ActionChunks:
        seen = [self.see(observation) for observation in observations]
        return ActionChunks(self.answer(self.inner.act(seen, noise, nfe=nfe).actions))


@pytest.fixture(scope="module")
def well() -> FlowPolicy:
    return flow(0)


@pytest.fixture(scope="module")
def expectations(well: FlowPolicy) -> Expectations:
    return make_expectations(well)


def answers(policy, expectations: Expectations) -> Check:
    """What is found about a policy's answers."""
    return expected_answers(policy, ask(policy, load_observations(), expectations.nfe), expectations)


def pictures(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Observation], Observation]:
    return lambda seen: replace(seen, images={camera: change(frame).copy() for camera, frame in seen.images.items()})


def state(order: list[int]) -> Callable[[Observation], Observation]:
    return lambda seen: replace(seen, state=seen.state[order])


def other_camera(seen: Observation) -> Observation:
    return replace(seen, images={THIRD: seen.images[WRIST], WRIST: seen.images[THIRD]})


def at_64_pixels(frame: np.ndarray) -> np.ndarray:
    """As a simulator of 64 pixels shows it, more or less."""
    return np.rint(frame.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))).astype(np.uint8)


def test_a_well_policy_is_well(well: FlowPolicy, expectations: Expectations) -> None:
    assert {check.status for check in check_policy(well, expectations)} == {CheckStatus.OK}


@pytest.mark.parametrize(
    ("see", "cause"),
    [
        (pictures(lambda frame: frame[::-1, ::-1]), "images upside down"),
        (pictures(lambda frame: frame[::-1]), "images flipped top to bottom"),
        (pictures(lambda frame: frame[:, ::-1]), "images mirrored"),
        (other_camera, "cameras swapped"),
        (pictures(at_64_pixels), r"wrong resolution \(64 pixels\)"),
        (pictures(lambda frame: frame[..., ::-1]), "colour channels reversed"),
        (pictures(lambda frame: frame // 255), "images black"),
        (state([6, 7, 0, 1, 2, 3, 4, 5]), r"state in the wrong order \(gripper, position, rotation\)"),
        (state([3, 4, 5, 0, 1, 2, 6, 7]), r"state in the wrong order \(rotation, position, gripper\)"),
        (lambda seen: replace(seen, state=np.zeros(8, np.float32)), "state missing"),
        (lambda seen: replace(seen, instruction=""), "instruction missing"),
    ],
)
def test_a_fault_of_what_a_policy_sees_is_named(see, cause: str, well: FlowPolicy, expectations: Expectations) -> None:
    found = answers(Wrapped(well, see=see), expectations)
    assert found.status is CheckStatus.FAIL
    assert re.match(cause, found.found), found
    assert found.remedy


def test_a_reversed_gripper_is_named(well: FlowPolicy, expectations: Expectations) -> None:
    found = answers(Wrapped(well, answer=lambda actions: actions * [1, 1, 1, 1, 1, 1, -1]), expectations)
    assert (found.status, found.found.partition(":")[0]) == (CheckStatus.FAIL, "gripper sign reversed")


@pytest.mark.parametrize("scale", [2.5, 0.4])
def test_actions_that_lack_their_statistics_or_have_them_twice_are_named(
    scale: float, well: FlowPolicy, expectations: Expectations
) -> None:
    found = answers(Wrapped(well, answer=lambda actions: actions * np.float32(scale) + np.float32(0.1)), expectations)
    assert (found.status, found.found.partition(":")[0]) == (CheckStatus.FAIL, "unnormalised actions")


def test_a_flow_that_forgets_its_statistics_is_named(expectations: Expectations) -> None:
    careless = flow(0)
    careless.network.normalization.action_mean.zero_()
    careless.network.normalization.action_std.fill_(1.0)
    found = answers(careless, expectations)
    assert (found.status, found.found.partition(":")[0]) == (CheckStatus.FAIL, "unnormalised actions")


def test_unnormalised_actions_are_found_without_expectations_too(well: FlowPolicy) -> None:
    wild = Wrapped(well, answer=lambda actions: actions * np.float32(30))
    (found,) = [check for check in check_policy(wild, None) if check.name == "action range"]
    assert found.status is CheckStatus.FAIL
    assert "unnormalised" in found.found
    nothing = Wrapped(well, answer=lambda actions: actions * np.float32(0.001))
    faults = [check.found for check in check_policy(nothing, None) if check.status is not CheckStatus.OK]
    assert [fault.partition(":")[0] for fault in faults] == ["no motion", "undecided"]


def test_random_weights_are_named_by_their_declaration_by_their_look_and_by_their_answers(
    expectations: Expectations,
) -> None:
    fresh = flow(5, trained=False)
    by_look = {check.name: check for check in check_policy(fresh, None)}["weights"]
    assert (by_look.status, by_look.found.partition(":")[0]) == (CheckStatus.FAIL, "random weights")
    declared = Wrapped(flow(5), checkpoint="random:seed=5")
    assert check_policy(declared, None)[0].found == "random weights (random:seed=5)"
    # The same checkpoint by name and digest, but it answers something unrelated.
    unrelated = answers(Wrapped(flow(7), identity=PolicyIdentity(weights="sha-0")), expectations)
    assert unrelated.status is CheckStatus.FAIL
    assert "random weights" in unrelated.found
    other = answers(flow(7), expectations)
    assert other.found.startswith("other weights than the expectations are of")


def test_another_nfe_is_no_fault_of_the_inputs(well: FlowPolicy, expectations: Expectations) -> None:
    found = answers(well, replace(expectations, nfe=2))
    assert found.status is CheckStatus.WARN
    assert "compare NFE" in found.remedy


def test_rounding_of_another_device_is_no_fault(well: FlowPolicy, expectations: Expectations) -> None:
    shaky = Wrapped(well, answer=lambda a: a + np.random.default_rng(0).normal(0, 0.002, a.shape).astype(np.float32))
    assert answers(shaky, expectations).status is CheckStatus.OK


def test_answers_that_are_nearly_right_are_not_called_unnormalised(
    well: FlowPolicy, expectations: Expectations
) -> None:
    usual = expectations.answers[WELL]
    shaky = 0.97 * usual + np.random.default_rng(0).normal(0, 0.025, usual.shape) * usual.std(axis=(0, 1))
    found = expected_answers(well, shaky.astype(np.float32), expectations)
    assert (found.status, found.found.partition(";")[2].strip()) == (CheckStatus.WARN, "no known fault explains it")


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_camera_that_is_not_looked_at_is_named(camera: str, well: FlowPolicy) -> None:
    grey = np.full((256, 256, 3), 128, np.uint8)
    blind = Wrapped(well, see=lambda seen: replace(seen, images={**seen.images, camera: grey}))
    failed = [check for check in check_policy(blind, None) if check.status is CheckStatus.FAIL]
    assert [check.name for check in failed] == [f"looks at camera {camera}"]


def test_an_instruction_that_is_not_read_is_a_warning(well: FlowPolicy) -> None:
    deaf = Wrapped(well, see=lambda seen: replace(seen, instruction="pick"))
    (found,) = [check for check in check_policy(deaf, None) if check.status is not CheckStatus.OK]
    assert (found.name, found.status) == ("looks at instruction", CheckStatus.WARN)


def test_expectations_are_kept_beside_the_checkpoint(
    well: FlowPolicy, expectations: Expectations, tmp_path: Path
) -> None:
    assert read_expectations(tmp_path) is None
    with pytest.raises(UsageError, match=r"/proc/none/probe\.json"):
        write_expectations(expectations, "/proc/none")
    path = write_expectations(expectations, tmp_path / "checkpoint")
    assert path.stat().st_size < 200_000
    read = read_expectations(tmp_path / "checkpoint")
    assert read is not None
    np.testing.assert_allclose(read.answers[WELL], expectations.answers[WELL], atol=1e-5)
    assert answers(well, read).status is CheckStatus.OK
    path.write_text(json.dumps({**json.loads(path.read_text()), "observations_sha256": "0"}))
    with pytest.raises(HarnessError, match="other observations"):
        read_expectations(tmp_path / "checkpoint")
    path.write_text("{")
    with pytest.raises(HarnessError, match="does not parse"):
        read_expectations(tmp_path / "checkpoint")


def test_a_policy_that_cannot_be_asked_says_why(well: FlowPolicy) -> None:
    with pytest.raises(PolicyError, match="reads object poses"):
        check_policy(ScriptedPolicy(), None)
    with pytest.raises(PolicyError, match="raised at a probe: KeyError"):
        check_policy(Wrapped(well, see=lambda seen: replace(seen, images={}).images["x"]), None)
    with pytest.raises(PolicyError, match=r"shape \(1, 10, 6\)"):
        check_policy(Wrapped(well, answer=lambda actions: actions[..., :6]), None)


def test_the_shipped_observations_are_what_a_policy_would_see() -> None:
    seen = load_observations()
    assert len(seen) == 6
    for each in seen:
        assert set(each.images) == set(CAMERAS)
        assert all(frame.shape == (256, 256, 3) and frame.std() > 20 for frame in each.images.values())
        # The gripper's fingers move apart from one another; the hand is above the table, pointing down.
        assert each.state[6] > 0 > each.state[7]
        assert abs(abs(each.state[3]) - np.pi) < 0.3


def test_the_command_writes_expectations_and_finds_a_checkpoint_that_is_not_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        flow(seed).save_pretrained(tmp_path / str(seed))
    good, bad = (f"flow:{tmp_path}/{seed}?device=cpu" for seed in (0, 1))
    assert invoke(["doctor", "-p", good]) == 0
    assert "no probe.json" in " ".join(capsys.readouterr().out.split())
    assert invoke(["doctor", "-p", good, "--write-probe", str(tmp_path / "0")]) == 0
    assert invoke(["doctor", "-p", good, "--json"]) == 0
    capsys.readouterr()
    assert invoke(["doctor", "-p", bad, "--probe", str(tmp_path / "0"), "--json"]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert "other weights" in checks["answers"]["found"]
    assert invoke(["doctor", "-p", good, "--probe", str(tmp_path)]) == 64
    assert invoke(["doctor", "--probe", str(tmp_path)]) == 64


def test_nothing_is_called_well_that_cannot_be_told_from_nan() -> None:
    broken = Wrapped(flow(3), answer=lambda actions: actions * np.float32("nan"))
    found = {check.name: check for check in check_policy(broken, None)}
    assert found["action range"].status is CheckStatus.FAIL
    others = [check for name, check in found.items() if name not in ("weights", "action range")]
    assert len(others) == 5
    assert all(check.status is CheckStatus.WARN and check.found.startswith("not looked at") for check in others)

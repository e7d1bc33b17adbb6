"""Sampled placements look like LIBERO's stored init states, and are none of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.errors import SimulatorError, UsageError
from harness.sim import LiberoSim, SimConfig
from harness.sim import libero as module

N = 25
FIRST_JOINT = 0.014914114309892361
"""Of placement 3 of libero_spatial task 4 after settling, rad: another number is another procedure, and wants another
`SAMPLED` in harness.spec.protocol."""


@pytest.fixture(scope="module")
def stored() -> Iterator[LiberoSim]:
    sim = LiberoSim("libero_spatial", 4, config=SimConfig(privileged=True))
    yield sim
    sim.close()


@pytest.fixture(scope="module")
def sampled() -> Iterator[LiberoSim]:
    sim = LiberoSim("libero_spatial", 4, config=SimConfig(privileged=True, placements="sampled"))
    yield sim
    sim.close()


def poses(sim: LiberoSim, numbers: range) -> dict[str, np.ndarray]:
    """Name → poses after settling, shape (len(numbers), 7)."""
    seen = [sim.reset(number) for number in numbers]
    names = [name for name in seen[0].privileged if "/" not in name]
    return {name: np.stack([each.privileged[name] for each in seen]) for name in names}


def test_they_come_from_the_same_regions_and_are_none_of_the_stored_ones(stored: LiberoSim, sampled: LiberoSim) -> None:
    test_set, fresh = poses(stored, range(N)), poses(sampled, range(N))
    movable = ("akita_black_bowl_1", "akita_black_bowl_2", "cookies_1", "glazed_rim_porcelain_ramekin_1", "plate_1")
    for name in movable:
        low, high = test_set[name][:, :3].min(axis=0), test_set[name][:, :3].max(axis=0)
        # The bowl in the drawer moves with the cabinet, which has its own region of 2 cm.
        assert (fresh[name][:, :3] > low - 0.02).all(), name
        assert (fresh[name][:, :3] < high + 0.02).all(), name
        np.testing.assert_allclose(fresh[name][:, :2].std(axis=0), test_set[name][:, :2].std(axis=0), rtol=0.6)
        turned = np.abs((fresh[name][:, 3:] * test_set[name][:1, 3:]).sum(axis=1))
        np.testing.assert_allclose(turned, 1.0, atol=1e-3)
        distance = np.linalg.norm(fresh[name][:, None, :2] - test_set[name][None, :, :2], axis=2)
        assert distance.min() > 1e-6
    arm = fresh["robot0_eef"][:, :3].std(axis=0) / test_set["robot0_eef"][:, :3].std(axis=0)
    assert ((arm > 0.5) & (arm < 2.0)).all()


def test_fixtures_are_drawn_too_where_stored_init_states_leave_them_as_built(
    stored: LiberoSim, sampled: LiberoSim
) -> None:
    assert np.ptp(poses(stored, range(3))["wooden_cabinet_1"], axis=0).max() == 0.0
    moved = np.ptp(poses(sampled, range(N))["wooden_cabinet_1"], axis=0)
    assert 0.01 < moved[0] < 0.021


def test_a_placement_is_the_same_whatever_ran_before_and_in_every_process(sampled: LiberoSim) -> None:
    sampled.reset(3, observe=False)
    first = sampled.qpos
    sampled.reset(1000, observe=False)
    assert (sampled.qpos != first).any()
    sampled.step(np.ones(7, dtype=np.float32))
    sampled.reset(3, observe=False)
    np.testing.assert_array_equal(sampled.qpos, first)
    np.random.seed(99)
    expected = np.random.get_state()[1].copy()
    sampled.reset(4, observe=False)
    np.testing.assert_array_equal(np.random.get_state()[1], expected)
    assert first[0] == pytest.approx(FIRST_JOINT, abs=1e-9)


def test_a_placement_that_does_not_come_to_rest_is_drawn_again(
    sampled: LiberoSim, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled.reset(5, observe=False)
    usual = sampled.qpos
    verdicts = iter([False, True])
    monkeypatch.setattr(sampled._sampler, "at_rest", lambda: next(verdicts))
    sampled.reset(5, observe=False)
    assert (sampled.qpos != usual).any()
    monkeypatch.setattr(module, "MAX_DRAWS", 2)
    monkeypatch.setattr(sampled._sampler, "at_rest", lambda: False)
    with pytest.raises(SimulatorError, match="None of 2 sampled placements of libero_spatial task 4"):
        sampled.reset(5, observe=False)


def test_a_toppled_object_is_not_at_rest(sampled: LiberoSim) -> None:
    sampled.reset(0, observe=False)
    assert sampled._sampler.at_rest()
    address = sampled._sampler._positions[0]
    sampled._data.qpos[address + 3 : address + 7] = [0.5, 0.5, 0.5, 0.5]
    assert not sampled._sampler.at_rest()


def test_a_number_below_zero_is_refused(sampled: LiberoSim) -> None:
    with pytest.raises(UsageError, match="Init state -1 does not exist"):
        sampled.reset(-1)

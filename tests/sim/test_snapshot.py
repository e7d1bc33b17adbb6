"""A snapshot puts back everything that an episode changes outside the controller."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.sim import LiberoSim, SimConfig
from harness.sim.snapshot import Snapshot


@pytest.fixture(scope="module")
def sim() -> Iterator[LiberoSim]:
    sim = LiberoSim("libero_goal", 7, config=SimConfig(settle_steps=0))
    yield sim
    sim.close()


def test_the_warm_start_and_every_force_are_put_back_not_only_positions(sim: LiberoSim) -> None:
    sim.reset(0, observe=False)
    snapshot = Snapshot(sim._env)
    names = ("qpos", "qvel", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied")
    before = {name: getattr(sim._data, name).copy() for name in names}
    for _ in range(3):
        sim.step(np.ones(7, np.float32))
    sim._data.qfrc_applied[:] = 1
    sim._data.xfrc_applied[:] = 1
    assert all((getattr(sim._data, name) != value).any() for name, value in before.items())
    snapshot.restore()
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(sim._data, name), value)


def test_looks_are_put_back(sim: LiberoSim) -> None:
    sim.reset(0, observe=False)
    snapshot = Snapshot(sim._env)
    stove = sim._env.fixtures_dict["flat_stove_1"]
    rgba, burner = sim._model.site_rgba.copy(), stove.object_properties["vis_site_names"]["burner"]
    stove.turn_on(1.0)
    sim._env.set_visualization()
    assert (sim._model.site_rgba != rgba).any()
    assert stove.object_properties["vis_site_names"]["burner"] != burner
    snapshot.restore()
    np.testing.assert_array_equal(sim._model.site_rgba, rgba)
    assert stove.object_properties["vis_site_names"]["burner"] == burner

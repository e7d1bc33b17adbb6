"""Built tasks on disk: what is left out, what is refused, and what opens again."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.sim import LiberoSim, SimConfig
from harness.sim.built import _laid_out, _Pickler, _Unpickler, task_digest
from harness.sim.disk_cache import open_cache
from harness.sim.engine import mujoco
from harness.sim.package import find_package
from harness.sim.resources import Resources
from harness.sim.textures import split_textures

TASK = ("libero_spatial", 0)


class Built(Exception):
    """A task was built, not opened."""


def build_nothing(*_: object) -> None:
    raise Built


@pytest.fixture(scope="module")
def sim() -> Iterator[LiberoSim]:
    sim = LiberoSim(*TASK, config=SimConfig(settle_steps=0))
    yield sim
    sim.close()


def test_a_model_without_pixels_differs_from_the_whole_in_nothing_but_textures(sim: LiberoSim) -> None:
    xml = sim._env.model.get_xml()
    whole = mujoco.MjModel.from_xml_string(xml)
    lean = mujoco.MjModel.from_xml_string(split_textures(xml)[0])
    names = [name for name in dir(whole) if isinstance(getattr(whole, name), int | float | np.ndarray)]
    told = {"ntexdata", "npaths", "nbuffer"}
    differ = {
        name
        for name in names
        if not name.startswith("_") and not np.array_equal(getattr(whole, name), getattr(lean, name), equal_nan=True)
    }
    assert differ <= told | {name for name in names if name.startswith("tex_")}
    assert len(names) > 300
    assert lean.ntexdata < 1000 < whole.ntexdata


def test_a_task_is_kept_under_all_that_decides_it(tmp_path: Path) -> None:
    package, asset = find_package(), tmp_path / "mesh.obj"
    asset.write_text("v 0 0 0")
    task, other = (Resources(package).task("libero_spatial", number) for number in (0, 1))
    one = task_digest(task, SimConfig(), package, [tmp_path])
    assert task_digest(task, SimConfig(resolution=64), package, [tmp_path]) == one
    assert task_digest(task, SimConfig(placement_seed=1), package, [tmp_path]) != one
    assert task_digest(other, SimConfig(), package, [tmp_path]) != one
    asset.write_text("v 0 0 1 0")
    assert task_digest(task, SimConfig(), package, [tmp_path]) != one


def test_a_damaged_task_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cache of its own: that of the tests is read by another process meanwhile.
    monkeypatch.setenv("VLA_HARNESS_CACHE", str(tmp_path))
    LiberoSim(*TASK, config=SimConfig(settle_steps=0)).close()
    cache = open_cache("tasks")
    assert cache is not None
    (path,) = cache.folder.glob("*/objects.pickle")
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr("harness.sim.environment.build_task", build_nothing)
    with pytest.raises(Built):
        LiberoSim(*TASK, config=SimConfig(settle_steps=0))


def test_nothing_but_simulation_objects_is_unpickled(sim: LiberoSim) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return (sorted, ("run",))  # not print: Ray puts its own in its place

    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.sorted"):
        _Unpickler(io.BytesIO(pickle.dumps(Evil())), sim._env.sim).load()


@pytest.mark.parametrize("kind", ["view", "shared"])
def test_arrays_that_would_come_back_as_copies_are_refused(sim: LiberoSim, kind: str) -> None:
    whole = np.zeros(6)
    value = [sim._data.qpos] if kind == "view" else [whole[:3], whole[3:]]
    with pytest.raises(pickle.PicklingError):
        _Pickler(io.BytesIO(), sim._env).dump(value)


def test_arrays_keep_their_order_in_memory(sim: LiberoSim) -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    for array in (values, values.T, values.transpose(1, 0, 2), np.arange(12.0).reshape(3, 4)[:, ::2].copy().T):
        stream = io.BytesIO()
        _Pickler(stream, sim._env).dump(array)
        back = _Unpickler(io.BytesIO(stream.getvalue()), sim._env.sim).load()
        np.testing.assert_array_equal(back, array)
        assert back.strides == np.copy(array, order="K").strides
    assert _laid_out(np.zeros((2, 3)), (1, 0)).shape == (3, 2)

"""A built task on disk: the compiled model, and what robosuite and LIBERO derive from it.

Building a task takes 5 to 9 seconds: meshes are read and their hulls and trees computed, the scene is put together
twice. All of that is the same every time, so it is kept (`harness.sim.disk_cache`) and opened in a fraction of a
second, equal to the bit: MuJoCo's own binary of the model, its integration state, and robosuite's objects, pickled
without the simulation, which is put in their place again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.sim.disk_cache import DiskCache, file_stamps
from harness.sim.engine import mujoco
from harness.sim.package import LiberoPackage, versions
from harness.sim.resources import TaskFiles
from harness.worlds.base import SimConfig

FORMAT = 1
_MODEL, _OBJECTS = "model.mjb", "objects.pickle"
_SOURCES = ("libero.", "robosuite.", "harness.sim.environment", "harness.sim.built", "harness.sim.textures")
"""Modules whose code decides what is built: a changed file is another task."""
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_PLAIN = {
    "builtins": {"set", "frozenset", "slice", "range", "complex", "bytearray", "getattr"},
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "xml.etree.ElementTree": {"Element", "ElementTree"},
    "_elementtree": {"Element"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "harness.sim.built": {"_laid_out"},
}
"""What pickled objects may be made of, besides robosuite's and LIBERO's classes and functions."""


@dataclass(frozen=True, slots=True)
class BuiltTask:
    """A task as `harness.sim.environment` builds it: nothing is placed yet."""

    env: Any
    """A `libero.libero.envs` domain."""
    textures: str
    """XML of a model of nothing but the scene's textures, whose pixels `env`'s model lacks."""


def integration_state(env: Any) -> NDArray[np.float64]:
    """All that MuJoCo integrates from: positions, velocities, the solver's warm start, controls and forces."""
    model, data = env.sim.model._model, env.sim.data._data
    state = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, state, _STATE)
    return state


def set_integration_state(env: Any, state: NDArray[np.float64]) -> None:
    """Put that back; derived quantities (poses, contacts) follow at the next forward."""
    mujoco.mj_setState(env.sim.model._model, env.sim.data._data, state, _STATE)


def task_digest(task: TaskFiles, config: SimConfig, package: LiberoPackage, folders: Iterable[Path]) -> str:
    """What a built task is kept under: all that decides it.

    Args:
        task: Files in which LIBERO describes the task.
        config: Of it, only what the environment is built with.
        package: Where LIBERO lies.
        folders: Folders of meshes and textures; each of their files counts with its size and its time of change.
    """
    modules = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if _decides(name)]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix]
    said = {
        "format": FORMAT,
        "task": asdict(task) | {"bddl": str(task.bddl), "states": None},
        "bddl": task.bddl.read_text(encoding="utf-8"),
        "build": (config.control_hz, config.placement_seed),
        "versions": versions() | {"numpy": np.__version__, "python": sys.version},
        "package": str(package.root),
        "processor": _processor(),
        "code": file_stamps(path for path in modules if path),
        "assets": file_stamps(files),
    }
    return hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()


def _decides(module: str) -> bool:
    return any(module.startswith(prefix) or module == prefix.rstrip(".") for prefix in _SOURCES)


def _processor() -> list[str]:
    """The kind of CPU: the last bits of what robosuite computes differ between kinds."""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU implementer", "CPU part", "Features")
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        return []
    return [line for line in first.splitlines() if line.split("\t")[0].strip() in wanted]


def load_task(cache: DiskCache, digest: str) -> BuiltTask | None:
    """Open a task that was kept; None when there is none, or none that can be read."""
    folder = cache.get(digest)
    if folder is None:
        return None
    try:
        sim = _simulation(folder / _MODEL)
        with (folder / _OBJECTS).open("rb") as stream:
            env, state, textures = _Unpickler(stream, sim).load()
    except Exception:
        # Whatever is wrong with it (removed meanwhile, written by an interpreter unlike this one), building is right.
        return None
    set_integration_state(env, state)
    return BuiltTask(env, textures)


def keep_task(cache: DiskCache, digest: str, built: BuiltTask) -> None:
    """Keep a task that was just built; one that cannot be pickled faithfully is not kept."""
    stream = io.BytesIO()
    try:
        _Pickler(stream, built.env).dump((built.env, integration_state(built.env), built.textures))
        _Unpickler(io.BytesIO(stream.getvalue()), built.env.sim).load()
    except (pickle.PickleError, TypeError, AttributeError, RecursionError):
        return

    def write(folder: Path) -> None:
        mujoco.mj_saveModel(built.env.sim.model._model, str(folder / _MODEL), None)
        (folder / _OBJECTS).write_bytes(stream.getvalue())

    cache.put(digest, write)


def _simulation(path: Path) -> Any:
    from robosuite.utils.binding_utils import MjSim

    return MjSim(mujoco.MjModel.from_binary_path(str(path)))


class _Pickler(pickle.Pickler):
    """Pickles an environment without its simulation; refuses whatever would not come back the same."""

    def __init__(self, stream: io.BytesIO, env: Any) -> None:
        super().__init__(stream, protocol=5)
        from libero.libero.envs.bddl_base_domain import TASK_MAPPING

        self._sim, robot = env.sim, env.robots[0]
        # robosuite keeps a view of MuJoCo's memory as the position of the robot's base.
        self._views = {id(robot.base_pos): robot.robot_model.root_body}
        self._domains = {id(domain): name for name, domain in TASK_MAPPING.items()}
        self._roots: dict[int, NDArray[Any]] = {}

    def persistent_id(self, value: Any) -> tuple[str, ...] | None:
        """Name what is not pickled: the simulation, and classes that LIBERO's own modules do not hold."""
        if value is self._sim:
            return ("sim",)
        if id(value) in self._views:
            return ("body_xpos", self._views[id(value)])
        if id(value) in self._domains:
            return ("domain", self._domains[id(value)])
        kind = type(value)
        if kind.__module__.partition(".")[0] == "mujoco" or kind.__name__ in ("MjSim", "MjModel", "MjData"):
            raise pickle.PicklingError(f"a {type(value).__name__} besides the simulation")
        return None

    def reducer_override(self, value: Any) -> Any:
        """Keep arrays as they lie in memory."""
        if type(value) is not np.ndarray or value.dtype.hasobject:
            return NotImplemented
        root = value
        while isinstance(root.base, np.ndarray):
            root = root.base
        if self._roots.setdefault(id(root), value) is not value:
            raise pickle.PicklingError("two arrays share memory")
        if type(root.base).__name__ == "PyCapsule":
            raise pickle.PicklingError("an array is a view of MuJoCo's memory")
        if value.flags.c_contiguous or value.flags.f_contiguous:
            return NotImplemented
        axes = tuple(int(axis) for axis in np.argsort([-abs(stride) for stride in value.strides], kind="stable"))
        return _laid_out, (np.array(value.transpose(axes), order="C"), axes)


def _laid_out(values: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """An array with its axes in memory in the order that it had: BLAS rounds by layout."""
    return values.transpose(tuple(int(axis) for axis in np.argsort(axes)))


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` wrote, and builds nothing but simulation objects."""

    def __init__(self, stream: Any, sim: Any) -> None:
        super().__init__(stream)
        self._sim = sim

    def persistent_load(self, pid: Any) -> Any:
        """What `_Pickler.persistent_id` named."""
        from libero.libero.envs.bddl_base_domain import TASK_MAPPING

        kind, *names = pid
        if kind == "sim":
            return self._sim
        if kind == "domain":
            return TASK_MAPPING[names[0]]
        return self._sim.data.get_body_xpos(names[0])

    def find_class(self, module: str, name: str) -> Any:
        """A class or function by name, of those that a task may hold."""
        if module.partition(".")[0] not in ("libero", "robosuite") and name not in _PLAIN.get(module, ()):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no simulated task holds")
        if "." in name:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)

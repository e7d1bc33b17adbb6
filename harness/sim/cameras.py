"""Frames of a MuJoCo model, pixel for pixel as robosuite renders them, from a GL context made when first needed."""

from __future__ import annotations

import atexit
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RenderError, UsageError
from harness.sim.culling import Culler
from harness.sim.engine import mujoco
from harness.sim.gl import INSTALL_HINT, apply_backend, choose_backend
from harness.sim.textures import Textures

_MAX_GEOMS = 1000
"""Scene size of robosuite's renderer: a larger one would draw geoms that robosuite drops."""
_COLLISION_GROUP, _VISUAL_GROUP, _UNSEEN_GROUP = 0, 1, 5


class Renderer:
    """Renders cameras of one model. Loads no GL library and makes no context before the first frame."""

    def __init__(self, model: Any, textures: Textures | None = None) -> None:
        """Bind to a `mujoco.MjModel`, whose `textures` are elsewhere; None: in the model."""
        self._model, self._textures = model, textures
        self._gl: Any = None
        self._context: Any = None
        self._size = 0

    @property
    def started(self) -> bool:
        """Whether a GL context exists."""
        return self._gl is not None

    def render(self, data: Any, camera: str, size: int) -> NDArray[np.uint8]:
        """Render one camera as robosuite returns it (first row at the bottom), shape (size, size, 3).

        Raises:
            UsageError: The model has no such camera.
            RenderError: No GL context can be made, or the frame is constant (black, most often).
        """
        camera_id = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if camera_id < 0:
            names = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise UsageError(f"There is no camera {camera!r}. Cameras of this scene: {', '.join(names)}.")
        self._require_context(size)
        self._gl.make_current()
        self._camera.fixedcamid = camera_id
        self._update_scene(data, camera_id)
        viewport = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_render(viewport, self._scene, self._context)
        frame = np.empty((size, size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(frame, None, viewport, self._context)
        require_picture(frame, f"camera {camera!r}")
        return frame

    def _update_scene(self, data: Any, camera_id: int) -> None:
        """Collect what is to be drawn, leaving out geoms that are out of view (see `harness.sim.culling`)."""
        groups = self._model.geom_group
        hidden = self._culler.hidden(data, camera_id)
        kept = groups[hidden]
        groups[hidden] = _UNSEEN_GROUP
        mujoco.mjv_updateScene(
            self._model, data, self._options, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        groups[hidden] = kept

    def close(self) -> None:
        """Free the GL context; the next frame would make another."""
        atexit.unregister(self.close)
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
        if self._gl is not None:
            self._gl.free()
            self._gl = None

    def _require_context(self, size: int) -> None:
        if self._gl is not None and size <= self._size:
            return
        self.close()
        visual = self._model.vis.global_
        visual.offwidth, visual.offheight = max(visual.offwidth, size), max(visual.offheight, size)
        self._size = min(visual.offwidth, visual.offheight)
        self._gl = make_context()
        # Registered after the GL library's own exit hook, so it runs before it: freeing later is an error.
        atexit.register(self.close)
        self._gl.make_current()
        try:
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150)
        except mujoco.FatalError as error:
            raise RenderError(f"MuJoCo cannot render with this GL context: {error}. {INSTALL_HINT}") from error
        if self._textures is not None:
            self._textures.upload(self._context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._make_scene()

    def _make_scene(self) -> None:
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MAX_GEOMS)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._options = mujoco.MjvOption()
        self._options.geomgroup[_COLLISION_GROUP] = 0
        self._options.geomgroup[_VISUAL_GROUP] = 1
        self._options.geomgroup[_UNSEEN_GROUP] = 0
        self._culler = Culler(self._model, tuple(np.flatnonzero(self._options.geomgroup)))


def make_context() -> Any:
    """Make a GL context by MUJOCO_GL ("egl" or "osmesa"); when it is unset, choose a backend first.

    Raises:
        RenderError: No context can be made.
    """
    if not os.environ.get("MUJOCO_GL"):
        apply_backend(choose_backend(env=os.environ))
    name = os.environ["MUJOCO_GL"].lower()
    if name not in ("egl", "osmesa"):
        raise RenderError(f"MUJOCO_GL is {name!r}; frames are rendered with 'egl' or 'osmesa'. Unset it to choose.")
    try:
        if name == "osmesa":
            from mujoco.osmesa import GLContext
        else:
            from mujoco.egl import GLContext
        return GLContext(640, 480)
    except Exception as error:  # PyOpenGL raises anything from AttributeError to GLError when a library is missing
        raise RenderError(f"No {name} context can be made: {type(error).__name__}: {error}. {INSTALL_HINT}") from error


def require_picture(frame: NDArray[np.uint8], what: str) -> None:
    """Check that a frame shows something.

    Raises:
        RenderError: Every value of it is the same.
    """
    if frame.min() == frame.max():
        raise RenderError(
            f"The frame of {what} is constant (every value is {int(frame.flat[0])}): the GL context is lost or broken. "
            "Run `harness doctor` on this node."
        )

"""Runs in a child process: lists EGL devices, or renders one frame, and prints one line of JSON.

A GL stack that does not work may hang, abort the process or leave a broken display behind, so nobody tries one in a
process that matters. `python -m harness.sim.gl_probe devices|frame`.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from harness.errors import HarnessError

_EGL_EXTENSIONS = 0x3055
_EGL_CUDA_DEVICE_NV = 0x323A
_MAX_DEVICES = 32
_FRAME = 64

SCENE = """
<mujoco>
  <visual><global offwidth="64" offheight="64"/></visual>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="eye" pos="0 -1 0.6" xyaxes="1 0 0 0 0.5 0.8"/>
    <geom group="1" type="plane" size="2 2 0.1" rgba="0.2 0.3 0.9 1"/>
    <geom group="1" type="box" size="0.1 0.1 0.1" pos="0 0 0.1" rgba="0.9 0.2 0.1 1"/>
  </worldbody>
</mujoco>
"""


def devices() -> list[dict[str, Any]]:
    """EGL devices by EGL's index: whether each is software, and its CUDA ordinal (None where it has none)."""
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    handles = (ctypes.c_void_p * _MAX_DEVICES)()
    count = ctypes.c_int()
    query = _function(egl, "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    string = _function(egl, "eglQueryDeviceStringEXT", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
    attribute = _function(egl, "eglQueryDeviceAttribEXT", ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    if not query(_MAX_DEVICES, ctypes.byref(handles), ctypes.byref(count)):
        raise OSError("eglQueryDevicesEXT failed")
    found = []
    for index in range(count.value):
        extensions = (string(handles[index], _EGL_EXTENSIONS) or b"").decode()
        ordinal = ctypes.c_ssize_t(-1)
        has_cuda = "EGL_NV_device_cuda" in extensions and attribute(
            handles[index], _EGL_CUDA_DEVICE_NV, ctypes.byref(ordinal)
        )
        software = "EGL_MESA_device_software" in extensions
        found.append({"index": index, "software": software, "cuda": ordinal.value if has_cuda else None})
    return found


def _function(egl: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    address = egl.eglGetProcAddress(name.encode())
    if not address:
        raise OSError(f"libEGL has no {name}")
    return ctypes.CFUNCTYPE(result, *arguments)(address)


def frame() -> dict[str, Any]:
    """Render a box on a plane; what the renderer calls itself, and the frame's smallest and largest value."""
    from harness.sim.cameras import Renderer
    from harness.sim.engine import mujoco

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model)
    picture = renderer.render(data, "eye", _FRAME)
    from OpenGL import GL

    name = GL.glGetString(GL.GL_RENDERER)
    renderer.close()
    return {"device": name.decode() if name else "unknown", "low": int(picture.min()), "high": int(picture.max())}


if __name__ == "__main__":
    try:
        print(json.dumps(devices() if sys.argv[1] == "devices" else frame()))
    except (OSError, HarnessError) as reason:
        sys.exit(str(reason))

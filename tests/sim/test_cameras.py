"""Frames: made only when asked for, checked before anyone sees them."""

from __future__ import annotations

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from harness.errors import RenderError, UsageError
from harness.sim.cameras import Renderer, require_picture
from harness.sim.gl_probe import SCENE

EPISODE = """
import sys
import numpy as np
from harness.sim import LiberoSim, SimConfig
sim = LiberoSim("libero_object", 0, config=SimConfig(cameras={cameras}, resolution=32, privileged=True))
sim.reset(0)
for _ in range(3):
    sim.step(np.zeros(7, np.float32), observe=True)
maps = open("/proc/self/maps").read()
known = ("libEGL", "libOSMesa", "libGL.so", "libGLX", "libOpenGL.so", "libgallium", "swrast_dri")
libraries = [name for name in known if name in maps]
modules = [name for name in ("OpenGL", "cv2", "glfw", "mujoco.egl", "torch") if name in sys.modules]
print(sorted(libraries) + sorted(modules))
sim.close()
"""


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE)


def test_an_episode_without_cameras_loads_no_gl_library_and_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EPISODE.format(cameras="()")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_the_same_episode_with_a_camera_does_load_one() -> None:
    code = EPISODE.format(cameras='("agentview",)')
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "OpenGL" in done.stdout
    assert "torch" not in done.stdout
    assert done.stderr == ""


def test_a_context_is_made_at_the_first_frame_and_freed_by_close(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model)
    assert not renderer.started
    first = renderer.render(data, "eye", 64)
    assert renderer.started
    renderer.close()
    assert not renderer.started
    np.testing.assert_array_equal(renderer.render(data, "eye", 64), first)
    renderer.close()


def test_a_frame_follows_the_scene(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model)
    before = renderer.render(data, "eye", 64)
    data.geom_xpos[1, 0] += 0.2
    assert (renderer.render(data, "eye", 64) != before).any()
    renderer.close()


def test_a_frame_in_an_episode_that_shows_nothing_is_an_error(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    model.geom_group[:] = 0  # robosuite renders group 1 alone: now nothing is left to see
    renderer = Renderer(model)
    with pytest.raises(RenderError, match=r"camera 'eye' is constant \(every value is 0\).*harness doctor"):
        renderer.render(data, "eye", 64)
    renderer.close()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_frames_are_refused_whatever_their_value(value: int) -> None:
    with pytest.raises(RenderError, match=f"every value is {value}"):
        require_picture(np.full((8, 8, 3), value, np.uint8), "camera 'x'")


def test_one_pixel_of_difference_makes_a_picture() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[3, 3, 1] = 1
    require_picture(frame, "camera 'x'")


def test_an_unknown_camera_is_refused_before_a_context_is_made(model: mujoco.MjModel) -> None:
    renderer = Renderer(model)
    with pytest.raises(UsageError, match=r"no camera 'ear'\. Cameras of this scene: eye"):
        renderer.render(mujoco.MjData(model), "ear", 8)
    assert not renderer.started


def test_another_gl_than_egl_or_osmesa_is_refused(model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(RenderError, match="MUJOCO_GL is 'glfw'"):
        Renderer(model).render(mujoco.MjData(model), "eye", 8)

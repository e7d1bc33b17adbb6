"""A GL backend is chosen by a frame, not by hope."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness.errors import RenderError, UsageError
from harness.sim.gl import RENDERERS, choose_backend, run_probe

GPU_A = {"index": 1, "software": False, "cuda": 0}
GPU_B = {"index": 0, "software": False, "cuda": 1}
SOFTWARE = {"index": 2, "software": True, "cuda": None}


def node(devices: list[dict[str, Any]], broken: Callable[[Mapping[str, str]], str | None] = lambda env: None) -> Any:
    """A node with these EGL devices, where `broken` says why an environment renders nothing."""
    tried: list[Mapping[str, str]] = []

    def child(what: str, env: Mapping[str, str]) -> Any:
        if what == "devices":
            if not devices:
                raise RenderError("libEGL.so.1: cannot open shared object file")
            return devices
        tried.append(env)
        if reason := broken(env):
            raise RenderError(reason)
        return {"device": "test", "low": 0, "high": 255}

    child.tried = tried  # type: ignore[attr-defined]
    return child


def test_this_machine_has_a_backend_that_renders() -> None:
    backend = choose_backend(env=os.environ)
    assert backend.renderer in RENDERERS
    assert backend.device != "unknown"
    assert run_probe("frame", {**os.environ, **backend.env})["high"] > 0


def test_a_gpu_comes_before_software_and_egl_before_osmesa() -> None:
    assert choose_backend(env={}, child=node([SOFTWARE, GPU_A])).renderer == "egl-gpu"
    assert choose_backend(env={}, child=node([SOFTWARE])).renderer == "egl-software"
    assert choose_backend(env={}, child=node([])).renderer == "osmesa"


@pytest.mark.parametrize(("visible", "device"), [("0", "1"), ("1", "0"), ("1,0", "0"), ("0,1", "1"), ("", "1")])
def test_a_workers_gpu_is_found_by_cuda_ordinal_not_by_egl_index(visible: str, device: str) -> None:
    env = {"CUDA_VISIBLE_DEVICES": visible}
    assert choose_backend(env=env, child=node([GPU_A, GPU_B, SOFTWARE])).env["MUJOCO_EGL_DEVICE_ID"] == device


@pytest.mark.parametrize("visible", ["GPU-1c2d0a51-aaaa", "MIG-GPU-5/1/0", "-1"])
def test_uuids_mig_and_no_device_do_not_crash_the_choice(visible: str) -> None:
    assert choose_backend(env={"CUDA_VISIBLE_DEVICES": visible}, child=node([GPU_A])).renderer == "egl-gpu"


def test_a_gpu_that_renders_black_is_passed_over() -> None:
    def broken(env: Mapping[str, str]) -> str | None:
        return "the frame is constant" if env.get("MUJOCO_EGL_DEVICE_ID") == "1" else None

    backend = choose_backend(env={}, child=node([GPU_A, SOFTWARE], broken))
    assert backend.renderer == "egl-software"
    assert backend.env == {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "MUJOCO_EGL_DEVICE_ID": "2"}


def test_every_gpu_that_may_be_used_and_renders_alike_is_offered() -> None:
    third = {"index": 3, "software": False, "cuda": 2}
    devices = [GPU_A, GPU_B, SOFTWARE, third]

    def offered(visible: str, broken: Callable[[Mapping[str, str]], str | None] = lambda env: None) -> tuple[int, ...]:
        return choose_backend(env={"CUDA_VISIBLE_DEVICES": visible}, child=node(devices, broken)).devices

    assert offered("") == (1, 0, 3)
    assert offered("2,1") == (3, 0)
    assert offered("", lambda env: "black" if env.get("MUJOCO_EGL_DEVICE_ID") == "0" else None) == (1, 3)
    assert choose_backend(env={"MUJOCO_EGL_DEVICE_ID": "0"}, child=node(devices)).devices == (0,)
    assert choose_backend(env={}, child=node([SOFTWARE])).devices == ()
    backend = choose_backend(env={}, child=node(devices))
    assert backend.env_on(3) == {**backend.env, "MUJOCO_EGL_DEVICE_ID": "3"}
    assert backend.env_on(None) == backend.env


def test_when_none_renders_every_reason_and_the_remedy_are_given() -> None:
    with pytest.raises(RenderError) as caught:
        choose_backend(env={}, child=node([GPU_A], lambda env: f"{env['MUJOCO_GL']} is broken"))
    message = str(caught.value)
    assert "egl-gpu (EGL device 1): egl is broken" in message
    assert "osmesa: osmesa is broken" in message
    assert "apt-get install -y libegl1 libgl1-mesa-dri libosmesa6" in message


def test_a_preference_or_the_environment_narrows_the_choice() -> None:
    devices = [GPU_A, SOFTWARE]
    assert choose_backend("osmesa", env={}, child=node(devices)).renderer == "osmesa"
    assert choose_backend("egl-software", env={}, child=node(devices)).renderer == "egl-software"
    assert choose_backend(env={"MUJOCO_GL": "osmesa"}, child=node(devices)).renderer == "osmesa"
    assert choose_backend(env={"MUJOCO_EGL_DEVICE_ID": "2"}, child=node(devices)).renderer == "egl-software"
    with pytest.raises(RenderError, match="lists no such device"):
        choose_backend("egl-gpu", env={}, child=node([SOFTWARE]))


def test_candidates_do_not_inherit_another_backends_settings() -> None:
    child = node([], lambda env: None)
    env = {"MUJOCO_EGL_DEVICE_ID": "5", "PYOPENGL_PLATFORM": "egl", "MUJOCO_GL": "", "PATH": "/bin"}
    choose_backend(env=env, child=child)
    assert child.tried == [{"PATH": "/bin", "MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"}]


def test_an_unknown_preference_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'egl-gpus'\. Did you mean 'egl-gpu'"):
        choose_backend("egl-gpus", env={})


def test_a_device_number_that_does_not_exist_fails_in_the_child_with_its_reason() -> None:
    env = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "MUJOCO_EGL_DEVICE_ID": "77"}
    with pytest.raises(RenderError, match="MUJOCO_EGL_DEVICE_ID"):
        run_probe("frame", env)


def test_the_probe_runs_in_a_process_of_its_own() -> None:
    before = set(sys.modules)
    run_probe("devices", os.environ)
    assert "OpenGL" in before or "OpenGL" not in sys.modules

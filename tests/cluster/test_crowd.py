"""Eight renderers at once: the canary of concurrent EGL, which has hung in MuJoCo (google-deepmind/mujoco#3444)."""

from __future__ import annotations

import itertools
import os

import pytest

from harness.cluster.canaries import RENDERERS, crowd
from harness.errors import RenderError
from harness.sim import gl
from harness.worlds.base import GLBackend

pytest.importorskip("mujoco", reason="the extra `sim` is not installed")


@pytest.mark.slow
def test_eight_processes_that_render_at_once_all_answer() -> None:
    try:
        backend = gl.choose_backend("egl", env=os.environ)
    except RenderError as error:
        pytest.skip(str(error))
    answer = crowd(backend)
    assert (answer.error, answer.subject) == (None, "8 renderers at once")


def test_one_that_hangs_is_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = itertools.count()

    def probe(what: str, variables: dict[str, str]) -> object:
        if next(turn) == 3:
            raise RenderError("no answer within 60 s")
        return {"device": variables["MUJOCO_EGL_DEVICE_ID"]}

    monkeypatch.setattr(gl, "run_probe", probe)
    answer = crowd(GLBackend("egl", "egl-software", "llvmpipe", {"MUJOCO_EGL_DEVICE_ID": "0"}))
    assert answer.error == "1 of 8 failed: no answer within 60 s"
    assert next(turn) == RENDERERS

"""Leaving out what a camera cannot see changes no pixel, in mirrors neither."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.sim.cameras import Renderer
from harness.sim.culling import Culler

NOTHING = np.empty(0, dtype=np.intp)


def scene(seed: int, mirror: str, light: str = 'castshadow="false"') -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Sixty coloured shapes around a camera that looks anywhere, and a mirror."""
    rng = np.random.default_rng(seed)
    shapes = "".join(
        f'<geom group="1" type="{rng.choice(["box", "sphere", "ellipsoid", "capsule"])}"'
        f' size="{" ".join(map(str, rng.uniform(0.05, 0.5, 3)))}" pos="{" ".join(map(str, rng.uniform(-3, 3, 3)))}"'
        f' euler="{" ".join(map(str, rng.uniform(-90, 90, 3)))}"'
        f' rgba="{" ".join(map(str, rng.uniform(0.2, 1, 3)))} {rng.choice([1, 0.4])}"/>'
        for _ in range(60)
    )
    looks = "".join(
        f'<camera name="eye{i}" pos="{" ".join(map(str, rng.uniform(-1, 1, 3)))}"'
        f' euler="{" ".join(map(str, rng.uniform(-180, 180, 3)))}" fovy="{rng.uniform(30, 75)}"/>'
        for i in range(8)
    )
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><visual><global offwidth='96' offheight='96'/></visual>"
        "<asset><texture type='skybox' builtin='gradient' rgb1='0 0 1' rgb2='1 1 0' width='64' height='64'/>"
        "<material name='mirror' rgba='0.6 0.6 0.7 1' reflectance='0.7'/></asset>"
        f"<worldbody><light pos='0 0 4' {light}/>{mirror}{shapes}{looks}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


BOX = "<geom group='1' material='mirror' type='box' size='1.5 1.5 0.05' pos='0 0.5 -1' euler='20 15 0'/>"
FLOOR = "<geom group='1' material='mirror' type='plane' size='5 5 0.1' pos='0 0 -1.2'/>"


def frames(model: mujoco.MjModel, data: mujoco.MjData) -> list[NDArray[np.uint8]]:
    renderer = Renderer(model)
    taken = [renderer.render(data, f"eye{i}", 96) for i in range(8)]
    renderer.close()
    return taken


@pytest.mark.parametrize("mirror", [BOX, FLOOR, ""], ids=["box mirror", "floor mirror", "no mirror"])
@pytest.mark.parametrize("seed", range(4))
def test_frames_are_the_same_as_of_the_whole_scene(seed: int, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = scene(seed, mirror)
    culled = frames(model, data)
    hidden = [len(Culler(model, (0, 1, 2)).hidden(data, camera)) for camera in range(8)]
    groups = model.geom_group.copy()
    monkeypatch.setattr(Culler, "hidden", lambda self, data, camera_id: NOTHING)
    for one, whole in zip(culled, frames(model, data), strict=True):
        np.testing.assert_array_equal(one, whole)
    assert max(hidden) > 20
    np.testing.assert_array_equal(model.geom_group, groups)


def test_what_only_a_mirror_shows_is_drawn() -> None:
    shown = [scene(seed, BOX) for seed in range(4)]
    counts = []
    for model, data in shown:
        with_mirror = Culler(model, (1,))
        without = Culler(model, (1,))
        without._mirrors = without._mirrors[:0]
        counts += [
            len(without.hidden(data, camera)) - len(with_mirror.hidden(data, camera)) for camera in range(model.ncam)
        ]
    assert min(counts) >= 0
    assert max(counts) > 0


def test_nothing_is_left_out_where_a_light_casts_shadows() -> None:
    model, data = scene(0, "", light='castshadow="true"')
    assert all(len(Culler(model, (1,)).hidden(data, camera)) == 0 for camera in range(8))

"""Which geoms a camera cannot see: drawing them costs vertices and changes no pixel.

MuJoCo draws every geom of a scene, in view or not. In software that is most of a frame: a LIBERO scene has 300,000
faces, of which the wrist camera sees less than half. And it draws the scene once more for every reflective box or
plane, in view or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.sim.engine import mujoco

_MARGIN = 1.02
"""Bounding spheres are enlarged by this, against single precision in the renderer and smoothing at edges."""
_MIRRORS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX)
"""Shapes on which MuJoCo draws reflections: planes, and of boxes the face towards their +z axis."""

Points = NDArray[np.float64]


class Culler:
    """Finds the geoms of a model that are out of a camera's view."""

    def __init__(self, model: Any, groups: tuple[int, ...]) -> None:
        """Read what is constant of a `mujoco.MjModel`, of which geom groups `groups` are drawn."""
        drawn = np.isin(model.geom_group, groups)
        # Index -1 (no material) reads the last row, which the condition then discards.
        reflects = (model.geom_matid >= 0) & (np.append(model.mat_reflectance, 0.0)[model.geom_matid] > 0)
        self._mirrors = np.flatnonzero(drawn & reflects & np.isin(model.geom_type, _MIRRORS))
        self._rise = np.where(model.geom_type == mujoco.mjtGeom.mjGEOM_BOX, model.geom_size[:, 2], 0.0)
        # Planes have no bounding sphere (radius 0) and are never out of view.
        self._radius = np.where(model.geom_rbound > 0, model.geom_rbound * _MARGIN, np.inf)
        # Shadows fall into view from anywhere (no light of LIBERO casts one); other projections have other frustums.
        odd = (model.light_castshadow, model.cam_orthographic, model.cam_sensorsize)
        self._possible = not any(feature.any() for feature in odd)
        self._half_angle = np.deg2rad(model.cam_fovy) / 2

    def hidden(self, data: Any, camera_id: int) -> NDArray[np.intp]:
        """Indices of the geoms that no pixel of a square frame shows, directly or in a mirror."""
        if not self._possible:
            return np.empty(0, dtype=np.intp)
        hidden = self._outside(data, camera_id, data.geom_xpos)
        for mirror in self._mirrors[~hidden[self._mirrors]]:
            normal = data.geom_xmat[mirror].reshape(3, 3)[:, 2]
            height = (data.geom_xpos - data.geom_xpos[mirror]) @ normal - self._rise[mirror]
            hidden &= self._outside(data, camera_id, data.geom_xpos - 2 * height[:, None] * normal)
        return np.flatnonzero(hidden)

    def _outside(self, data: Any, camera_id: int, centers: Points) -> NDArray[np.bool_]:
        """Whether the bounding spheres around `centers` are wholly outside the camera's pyramid, shape (ngeom,)."""
        right_up_back = (centers - data.cam_xpos[camera_id]) @ data.cam_xmat[camera_id].reshape(3, 3)
        depth = -right_up_back[:, 2]
        cosine, sine = np.cos(self._half_angle[camera_id]), np.sin(self._half_angle[camera_id])
        beyond_sides = np.abs(right_up_back[:, :2]).max(axis=1) * cosine - depth * sine
        outside: NDArray[np.bool_] = (beyond_sides > self._radius) | (depth < -self._radius)
        return outside

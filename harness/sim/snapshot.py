"""The state of a freshly reset environment, to start every episode from without rebuilding anything.

robosuite's own cheap reset (`hard_reset=False`) leaks the last episode into the next through the controller, the gripper
and the solver's warm start. A snapshot taken right after a hard reset holds all of it.
"""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

_CONTROLLER_FIELDS = (
    "ee_pos",
    "ee_ori_mat",
    "ee_pos_vel",
    "ee_ori_vel",
    "joint_pos",
    "joint_vel",
    "J_pos",
    "J_ori",
    "J_full",
    "mass_matrix",
    "goal_pos",
    "goal_ori",
    "new_update",
)
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class Snapshot:
    """Everything that an episode changes, as it was when the snapshot was taken."""

    def __init__(self, env: Any) -> None:
        """Take a snapshot of a robosuite environment right after its hard reset."""
        self._env = env
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, self._state, _STATE)
        self._site_rgba = self._model.site_rgba.copy()
        controller = env.robots[0].controller
        # deepcopy keeps memory layouts (column-major Jacobians), which decide how BLAS rounds.
        self._controller = {name: copy.deepcopy(getattr(controller, name)) for name in _CONTROLLER_FIELDS}
        self._use_delta = controller.use_delta
        self._gripper = copy.deepcopy(env.robots[0].gripper.current_action)
        self._visible = {
            name: copy.deepcopy(dict(item.object_properties["vis_site_names"])) for name, item in _visual_objects(env)
        }

    def restore(self) -> None:
        """Put the environment back; derived quantities (poses, contacts) follow at the next forward."""
        mujoco.mj_setState(self._model, self._data, self._state, _STATE)
        self._model.site_rgba[:] = self._site_rgba
        controller = self._env.robots[0].controller
        for name, value in self._controller.items():
            setattr(controller, name, copy.deepcopy(value))
        controller.use_delta = self._use_delta
        self._env.robots[0].gripper.current_action = copy.deepcopy(self._gripper)
        for name, item in _visual_objects(self._env):
            item.object_properties["vis_site_names"].update(copy.deepcopy(self._visible[name]))


def _visual_objects(env: Any) -> list[tuple[str, Any]]:
    """Objects whose looks follow their state (a stove's burner glows), by name."""
    items = {**env.fixtures_dict, **env.objects_dict}
    return [(name, item) for name, item in items.items() if item.object_properties["vis_site_names"]]

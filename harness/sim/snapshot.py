"""The physical state of a freshly reset environment, to start every episode from without rebuilding anything.

robosuite's own cheap reset (`hard_reset=False`) leaks the last episode into the next: through the solver's warm start
and the looks of objects, which a snapshot holds, and through controller and gripper, which `OscStepper.restart` puts
back.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from harness.sim.engine import mujoco

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class Snapshot:
    """What an episode changes in MuJoCo's data, in the model and in LIBERO's objects, as it was after a hard reset."""

    def __init__(self, env: Any) -> None:
        """Take a snapshot of a LIBERO environment right after its hard reset."""
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        mujoco.mj_getState(self._model, self._data, self._state, _STATE)
        self._site_rgba = self._model.site_rgba.copy()
        items = (*env.fixtures_dict.values(), *env.objects_dict.values())
        self._looks = [(item, copy.deepcopy(dict(item.object_properties["vis_site_names"]))) for item in items]

    def restore(self) -> None:
        """Put the environment back; derived quantities (poses, contacts) follow at the next forward."""
        mujoco.mj_setState(self._model, self._data, self._state, _STATE)
        self._model.site_rgba[:] = self._site_rgba
        for item, visible in self._looks:
            item.object_properties["vis_site_names"].update(visible)

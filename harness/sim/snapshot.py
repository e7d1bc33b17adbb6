"""The physical state of a freshly reset environment, to start every episode from without rebuilding anything.

robosuite's own cheap reset (`hard_reset=False`) leaks the last episode into the next: through the solver's warm start
and the looks of objects, which a snapshot holds, and through controller and gripper, which `OscStepper.restart` puts
back.
"""

from __future__ import annotations

import copy
from typing import Any

from harness.sim.built import integration_state, set_integration_state


class Snapshot:
    """What an episode changes in MuJoCo's data, in the model and in LIBERO's objects, as it was at one moment."""

    def __init__(self, env: Any) -> None:
        """Take a snapshot of a LIBERO environment that was reset and has not stepped since."""
        self._env, self._model = env, env.sim.model._model
        self._state = integration_state(env)
        self._site_rgba = self._model.site_rgba.copy()
        self._body_pos, self._body_quat = self._model.body_pos.copy(), self._model.body_quat.copy()
        items = (*env.fixtures_dict.values(), *env.objects_dict.values())
        self._looks = [(item, copy.deepcopy(dict(item.object_properties["vis_site_names"]))) for item in items]

    def restore(self) -> None:
        """Put the environment back; derived quantities (poses, contacts) follow at the next forward."""
        set_integration_state(self._env, self._state)
        self._model.site_rgba[:] = self._site_rgba
        self._model.body_pos[:], self._model.body_quat[:] = self._body_pos, self._body_quat
        for item, visible in self._looks:
            item.object_properties["vis_site_names"].update(visible)

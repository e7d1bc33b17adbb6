"""One control step of robosuite 1.4's OSC_POSE arm, to the bit, at a third of its cost.

robosuite runs every physics substep as `mj_forward`, `mj_forward` again (inside the controller's update), torques, and
`mj_step`, which is a third forward. The three see the same state, so their position and velocity stages (kinematics,
collisions, constraint Jacobians) are equal; what is not is the warm start of the constraint solver, which MuJoCo updates
at every forward. So this module runs the position and velocity stage once (`mj_step1`), repeats the solver alone as
often as robosuite does, and ends with `mj_step2`. Dropping those repeats changes bits.

The arithmetic of the torques follows `robosuite/controllers/osc.py` and `base_controller.py` operation by operation, in
the same memory layouts, because BLAS rounds differently for another layout.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error

Array = NDArray[np.float64]


class OscStepper:
    """Advances the physics of an environment under OSC_POSE, substep by substep."""

    def __init__(self, env: Any) -> None:
        """Bind to a robosuite environment right after its reset.

        Args:
            env: A robosuite environment with one arm under OSC_POSE, fixed impedance, no interpolator, and a
                two-finger gripper.
        """
        robot = env.robots[0]
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._controller, self._gripper = robot.controller, robot.gripper
        self._site = env.sim.model.site_name2id(self._controller.eef_name)
        self._qpos, self._qvel = np.array(self._controller.qpos_index), np.array(self._controller.qvel_index)
        self._arm = np.array(robot._ref_joint_actuator_indexes)
        self._low, self._high = robot.torque_limits
        self._fingers = [env.sim.model.actuator_name2id(name) for name in self._gripper.actuators]
        limits = self._model.actuator_ctrlrange[self._fingers]
        self._finger_bias = 0.5 * (limits[:, 1] + limits[:, 0])
        self._finger_weight = 0.5 * (limits[:, 1] - limits[:, 0])
        nv = self._model.nv
        self._jacp, self._jacr, self._mass = np.zeros((3, nv)), np.zeros((3, nv)), np.zeros((nv, nv))

    def step(self, action: Array, substeps: int, first: bool) -> None:
        """Run `substeps` physics substeps under an action.

        Args:
            action: Shape (7,).
            substeps: Number of physics substeps.
            first: Whether the first of them begins a control step, which sets the controller's goal.
        """
        for index in range(substeps):
            self._substep(action, first and index == 0)

    def _substep(self, action: Array, begins: bool) -> None:
        model, data, controller = self._model, self._data, self._controller
        mujoco.mj_step1(model, data)
        mujoco.mj_fwdActuation(model, data)
        mujoco.mj_fwdAcceleration(model, data)
        mujoco.mj_fwdConstraint(model, data)
        # Right after a reset the controller still holds the pose it was built in, and robosuite uses it once.
        if controller.new_update:
            mujoco.mj_fwdConstraint(model, data)
            self._update()
        if begins:
            controller.set_goal(action[:6])
        data.ctrl[self._arm] = np.clip(self._torques(), self._low, self._high)
        grip = self._gripper.format_action(action[6:])
        data.ctrl[self._fingers] = self._finger_bias + self._finger_weight * grip
        mujoco.mj_step2(model, data)

    def _update(self) -> None:
        model, data, controller = self._model, self._data, self._controller
        controller.ee_pos = np.array(data.site_xpos[self._site])
        controller.ee_ori_mat = np.array(data.site_xmat[self._site].reshape([3, 3]))
        mujoco.mj_jacSite(model, data, self._jacp, self._jacr, self._site)
        controller.ee_pos_vel = np.dot(self._jacp, data.qvel)
        controller.ee_ori_vel = np.dot(self._jacr, data.qvel)
        controller.joint_pos, controller.joint_vel = data.qpos[self._qpos], data.qvel[self._qvel]
        controller.J_pos, controller.J_ori = self._jacp[:, self._qvel], self._jacr[:, self._qvel]
        controller.J_full = np.vstack([controller.J_pos, controller.J_ori])
        mujoco.mj_fullM(model, self._mass, data.qM)
        controller.mass_matrix = self._mass[self._qvel, :][:, self._qvel]
        controller.new_update = False

    def _torques(self) -> Array:
        c = self._controller
        error = orientation_error(c.goal_ori, c.ee_ori_mat)
        force = np.multiply(c.goal_pos - c.ee_pos, c.kp[0:3]) + np.multiply(-c.ee_pos_vel, c.kd[0:3])
        torque = np.multiply(error, c.kp[3:6]) + np.multiply(-c.ee_ori_vel, c.kd[3:6])
        _, lambda_pos, lambda_ori, nullspace = opspace_matrices(c.mass_matrix, c.J_full, c.J_pos, c.J_ori)
        wrench = np.concatenate([np.dot(lambda_pos, force), np.dot(lambda_ori, torque)])
        torques: Array = np.dot(c.J_full.T, wrench) + self._data.qfrc_bias[self._qvel]
        torques += nullspace_torques(c.mass_matrix, nullspace, c.initial_joint, c.joint_pos, c.joint_vel)
        c.new_update = True
        return torques

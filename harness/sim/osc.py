"""One control step of robosuite 1.4's OSC_POSE arm, to the bit, at a fraction of its cost.

robosuite runs every physics substep as `mj_forward`, `mj_forward` again (inside the controller's update), torques, and
`mj_step`, which is a third forward. The three see the same state, so their position and velocity stages (kinematics,
collisions, constraint Jacobians) are equal; what is not is the warm start of the constraint solver, which MuJoCo
updates at every forward. So a substep here is the position and velocity stage once (`mj_step1`), the solver alone as
often as robosuite runs it, and `mj_step2`. Leaving out those repeats would change bits.

The torques follow `robosuite/controllers/osc.py` and `base_controller.py` operation by operation: what robosuite
compiles with numba is compiled with numba, what it gives to numpy's BLAS is given to numpy's BLAS, in the same memory
layouts, because another library or layout rounds differently.
"""

from __future__ import annotations

import copy
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error

from harness.sim.engine import mujoco

Array = NDArray[np.float64]

_ARM = ("mass_matrix", "J_full", "J_pos", "J_ori")
_MOTION = ("joint_pos", "joint_vel", "initial_joint", "ee_pos", "ee_ori_mat", "ee_pos_vel", "ee_ori_vel")
_GOAL = ("goal_pos", "goal_ori")
_BUILT = (*_ARM, *_MOTION, *_GOAL, "new_update", "use_delta")
"""What robosuite's controller holds when it is built, and an episode changes."""


class OscStepper:
    """Advances the physics of an environment under OSC_POSE, substep by substep."""

    def __init__(self, env: Any) -> None:
        """Bind to a robosuite environment right after its hard reset.

        Args:
            env: A robosuite environment with one arm under OSC_POSE (fixed impedance, no interpolator) and a gripper of
                one degree of freedom with two opposed fingers.
        """
        robot = env.robots[0]
        model, data = env.sim.model._model, env.sim.data._data
        self._model, self._data = model, data
        self._controller, self._gripper = robot.controller, robot.gripper
        self._site = env.sim.model.site_name2id(robot.controller.eef_name)
        self._qpos_index, self._dofs = np.array(robot.controller.qpos_index), np.array(robot.controller.qvel_index)
        self._arm = np.array(robot._ref_joint_actuator_indexes)
        self._low, self._high = (np.array(limit) for limit in robot.torque_limits)
        self._fingers = [int(env.sim.model.actuator_name2id(name)) for name in self._gripper.actuators]
        limits = model.actuator_ctrlrange[self._fingers]
        self._bias, self._weight = 0.5 * (limits[:, 1] + limits[:, 0]), 0.5 * (limits[:, 1] - limits[:, 0])
        # Views into MuJoCo's memory: fetching them by attribute costs more than the arithmetic on them.
        self._qpos, self._qvel, self._ctrl, self._bias_force = data.qpos, data.qvel, data.ctrl, data.qfrc_bias
        self._ee_pos, self._ee_ori = data.site_xpos[self._site], data.site_xmat[self._site].reshape(3, 3)
        self._inertia = data.qM
        self._jacp, self._jacr = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))
        # copy.deepcopy keeps memory layouts (column-major Jacobians); robosuite's controller starts an episode with the
        # pose it was built in, and uses it for the first substep.
        self._built = {name: copy.deepcopy(getattr(robot.controller, name)) for name in _BUILT}
        self._built_fingers = np.broadcast_to(self._gripper.current_action, 2).tolist()
        self.restart()
        self._compile()

    def restart(self) -> None:
        """Begin an episode: forget the last one's goal and finger targets."""
        for name, value in self._built.items():
            setattr(self._controller, name, copy.deepcopy(value))
        self._left, self._right = self._built_fingers
        self._as_built = True

    def _compile(self) -> None:
        """Have numba compile (or load) both functions now: neither call touches the physics."""
        self._torques_as_built(None)
        self._torques(None)

    def begin(self, action: NDArray[Any]) -> None:
        """Begin a control step: one substep that also sets the controller's goal. `action` has shape (7,)."""
        self._grip = float(np.sign(action[6])) * self._gripper.speed
        self._substep(action)

    def go_on(self, substeps: int) -> None:
        """Run further substeps of the control step that `begin` began."""
        for _ in range(substeps):
            self._substep(None)

    def _substep(self, action: NDArray[Any] | None) -> None:
        model, data = self._model, self._data
        mujoco.mj_step1(model, data)
        mujoco.mj_fwdActuation(model, data)
        mujoco.mj_fwdAcceleration(model, data)
        mujoco.mj_fwdConstraint(model, data)
        if self._as_built:
            torques = self._torques_as_built(action)
            self._as_built = False
        else:
            mujoco.mj_fwdConstraint(model, data)
            torques = self._torques(action)
        np.maximum(torques, self._low, out=torques)
        np.minimum(torques, self._high, out=torques)
        self._ctrl[self._arm] = torques
        self._move_fingers()
        mujoco.mj_step2(model, data)

    def _move_fingers(self) -> None:
        """`PandaGripper.format_action` and `Manipulator.grip_action`: the fingers' targets drift apart or together."""
        self._left = min(max(self._left - self._grip, -1.0), 1.0)
        self._right = min(max(self._right + self._grip, -1.0), 1.0)
        self._ctrl[self._fingers[0]] = self._bias[0] + self._weight[0] * self._left
        self._ctrl[self._fingers[1]] = self._bias[1] + self._weight[1] * self._right

    def _torques(self, action: NDArray[Any] | None) -> Array:
        controller = self._controller
        mujoco.mj_jacSite(self._model, self._data, self._jacp, self._jacr, self._site)
        mujoco.mj_fullM(self._model, self._mass, self._inertia)
        if action is not None:
            controller.ee_pos, controller.ee_ori_mat = np.array(self._ee_pos), np.array(self._ee_ori)
            controller.set_goal(action[:6])
        motion = (
            self._qpos[self._qpos_index],
            self._qvel[self._dofs],
            controller.initial_joint,
            self._ee_pos,
            self._ee_ori,
            np.dot(self._jacp, self._qvel),
            np.dot(self._jacr, self._qvel),
        )
        goal = (controller.goal_pos, controller.goal_ori, controller.kp, controller.kd)
        return self._combine(_live_terms(self._mass, self._jacp, self._jacr, self._dofs, motion, *goal))

    def _torques_as_built(self, action: NDArray[Any] | None) -> Array:
        c = self._controller
        if action is not None:
            c.set_goal(action[:6])
        arm, motion, goal = (tuple(getattr(c, name) for name in names) for names in (_ARM, _MOTION, _GOAL))
        return self._combine(_terms(*arm, motion, *goal, c.kp, c.kd))  # type: ignore[call-arg]

    def _combine(self, terms: tuple[Array, ...]) -> Array:
        force, torque, lambda_pos, lambda_ori, jacobian, null = terms
        wrench = np.empty(6)
        wrench[:3] = np.dot(lambda_pos, force)
        wrench[3:] = np.dot(lambda_ori, torque)
        torques: Array = np.dot(jacobian.T, wrench)
        torques += self._bias_force[self._dofs]
        torques += null
        return torques


@numba.njit(cache=True)
def _terms(mass, j_full, j_pos, j_ori, motion, goal_pos, goal_ori, kp, kd):  # type: ignore[no-untyped-def]
    """The part of `OperationalSpaceController.run_controller` between its update and its BLAS products."""
    joint_pos, joint_vel, initial_joint, pos, ori, vel_pos, vel_ori = motion
    error = orientation_error(goal_ori, ori)
    force = (goal_pos - pos) * kp[0:3] + -vel_pos * kd[0:3]
    torque = error * kp[3:6] + -vel_ori * kd[3:6]
    _, lambda_pos, lambda_ori, nullspace = opspace_matrices(mass, j_full, j_pos, j_ori)
    null = nullspace_torques(mass, nullspace, initial_joint, joint_pos, joint_vel)
    return force, torque, lambda_pos, lambda_ori, j_full, null


@numba.njit(cache=True)
def _live_terms(mass, jacp, jacr, dofs, motion, goal_pos, goal_ori, kp, kd):  # type: ignore[no-untyped-def]
    """`Controller.update`'s gathering of the arm's rows, column-major as numpy's indexing leaves them, and `_terms`."""
    n = len(dofs)
    arm_mass = np.empty((n, n)).T
    j_pos, j_ori, j_full = np.empty((n, 3)).T, np.empty((n, 3)).T, np.empty((n, 6)).T
    for j in range(n):
        for i in range(n):
            arm_mass[i, j] = mass[dofs[i], dofs[j]]
        for i in range(3):
            j_pos[i, j] = j_full[i, j] = jacp[i, dofs[j]]
            j_ori[i, j] = j_full[i + 3, j] = jacr[i, dofs[j]]
    return _terms(arm_mass, j_full, j_pos, j_ori, motion, goal_pos, goal_ori, kp, kd)

"""One episode under the protocol's clock, in virtual time: nothing sleeps."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

from harness.clocks import IN_NO_TIME, Move, Timing, delay_steps
from harness.errors import SimulatorError
from harness.rollout.actions import CheckedChunk, check_actions
from harness.rollout.decide import Decider
from harness.rollout.faults import EpisodeTimeout, PolicyTimeout, explain_fault
from harness.schedule.keys import decision_noise
from harness.schedule.result import DecisionLog, EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.sim.base import SimTimings, Simulator, credit_of
from harness.spec.observation import ACTION_DIM, ControlMode, Observation, PolicyInfo, PreviousChunk
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource

GRIPPER_OPEN = -1.0
"""What LIBERO's settling steps tell the gripper."""


class ActionRecorder(TypingProtocol):
    """Is told every action that is executed."""

    def append(self, action: NDArray[np.float32], /) -> None:
        """Take one action, shape (7,), in [-1, 1]."""
        ...


def run_episode(
    sim: Simulator,
    decider: Decider,
    unit: EpisodeUnit,
    protocol: Protocol,
    info: PolicyInfo,
    *,
    clock: TimeSource,
    limits: Limits,
    attempt: int = 1,
    recorder: ActionRecorder | None = None,
    timing: Timing = IN_NO_TIME,
) -> EpisodeResult:
    """Reset, decide, execute what the clock says, until success or the last step. Never raises an `Exception`.

    Args:
        sim: Simulator of the unit's task.
        decider: Asks the policy, in this process or over a server.
        unit: Policy, NFE, task, init state and trial of the episode.
        protocol: Steps, settle steps, replan interval and control mode.
        info: What the policy may see and how it decides.
        clock: Time of day and stopwatch of the episode's columns.
        limits: Wall-clock limits. The one per episode is looked at between control steps.
        attempt: Which attempt this is, from 1.
        recorder: Gets every executed action, from which the episode can be played again.
        timing: The protocol's clock, and what decisions take under it.

    Returns:
        The result; everything that went wrong is an outcome "error" with type and message.
    """
    course = _Course(sim, decider, unit, protocol, info, clock, limits, recorder, timing)
    started_at, began = clock.now(), clock.seconds()
    try:
        outcome, fault = course.run(), None
    except Exception as error:
        outcome, fault = "error", explain_fault(error)
    finally:
        decider.end_episode(unit.episode_key)
    timings = course.timings
    credit = credit_of(sim) if fault is None else None
    return EpisodeResult(
        unit=unit,
        outcome=outcome,
        started_at=started_at,
        attempt=attempt,
        steps=course.steps,
        clipped=course.clipped,
        sim_s=course.steps / protocol.control_hz,
        wall_s=clock.seconds() - began,
        reset_s=timings.reset_s,
        physics_s=timings.physics_s,
        render_s=timings.render_s,
        policy_wait_s=course.policy_wait_s,
        goals=credit.goals if credit else None,
        goals_held_end=credit.held_now if credit else None,
        goals_held_best=credit.held_best if credit else None,
        stage=credit.stage if credit else None,
        success_step=course.steps if outcome == "success" else None,
        trajectory_sha256=course.trajectory.hexdigest() if fault is None else None,
        error_type=fault[0] if fault else None,
        error_message=fault[1] if fault else None,
        decisions=course.log,
        stale_steps=course.stale,
        hold_steps=course.held,
        jerk_m_s3=jerk(course.track, protocol.control_hz),
        energy_j=course.joules if len(course.log) else None,
    )


def replan_interval(protocol: Protocol, info: PolicyInfo) -> int:
    """Actions of a chunk that are executed before the next decision: the protocol's word, else the checkpoint's."""
    return min(protocol.replan_interval or info.replan_interval, info.chunk_length)


def jerk(positions: Sequence[NDArray[np.float64]], control_hz: int) -> float | None:
    """Root mean square of the third difference of a position, m/s³.

    Args:
        positions: Of the end effector after every control step, each of shape (3,), metres.
        control_hz: Control rate, Hz.

    Returns:
        The jerk; None for fewer than four positions.
    """
    if len(positions) < 4:
        return None
    third = np.diff(np.asarray(positions), n=3, axis=0) * float(control_hz) ** 3
    return float(np.sqrt((third**2).sum(axis=1).mean()))


def hold_action(last: NDArray[np.float32] | None, control_mode: ControlMode, seen: Observation) -> NDArray[np.float32]:
    """What holds the robot where it is, as its controller means it, and the gripper as it was told last.

    Args:
        last: The last command, shape (7,); None before the first: the gripper is then open, as it settled.
        control_mode: Relative: a delta of zero. Absolute: the last target again, before the first one the present pose.
        seen: The latest observation.
    """
    if control_mode == "absolute" and last is not None:
        return last
    held = np.zeros(ACTION_DIM, dtype=np.float32)
    held[-1] = GRIPPER_OPEN if last is None else last[-1]
    if control_mode == "absolute":
        held[: ACTION_DIM - 1] = seen.state[: ACTION_DIM - 1]
    return held


class _Course:
    """The running state of one episode."""

    def __init__(
        self,
        sim: Simulator,
        decider: Decider,
        unit: EpisodeUnit,
        protocol: Protocol,
        info: PolicyInfo,
        clock: TimeSource,
        limits: Limits,
        recorder: ActionRecorder | None,
        timing: Timing,
    ) -> None:
        self.timing, self.control_hz = timing, protocol.control_hz
        self.sim, self.decider, self.unit, self.info = sim, decider, unit, info
        self.clock, self.limits, self.recorder = clock, limits, recorder
        self.max_steps = protocol.max_steps_of(unit.suite)
        self.interval, self.control_mode = replan_interval(protocol, info), protocol.control_mode
        self.deadline = clock.seconds() + limits.episode_s
        self.steps, self.clipped, self.policy_wait_s = 0, 0, 0.0
        self.timings = SimTimings()
        self.trajectory = hashlib.sha256()
        self.log = DecisionLog()
        self.recent: deque[Observation] = deque(maxlen=info.observation_steps)
        self.stale, self.held = 0, 0
        self.joules: float | None = None if timing.source is None else 0.0
        self.track: list[NDArray[np.float64]] = []
        self.old: CheckedChunk | None = None
        self.old_from = 0
        self.command: NDArray[np.float32] | None = None

    def run(self) -> str:
        """Run to the end and say "success" or "timeout"."""
        unit = self.unit
        observation = self.sim.reset(unit.init_state_id, trial=unit.trial, episode_key=unit.episode_key, observe=True)
        # The simulator replaces or clears its timings at a reset; before one they are another episode's.
        self.timings = self.sim.timings
        if observation is not None:
            self.recent.append(observation)
        while self.steps < self.max_steps:
            if observation is None:
                raise SimulatorError(
                    "The simulator returned no observation when one was asked for; this is a bug in it."
                )
            chunk = self._decide(observation)
            moves = self._moves()
            observation, success = self._execute(chunk, moves, observation)
            if success:
                return "success"
            self.old, self.old_from = chunk, len(moves)
        return "timeout"

    def _decide(self, seen: Observation) -> CheckedChunk:
        """One decision, checked."""
        decision = len(self.log)
        noise = None
        if self.info.noise_shape is not None:
            noise = decision_noise(self.unit.episode_key, decision, self.info.noise_shape)
        delay = self.timing.delay(self.unit.policy_at_nfe, self.unit.episode_key, decision)
        began = self.clock.seconds()
        limit_s = min(self.limits.decision_s, max(self.deadline - began, 0.001))
        try:
            shown = replace(self._visible(seen, decision), history=self._history(decision), previous=self._previous())
            decided = self.decider.decide(shown, noise, self.unit.nfe, limit_s)
        except PolicyTimeout:
            self._require_time()
            raise
        finally:
            self.policy_wait_s += self.clock.seconds() - began
        chunk = check_actions(decided.actions, self.info.chunk_length, decision, control_mode=self.control_mode)
        self.log.queue_ms.append(decided.queue_ms)
        self.log.infer_ms.append(decided.infer_ms)
        self.log.batch_size.append(decided.batch_size)
        self.log.delay_steps.append(delay_steps(delay.ms, self.control_hz))
        self.log.delay_ms.append(delay.ms)
        self.log.hardware.append(decided.hardware)
        self.log.transport_ms.append(decided.transport_ms)
        self.joules = None if self.joules is None or delay.joules is None else self.joules + delay.joules
        return chunk

    def _moves(self) -> tuple[Move, ...]:
        """What is executed from the latest decision's observation to the next one."""
        delays = self.log.delay_steps
        clock = self.timing.clock
        return clock.moves(
            delays[-1],
            clock.expect(delays),
            interval=self.interval,
            chunk_length=self.info.chunk_length,
            old_from=None if self.old is None else self.old_from,
        )

    def _previous(self) -> PreviousChunk | None:
        """What the policy has to continue: under a clock that freezes it, what is left of the old chunk.

        None too where no delay is expected: nothing of it will be executed meanwhile, and there is nothing to bridge.
        """
        if not self.timing.clock.freezes or self.old is None:
            return None
        left = self.old.actions[self.old_from :]
        frozen = min(self.timing.clock.expect(self.log.delay_steps), len(left))
        return PreviousChunk(left, frozen) if frozen else None

    def _execute(
        self, chunk: CheckedChunk, moves: Sequence[Move], seen: Observation
    ) -> tuple[Observation | None, bool]:
        """Execute the moves; observe what the next decision looks at, if the episode goes on."""
        observation = None
        n_moves = min(len(moves), self.max_steps - self.steps)
        goes_on = self.steps + n_moves < self.max_steps
        for i in range(n_moves):
            self._require_time()
            action = self._action(moves[i], chunk, seen)
            observe = goes_on and i >= n_moves - self.info.observation_steps
            result = self.sim.step(action, observe=observe)
            self.steps += 1
            self.trajectory.update(np.ascontiguousarray(self.sim.qpos, dtype=np.float64))
            if (position := getattr(self.sim, "eef_position", None)) is not None:
                self.track.append(position)
            if self.recorder is not None:
                self.recorder.append(action)
            observation = result.observation
            if observation is not None:
                self.recent.append(observation)
            if result.success:
                return observation, True
        return observation, False

    def _action(self, move: Move, chunk: CheckedChunk, seen: Observation) -> NDArray[np.float32]:
        """The action of a move, counted."""
        if move.which == "hold":
            self.held += 1
            self.command = hold_action(self.command, self.control_mode, seen)
            return self.command
        source = chunk
        if move.which == "old":
            assert self.old is not None  # noqa: S101
            self.stale += 1
            source = self.old
        self.clipped += int(source.clipped[move.action])
        self.command = source.actions[move.action]
        return self.command

    def _require_time(self) -> None:
        if self.clock.seconds() > self.deadline:
            raise EpisodeTimeout(
                f"The episode had not ended after {self.limits.episode_s:g} s, at control step {self.steps} of "
                f"{self.max_steps}; raise limits.episode_s in the suite, or find out what is slow."
            )

    def _history(self, decision: int) -> tuple[Observation, ...]:
        """What the policy looks at before the present observation, oldest first."""
        return tuple(self._visible(earlier, decision) for earlier in list(self.recent)[:-1])

    def _visible(self, seen: Observation, decision: int) -> Observation:
        """The observation as this policy may see it: a simulator may be shared with policies that see more."""
        return replace(
            seen,
            images={camera: seen.images[camera] for camera in self.info.cameras},
            privileged=seen.privileged if self.info.privileged else {},
            episode_key=self.unit.episode_key,
            decision=decision,
        )

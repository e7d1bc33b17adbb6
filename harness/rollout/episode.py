"""One episode under a synchronous clock: the simulation waits for the policy."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import replace
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError
from harness.rollout.actions import CheckedChunk, check_actions
from harness.rollout.decide import Decider
from harness.rollout.faults import EpisodeTimeout, PolicyTimeout, explain_fault
from harness.rollout.time_source import TimeSource
from harness.schedule.keys import decision_noise
from harness.schedule.result import DecisionLog, EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.sim.base import SimTimings, Simulator, credit_of
from harness.spec.observation import Observation, PolicyInfo
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits


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
) -> EpisodeResult:
    """Reset, decide, execute the replan interval, until success or the last step. Never raises an `Exception`.

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

    Returns:
        The result; everything that went wrong is an outcome "error" with type and message.
    """
    course = _Course(sim, decider, unit, protocol, info, clock, limits, recorder)
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
    )


def replan_interval(protocol: Protocol, info: PolicyInfo) -> int:
    """Actions of a chunk that are executed before the next decision: the protocol's word, else the checkpoint's."""
    return min(protocol.replan_interval or info.replan_interval, info.chunk_length)


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
    ) -> None:
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
            observation, success = self._execute(chunk)
            if success:
                return "success"
        return "timeout"

    def _decide(self, seen: Observation) -> CheckedChunk:
        """One decision, checked."""
        decision = len(self.log)
        noise = None
        if self.info.noise_shape is not None:
            noise = decision_noise(self.unit.episode_key, decision, self.info.noise_shape)
        began = self.clock.seconds()
        limit_s = min(self.limits.decision_s, max(self.deadline - began, 0.001))
        try:
            shown = replace(self._visible(seen, decision), history=self._history(decision))
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
        self.log.delay_steps.append(0)
        self.log.hardware.append(decided.hardware)
        self.log.transport_ms.append(decided.transport_ms)
        return chunk

    def _execute(self, chunk: CheckedChunk) -> tuple[Observation | None, bool]:
        """Execute the replan interval; observe what the next decision looks at, if the episode goes on."""
        observation = None
        n_actions = min(self.interval, self.max_steps - self.steps)
        goes_on = self.steps + n_actions < self.max_steps
        for i in range(n_actions):
            self._require_time()
            action = chunk.actions[i]
            observe = goes_on and i >= n_actions - self.info.observation_steps
            result = self.sim.step(action, observe=observe)
            self.steps += 1
            self.clipped += int(chunk.clipped[i])
            self.trajectory.update(np.ascontiguousarray(self.sim.qpos, dtype=np.float64))
            if self.recorder is not None:
                self.recorder.append(action)
            observation = result.observation
            if observation is not None:
                self.recent.append(observation)
            if result.success:
                return observation, True
        return observation, False

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

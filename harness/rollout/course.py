"""The running state of one episode in virtual time: nothing sleeps, the simulation waits for the policy."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

from harness.clocks import Move, Timing, delay_steps
from harness.errors import SimulatorError
from harness.rollout.actions import CheckedChunk, check_actions
from harness.rollout.decide import Decided, Decider
from harness.rollout.faults import EpisodeTimeout, PolicyTimeout
from harness.schedule.keys import decision_noise
from harness.schedule.result import DecisionLog, Motion
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import Observation, PolicyInfo, PreviousChunk
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource
from harness.worlds.base import SimTimings, Simulator, StepResult


class ActionRecorder(TypingProtocol):
    """Is told every action that is executed."""

    def append(self, action: NDArray[np.float32], /) -> None:
        """Take one action, in the range of the world's action space."""
        ...


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


def seen(observation: Observation | None) -> Observation:
    """What was observed where an observation was asked for.

    Raises:
        SimulatorError: Nothing.
    """
    if observation is None:
        raise SimulatorError("The simulator returned no observation when one was asked for; this is a bug in it.")
    return observation


class Course:
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
        """Nothing is done yet; see `harness.rollout.episode.run_episode` for what is given."""
        self.timing, self.control_hz = timing, protocol.control_hz
        self.sim, self.decider, self.unit, self.info = sim, decider, unit, info
        self.clock, self.limits, self.recorder = clock, limits, recorder
        self.max_steps = protocol.max_steps_of(unit.suite)
        self.interval, self.space = replan_interval(protocol, info), sim.action_space
        self.grippers = [place for place, name in enumerate(self.space.components) if name == "gripper"][:1]
        self.deadline = clock.seconds() + limits.episode_s
        self.steps, self.clipped, self.policy_wait_s = 0, 0, 0.0
        self.timings = SimTimings()
        self.trajectory = hashlib.sha256()
        self.log = DecisionLog()
        self.recent: deque[Observation] = deque(maxlen=info.observation_steps)
        self.stale, self.held = 0, 0
        self.joules: float | None = None if timing.source is None or timing.clock.real else 0.0
        self.overruns: int | None = None
        self.track: list[NDArray[np.float64]] = []
        self.gripper: list[float] = []
        self.old: CheckedChunk | None = None
        self.old_from = 0
        self.command: NDArray[np.float32] | None = None

    def run(self) -> str:
        """Run to the end and say "success" or "timeout"."""
        observation: Observation | None = self.begin()
        while self.steps < self.max_steps:
            chunk = self._decide(seen(observation))
            moves = self._moves(self.log.delay_steps)
            observation, success = self._execute(chunk, moves, seen(observation))
            if success:
                return "success"
            self.old, self.old_from = chunk, len(moves)
        return "timeout"

    def end(self) -> None:
        """Let the policy forget the episode."""
        self.decider.end_episode(self.unit.episode_key)

    def motion(self) -> Motion | None:
        """Where the end effector went; None in a world without one."""
        if not self.track:
            return None
        x, y, z = (column.tolist() for column in np.asarray(self.track).T)
        return Motion(x, y, z, self.gripper)

    def begin(self) -> Observation:
        """Reset, and observe."""
        unit = self.unit
        observation = self.sim.reset(unit.init_state_id, trial=unit.trial, episode_key=unit.episode_key, observe=True)
        # The simulator replaces or clears its timings at a reset; before one they are another episode's.
        self.timings = self.sim.timings
        self.recent.append(seen(observation))
        return seen(observation)

    def _decide(self, moment: Observation) -> CheckedChunk:
        """One decision, checked."""
        delay = self.timing.delay(self.unit.policy_at_nfe, self.unit.episode_key, len(self.log))
        began = self.clock.seconds()
        limit_s = min(self.limits.decision_s, max(self.deadline - began, 0.001))
        try:
            decided = self.decider.decide(*self.question(moment), self.unit.nfe, limit_s)
        except PolicyTimeout:
            self._require_time()
            raise
        finally:
            self.policy_wait_s += self.clock.seconds() - began
        self.joules = None if self.joules is None or delay.joules is None else self.joules + delay.joules
        return self._take(decided, delay_steps(delay.ms, self.control_hz), delay.ms)

    def question(self, moment: Observation) -> tuple[Observation, NDArray[np.float32] | None]:
        """What the policy is asked next: what it may see, and the decision's noise."""
        decision = len(self.log)
        noise = None
        if self.info.noise_shape is not None:
            noise = decision_noise(self.unit.episode_key, decision, self.info.noise_shape)
        shown = replace(self._visible(moment, decision), history=self._history(decision), previous=self._previous())
        return shown, noise

    def _take(self, decided: Decided, steps: int, ms: float) -> CheckedChunk:
        """Check an answer that was in hand after so many control steps, and write it down."""
        chunk = check_actions(decided.actions, self.info.chunk_length, len(self.log), self.space)
        self.log.queue_ms.append(decided.queue_ms)
        self.log.infer_ms.append(decided.infer_ms)
        self.log.batch_size.append(decided.batch_size)
        self.log.delay_steps.append(steps)
        self.log.delay_ms.append(ms)
        self.log.hardware.append(decided.hardware)
        self.log.transport_ms.append(decided.transport_ms)
        return chunk

    def _moves(self, delays: Sequence[int]) -> tuple[Move, ...]:
        """What is executed from the observation of the last of these decisions to the next one."""
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
        self, chunk: CheckedChunk, moves: Sequence[Move], moment: Observation
    ) -> tuple[Observation | None, bool]:
        """Execute the moves; observe what the next decision looks at, if the episode goes on."""
        observation = None
        n_moves = min(len(moves), self.max_steps - self.steps)
        goes_on = self.steps + n_moves < self.max_steps
        for i in range(n_moves):
            observe = goes_on and i >= n_moves - self.info.observation_steps
            result = self._step(moves[i], chunk, moment, observe)
            observation = result.observation
            if result.success:
                return observation, True
        return observation, False

    def _step(self, move: Move, chunk: CheckedChunk | None, moment: Observation, observe: bool) -> StepResult:
        """Execute one move."""
        self._require_time()
        action = self._action(move, chunk, moment)
        result = self.sim.step(action, observe=observe)
        self.steps += 1
        self.trajectory.update(np.ascontiguousarray(self.sim.qpos, dtype=np.float64))
        if (position := getattr(self.sim, "eef_position", None)) is not None:
            self.track.append(position)
            self.gripper += [float(action[place]) for place in self.grippers]
        if self.recorder is not None:
            self.recorder.append(action)
        if result.observation is not None:
            self.recent.append(result.observation)
        return result

    def _action(self, move: Move, chunk: CheckedChunk | None, moment: Observation) -> NDArray[np.float32]:
        """The action of a move, counted."""
        if move.which == "hold":
            self.held += 1
            self.command = self.space.hold(self.command, moment.state)
            return self.command
        source = self.old if move.which == "old" else chunk
        assert source is not None  # noqa: S101
        self.stale += move.which == "old"
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

    def _visible(self, moment: Observation, decision: int) -> Observation:
        """The observation as this policy may see it: a simulator may be shared with policies that see more."""
        return replace(
            moment,
            images={camera: moment.images[camera] for camera in self.info.cameras},
            privileged=moment.privileged if self.info.privileged else {},
            episode_key=self.unit.episode_key,
            decision=decision,
        )

"""Episodes recorded as demonstrations: what was seen, and what was wanted there. Knows nothing of Ray or torch.

On a host without Ray, every process loops over `record_task`; each record is a whole episode in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as TypingProtocol

import numpy as np
from numpy.typing import NDArray

from harness.clocks import IN_NO_TIME, Timing
from harness.errors import UsageError
from harness.policies.base import Policy
from harness.rollout.decide import Decider, LocalDecider
from harness.rollout.disturb import DisturbedSimulator
from harness.rollout.episode import run_episode
from harness.rollout.limits import Alarm
from harness.schedule.keys import episode_key
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.spec.action_space import ActionSpace
from harness.spec.manifest import manifest_sha256
from harness.spec.observation import ACTION_DIM, CAMERAS, Observation, PolicyInfo
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource, WallTime
from harness.worlds.base import Credit, SimTimings, Simulator, StepResult, sim_config
from harness.worlds.registry import get_world

STATE_DIM = 8
"""Components of `Observation.state`."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One episode. Row i was observed before the action of control step `observed[i]`."""

    unit: EpisodeUnit
    instruction: str
    outcome: str
    """"success", "timeout" or "error"."""
    fps: int
    """Control rate, Hz."""
    observed: NDArray[np.int64]
    """Control steps that were observed, shape (N,): every one, or every stride-th."""
    frames: Mapping[str, NDArray[np.uint8]]
    """Camera → frames, shape (N, H, W, 3), in the protocol's orientation."""
    state: NDArray[np.float32]
    """Proprioception, shape (N, 8)."""
    actions: NDArray[np.float32]
    """What the policy wanted at every control step, shape (steps, 7): the labels."""
    executed: NDArray[np.float32]
    """What was executed, shape (steps, 7): differs from `actions` by the noise."""
    trajectory_sha256: str | None
    """Digest of qpos after every control step; None for errors."""

    @property
    def success(self) -> bool:
        """Whether the episode reached its goal."""
        return self.outcome == "success"

    def chunks(self, length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The next actions of each row.

        Args:
            length: T.

        Returns:
            Actions, shape (N, T, 7), and whether they are padding, shape (N, T): after the end the last action's
            gripper is held and nothing moves.
        """
        steps = self.observed[:, None] + np.arange(length)
        padding = steps >= len(self.actions)
        chunks = self.actions[np.minimum(steps, len(self.actions) - 1)]
        chunks[padding, : ACTION_DIM - 1] = 0.0
        return chunks, padding


class Filmable(Simulator, TypingProtocol):
    """A simulator whose observations may show other cameras from one step to the next."""

    cameras: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What is recorded of an episode."""

    stride: int = 1
    """Every how many control steps an observation is recorded (and a frame rendered)."""
    cameras: tuple[str, ...] = CAMERAS
    shrink: int = 1
    """Frames are averaged over squares of so many pixels."""


@dataclass(slots=True)
class _Rows:
    observed: list[int] = field(default_factory=list)
    frames: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    state: list[NDArray[np.float32]] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)


class RecordingSimulator:
    """A simulator that notes what happens in it. To whoever drives it, nothing changes but the noise."""

    def __init__(
        self, inner: Filmable, plan: RecordPlan, policy_cameras: Sequence[str], action_noise: float = 0.0
    ) -> None:
        """Wrap a simulator.

        Args:
            inner: The simulator whose steps are recorded.
            plan: Cameras, stride and size of the frames that are kept.
            policy_cameras: Rendered whenever the policy asks for an observation.
            action_noise: Standard deviation of the noise on executed actions; see `harness.rollout.disturb`.
        """
        self._camera, self._plan = inner, plan
        self._inner = DisturbedSimulator(inner, action_noise)
        self._policy_cameras = tuple(policy_cameras)
        self._all = tuple(dict.fromkeys((*plan.cameras, *policy_cameras)))
        self._rows = _Rows()

    @property
    def instruction(self) -> str:
        """The task in words."""
        return self._inner.instruction

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes."""
        return self._inner.action_space

    @property
    def timings(self) -> SimTimings:
        """Seconds since the last reset began; includes the recorded frames."""
        return self._inner.timings

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Generalised positions, shape (nq,), a copy."""
        return self._inner.qpos

    @property
    def credit(self) -> Credit | None:
        """How far the episode came; None where the world does not say."""
        return self._inner.credit

    @property
    def eef_position(self) -> NDArray[np.float64] | None:
        """Position of the end effector, shape (3,), metres; None where the simulator has none."""
        return getattr(self._inner, "eef_position", None)

    @property
    def executed(self) -> list[NDArray[np.float32]]:
        """Actions executed since the last reset, each of shape (7,)."""
        return self._inner.executed

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start an episode and its record."""
        self._rows = _Rows(frames={camera: [] for camera in self._plan.cameras})
        self._camera.cameras = self._all
        seen = self._inner.reset(init_state_id, trial=trial, episode_key=episode_key, observe=True)
        self._note(0, seen)
        return seen if observe else None

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Run one control step, and look if it is time to."""
        self._rows.actions.append(np.array(action, dtype=np.float32))
        step = len(self._rows.actions)
        due = step % self._plan.stride == 0
        self._camera.cameras = self._all if due else self._policy_cameras
        result = self._inner.step(action, observe=observe or due)
        if due:
            self._note(step, result.observation)
        return result if observe else replace(result, observation=None)

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """Render for a video."""
        return self._inner.frame(camera, resolution)

    def close(self) -> None:
        """Close the simulator."""
        self._inner.close()

    def record(self, result: EpisodeResult, fps: int) -> EpisodeRecord:
        """The episode that `run_episode` has just run on this simulator."""
        rows = self._rows
        # The state after the last action has no action of its own.
        n = sum(step < len(rows.actions) for step in rows.observed)
        dim = self.action_space.dim
        state_dim = len(rows.state[0]) if rows.state else STATE_DIM
        actions = np.array(rows.actions, dtype=np.float32).reshape(-1, dim)
        return EpisodeRecord(
            unit=result.unit,
            instruction=self.instruction,
            outcome=result.outcome,
            fps=fps,
            observed=np.array(rows.observed[:n], dtype=np.int64),
            frames={camera: np.array(frames[:n], dtype=np.uint8) for camera, frames in rows.frames.items()},
            state=np.array(rows.state[:n], dtype=np.float32).reshape(n, state_dim),
            actions=actions,
            executed=np.array(self.executed, dtype=np.float32).reshape(-1, dim),
            trajectory_sha256=result.trajectory_sha256,
        )

    def _note(self, step: int, seen: Observation | None) -> None:
        if seen is None:
            return
        self._rows.observed.append(step)
        self._rows.state.append(seen.state.copy())
        for camera, frames in self._rows.frames.items():
            frames.append(shrink(seen.images[camera], self._plan.shrink))


def shrink(frame: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average a frame (H, W, 3) over squares of `factor` pixels, rounded.

    Raises:
        UsageError: The factor does not divide the frame's size.
    """
    if factor == 1:
        return frame
    height, width = frame.shape[:2]
    if height % factor or width % factor:
        raise UsageError(f"shrink {factor} does not divide a frame of {width} × {height} pixels; choose one that does.")
    squares = frame.reshape(height // factor, factor, width // factor, factor, 3)
    means: NDArray[np.float64] = squares.mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def record_episode(
    sim: Filmable,
    decider: Decider,
    unit: EpisodeUnit,
    protocol: Protocol,
    info: PolicyInfo,
    plan: RecordPlan,
    *,
    clock: TimeSource,
    limits: Limits,
    attempt: int = 1,
    timing: Timing = IN_NO_TIME,
) -> tuple[EpisodeResult, EpisodeRecord]:
    """Run an episode as `run_episode` does, and record it.

    Args:
        sim: Simulator of the unit's task.
        decider: Asks the policy, in this process or over a server.
        unit: Policy, NFE, task, init state and trial of the episode.
        protocol: Steps, replan interval and noise of the actions.
        info: What the policy may see and how it decides.
        plan: Cameras, stride and size of the frames that are kept.
        clock: Time of day and stopwatch of the episode's columns.
        limits: Wall-clock limits.
        attempt: Which attempt this is, from 1.
        timing: The protocol's clock, and what decisions take under it.

    Returns:
        The result, and the record; of an episode that ended in an error the record is what there is.
    """
    before = sim.cameras
    recording = RecordingSimulator(sim, plan, info.cameras, protocol.action_noise)
    try:
        result = run_episode(
            recording, decider, unit, protocol, info, clock=clock, limits=limits, attempt=attempt, timing=timing
        )
    finally:
        sim.cameras = before
    return result, recording.record(result, protocol.control_hz)


def record_task(
    suite: str,
    task_id: int,
    placements: Iterable[int],
    *,
    policy: Policy,
    protocol: Protocol,
    plan: RecordPlan | None = None,
    world: str = "libero",
    clock: TimeSource | None = None,
    limits: Limits | None = None,
) -> Iterator[EpisodeRecord]:
    """Record episodes of one task in this process, without Ray: for hosts that make many, one process per core.

    Args:
        suite: LIBERO suite.
        task_id: Task of the suite.
        placements: Numbers of the placements (`SimConfig.placements` "sampled"), or init states, as the protocol says.
        policy: Who demonstrates.
        protocol: The rules; with `placements: sampled` and, for coverage, `action_noise`.
        plan: What to record; None for every step.
        world: Where episodes run.
        clock: Time; None for the machine's.
        limits: Wall-clock limits; None for a suite's defaults.

    Yields:
        One record per placement, failures too: look at `EpisodeRecord.success`.
    """
    plan, clock, info = plan or RecordPlan(), clock or WallTime(), policy.info
    source = get_world(world)
    config = sim_config(protocol, plan.cameras, privileged=info.privileged)
    description = source.describe(suite)
    digest = manifest_sha256(
        protocol.manifest(
            suite,
            init_states_sha256=description.init_states_sha256,
            versions=description.versions,
            renderer="none",
        )
    )
    sim, alarm = source.make(suite, task_id, config), Alarm()
    try:
        decider = LocalDecider(policy, alarm, clock)
        for number in placements:
            key = episode_key(digest, suite, task_id, number, 0)
            unit = EpisodeUnit(info.policy_id, info.default_nfe, suite, task_id, number, 0, key, digest)
            _, record = record_episode(
                filmable(sim), decider, unit, protocol, info, plan, clock=clock, limits=limits or Limits()
            )
            yield record
    finally:
        sim.close()
        alarm.close()


def filmable(sim: Simulator) -> Filmable:
    """The simulator, if its cameras can be switched.

    Raises:
        UsageError: They cannot.
    """
    if not hasattr(sim, "cameras"):
        raise UsageError(f"A {type(sim).__name__} cannot be recorded: it has no `cameras` to switch.")
    return sim  # type: ignore[return-value]

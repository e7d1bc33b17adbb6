"""What one episode leaves behind. Small: it travels from a worker to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from harness.schedule.units import EpisodeUnit


@dataclass(slots=True)
class DecisionLog:
    """Timing of an episode's decisions, by column."""

    queue_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    batch_size: list[int] = field(default_factory=list)
    delay_steps: list[int] = field(default_factory=list)
    """Control steps that passed while the policy decided: 0 under a synchronous clock."""
    hardware: list[str | None] = field(default_factory=list)
    """Where the policy ran; None: where the episode ran."""
    transport_ms: list[float | None] = field(default_factory=list)
    """On the way to a policy server and back; None: the policy ran in the episode's process."""
    delay_ms: list[float] = field(default_factory=list)
    """What the delay comes from, milliseconds: 0 under a synchronous clock."""

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.infer_ms)


@dataclass(frozen=True, slots=True)
class Motion:
    """Where the end effector went, one number per control step."""

    x_m: list[float]
    y_m: list[float]
    z_m: list[float]
    gripper: list[float]
    """What the gripper was told; empty in a world without one."""


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One attempt at one unit."""

    unit: EpisodeUnit
    outcome: str
    """"success", "timeout" or "error"."""
    started_at: datetime
    attempt: int = 1
    steps: int = 0
    """Control steps after settling."""
    clipped: int = 0
    """Executed actions with a component out of [-1, 1]."""
    sim_s: float = 0.0
    """Simulated seconds after settling."""
    wall_s: float = 0.0
    reset_s: float = 0.0
    physics_s: float = 0.0
    render_s: float = 0.0
    policy_wait_s: float = 0.0
    goals: int | None = None
    """Predicates of the task's goal; None where the world declares none, and for errors. So are the next three."""
    goals_held_end: int | None = None
    goals_held_best: int | None = None
    stage: str | None = None
    success_step: int | None = None
    """Control step at which the task was solved; None when it was not."""
    trajectory_sha256: str | None = None
    """Digest of qpos (float64) after every control step; None for errors."""
    error_type: str | None = None
    error_message: str | None = None
    decisions: DecisionLog = field(default_factory=DecisionLog)
    task: str = ""
    """Task name."""
    node_id: str = ""
    hardware: str = ""
    video: str | None = None
    """Path relative to the ledger's directory."""
    worker: str | None = None
    startup_s: float | None = None
    """From the run's start to the worker's first question for work, with its first episode; else 0."""
    build_s: float | None = None
    """Opening or building the task, before `wall_s`."""
    idle_s: float | None = None
    """Since the worker's last episode (or its first question), without `build_s`."""
    stale_steps: int | None = None
    """Control steps that executed the old chunk while a newer decision was under way."""
    hold_steps: int | None = None
    """Control steps in which the robot held."""
    jerk_m_s3: float | None = None
    """Root mean square of the third difference of the end effector's position, m/s³."""
    energy_j: float | None = None
    """The device's energy over the decisions, J; None where nobody measured it."""
    overruns: int | None = None
    """Control steps that took longer than their period, so that the next began late; None in virtual time."""
    motion: Motion | None = None
    """None where nobody asked, or the world has no end effector."""
    canary: str | None = None
    """How the machines that it ran on compared with the reference (`CANARY_LABELS`); None where nobody asked."""
    retried: bool = False
    """Whether the unit is run again: its row tells of an attempt, and does not count."""


def lost_episode(
    unit: EpisodeUnit, attempt: int, started_at: datetime, error: tuple[str, str], node_id: str
) -> EpisodeResult:
    """The result of an attempt that nobody came back from.

    Args:
        unit: What was being run.
        attempt: Which attempt, from 1.
        started_at: When it was leased, UTC.
        error: (`error_type`, `error_message`).
        node_id: Node that the worker was on.
    """
    return EpisodeResult(
        unit, "error", started_at, attempt, error_type=error[0], error_message=error[1], node_id=node_id
    )

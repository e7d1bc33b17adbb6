"""One episode under the protocol's clock: in virtual time, where nothing sleeps, or on the wall clock."""

from __future__ import annotations

from harness.clocks import IN_NO_TIME, Timing
from harness.rollout.course import ActionRecorder, Course, jerk
from harness.rollout.decide import Decider
from harness.rollout.faults import explain_fault
from harness.rollout.wall_course import WallCourse
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import PolicyInfo
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource
from harness.worlds.base import Simulator, credit_of


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
    kind = WallCourse if timing.clock.real else Course
    course = kind(sim, decider, unit, protocol, info, clock, limits, recorder, timing)
    started_at, began = clock.now(), clock.seconds()
    try:
        outcome, fault = course.run(), None
    except Exception as error:
        outcome, fault = "error", explain_fault(error)
    finally:
        course.end()
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
        motion=course.motion() if recorder is not None else None,
        energy_j=course.joules if len(course.log) else None,
        overruns=course.overruns,
    )

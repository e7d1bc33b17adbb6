"""One episode: simulator × policy × control clock. Knows nothing of Ray."""

from harness.rollout.actions import CheckedChunk, check_actions
from harness.rollout.decide import Decided, Decider, LocalDecider
from harness.rollout.episode import run_episode
from harness.rollout.faults import EpisodeTimeout, PolicyActionError, PolicyRaised, PolicyTimeout, WorkerDied
from harness.rollout.limits import Alarm
from harness.schedule.result import DecisionLog, EpisodeResult
from harness.time_source import TimeSource, WallTime

__all__ = [
    "Alarm",
    "CheckedChunk",
    "TimeSource",
    "Decided",
    "Decider",
    "DecisionLog",
    "EpisodeResult",
    "EpisodeTimeout",
    "LocalDecider",
    "PolicyActionError",
    "PolicyRaised",
    "PolicyTimeout",
    "WallTime",
    "WorkerDied",
    "check_actions",
    "run_episode",
]

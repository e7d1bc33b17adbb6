"""Worlds: where episodes run. What a world declares and answers, and the registry of those there are.

LIBERO (`harness.sim`), Meta-World and PushT through gymnasium and LeRobot's environments, the stub of scheduling tests,
and those that other packages add by the entry point `harness.worlds`. No simulator is imported before it is asked for.
"""

from __future__ import annotations

from harness.worlds.base import (
    Credit,
    SimConfig,
    SimTimings,
    Simulator,
    StepResult,
    SuiteDescription,
    World,
)
from harness.worlds.interface import Interface, require_fit
from harness.worlds.registry import WORLDS, get_world

__all__ = [
    "Credit",
    "Interface",
    "SimConfig",
    "SimTimings",
    "Simulator",
    "StepResult",
    "SuiteDescription",
    "WORLDS",
    "World",
    "get_world",
    "require_fit",
]

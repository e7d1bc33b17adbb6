"""Simulators: LIBERO, exact to the bit and fast, and a stub world for scheduling tests.

Importing this package imports neither MuJoCo nor LIBERO; `LiberoSim` loads them on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.sim.base import (
    GLBackend,
    SimConfig,
    SimTimings,
    Simulator,
    StepResult,
    SuiteDescription,
    World,
)
from harness.sim.world import LiberoWorld
from harness.sim.worlds import get_world

if TYPE_CHECKING:
    from harness.sim.libero import LiberoSim

__all__ = [
    "GLBackend",
    "LiberoSim",
    "LiberoWorld",
    "SimConfig",
    "SimTimings",
    "Simulator",
    "StepResult",
    "SuiteDescription",
    "World",
    "get_world",
]


def __getattr__(name: str) -> Any:
    if name == "LiberoSim":
        from harness.sim.libero import LiberoSim

        return LiberoSim
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""LIBERO, exact to the bit and fast; one world among those of `harness.worlds`.

Importing this package imports neither MuJoCo nor LIBERO; `LiberoSim` loads them on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.sim.world import LiberoWorld
from harness.worlds.base import SimConfig

if TYPE_CHECKING:
    from harness.sim.libero import LiberoSim

__all__ = ["LiberoSim", "LiberoWorld", "SimConfig"]


def __getattr__(name: str) -> Any:
    if name == "LiberoSim":
        from harness.sim.libero import LiberoSim

        return LiberoSim
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

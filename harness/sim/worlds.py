"""Worlds by name. Each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from harness.errors import unknown_name
from harness.sim.base import World

WORLDS = {"libero": ("harness.sim.world", "LiberoWorld"), "stub": ("harness.sim.stub", "StubWorld")}
"""World name → (module, class)."""


def get_world(name: str) -> World:
    """Build the world called `name`.

    Raises:
        UsageError: No such world; the message names the nearest one.
    """
    if name not in WORLDS:
        raise unknown_name("world", name, WORLDS)
    module, attribute = WORLDS[name]
    world: World = getattr(import_module(module), attribute)()
    return world

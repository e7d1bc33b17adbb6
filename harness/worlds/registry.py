"""Worlds by name: those that come with the harness, and plugins from the entry point `harness.worlds`."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points

from harness.errors import SimulatorError, UsageError, unknown_name
from harness.worlds.base import World

ENTRY_POINT_GROUP = "harness.worlds"
"""An installed package adds a world with an entry point of this group: name = "package.module:Factory"."""

BUILTIN: Mapping[str, str] = {
    "libero": "harness.sim.world:LiberoWorld",
    "metaworld": "harness.worlds.metaworld:MetaWorld",
    "pusht": "harness.worlds.pusht:PushtWorld",
    "stub": "harness.worlds.stub:StubWorld",
}
"""World name → "module:class"."""


class WorldRegistry:
    """Worlds by name. Each is imported when it is asked for."""

    def __init__(self, builtin: Mapping[str, str], plugins: Iterable[EntryPoint] | None = None) -> None:
        """Start from `builtin`; `plugins` None discovers the entry points of installed packages when first needed."""
        self._targets = dict(builtin)
        self._plugins = plugins
        self._discovered: dict[str, str] | None = None

    def names(self) -> tuple[str, ...]:
        """Every world that can be asked for, sorted. Imports none."""
        return tuple(sorted({*self._targets, *self._discover()}))

    def get(self, name: str) -> World:
        """Build the world called `name`.

        Raises:
            UsageError: No such world; the message names the nearest one.
            SimulatorError: A plugin cannot be imported, or what it makes is no world.
        """
        target = self._targets.get(name) or self._discover().get(name)
        if target is None:
            raise unknown_name("world", name, self.names())
        world: object = _load(name, target)()
        if not isinstance(world, World):
            raise SimulatorError(
                f"World {name!r} is a {type(world).__name__}, which lacks part of harness.worlds.World (name, "
                "interface, suites, describe, make, require_installed)."
            )
        return world

    def of_suite(self, suite: str) -> World:
        """The world that has a suite.

        Raises:
            UsageError: None has; the nearest of all their suites is named.
        """
        known: list[str] = []
        for world in self._usable():
            if suite in world.suites():
                return world
            known += world.suites()
        raise unknown_name("suite", suite, known)

    def _usable(self) -> Iterator[World]:
        for name in self.names():
            try:
                yield self.get(name)
            except SimulatorError as error:
                warnings.warn(f"World {name!r} is left out: {error}", stacklevel=3)

    def _discover(self) -> Mapping[str, str]:
        """Targets of usable plugins; one that shadows a world or is not installed is warned of and left out."""
        if self._discovered is None:
            plugins = entry_points(group=ENTRY_POINT_GROUP) if self._plugins is None else self._plugins
            self._discovered = {}
            for plugin in plugins:
                fault = self._fault(plugin)
                if fault is None:
                    self._discovered[plugin.name] = plugin.value
                else:
                    warnings.warn(f"World plugin {plugin.name!r} ({plugin.value}) is ignored: {fault}.", stacklevel=3)
        return self._discovered

    def _fault(self, plugin: EntryPoint) -> str | None:
        if plugin.name in self._targets:
            return f"the world {plugin.name!r} is taken"
        module, _, attribute = plugin.value.partition(":")
        if not (module and attribute):
            return "its target is not of the form 'module:attribute'"
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return f"its package {module.partition('.')[0]!r} is not installed"
        return None


def _load(name: str, target: str) -> Callable[[], object]:
    module, _, attribute = target.partition(":")
    try:
        found: Callable[[], object] = getattr(importlib.import_module(module), attribute)
    except (UsageError, SimulatorError):
        raise
    except Exception as error:
        raise SimulatorError(f"World {name!r} cannot be loaded from {target!r}: {error!r}.") from error
    return found


WORLDS = WorldRegistry(BUILTIN)
"""The registry that suites and the command line use."""


def get_world(name: str) -> World:
    """Build a world from `WORLDS`; see `WorldRegistry.get`."""
    return WORLDS.get(name)

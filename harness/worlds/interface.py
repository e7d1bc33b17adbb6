"""What a world declares of itself, and whether a protocol and a policy fit it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import UsageError
from harness.spec.action_space import ActionSpace
from harness.spec.protocol import ImageOrientation, Placements, PlacementSeeding, Protocol


@dataclass(frozen=True, slots=True)
class Interface:
    """How a world is seen, moved, started and judged: everything that the rest of the harness has to know of it."""

    cameras: tuple[str, ...]
    """Cameras by name, the one that videos show first."""
    state: tuple[str, ...]
    """Components of `Observation.state`, in order, with their units."""
    actions: Mapping[str, ActionSpace]
    """Control mode → what an action is; one entry for each mode that the world has."""
    physics_hz: int
    """Rate of its physics, Hz."""
    control_hz: tuple[int, ...] = ()
    """Control rates, Hz, that it can run at; empty: any that divides `physics_hz`."""
    success: str = ""
    """The success rule in a sentence."""
    success_rule: str = "is_success"
    """Its name in protocols (`Protocol.success_rule`)."""
    init_states: str = ""
    """What init state n means, in a sentence."""
    placements: tuple[Placements, ...] = ("init_states",)
    """Which placements it has."""
    seedings: tuple[PlacementSeeding, ...] = ("per_episode",)
    """Which rules of seeding it has."""
    settles: bool = False
    """Whether it can settle before the first decision; else `settle_steps` has to be 0."""
    orientations: tuple[ImageOrientation, ...] = ("raw",)
    """How it can turn frames."""
    max_steps: int | None = None
    """Control steps after which its simulator refuses to go on; None: never."""
    gl: bool = True
    """Whether its frames come from a GL backend of MuJoCo; False: it draws without one, and no renderer is chosen."""
    imports: tuple[str, ...] = ()
    """Of torch and transformers, those that its simulators import: workers of other worlds import neither."""

    def space(self, mode: str) -> ActionSpace:
        """What an action is in a control mode.

        Raises:
            UsageError: The world has no such mode.
        """
        if mode not in self.actions:
            raise UsageError(f"The protocol says control_mode {mode!r}, but the world has {' or '.join(self.actions)}.")
        return self.actions[mode]


def require_fit(world: str, interface: Interface, protocol: Protocol) -> None:
    """Refuse a protocol that a world cannot follow.

    Args:
        world: Name of the world.
        interface: What it declares.
        protocol: The rules that are asked for.

    Raises:
        UsageError: One message, with what the protocol says and what the world has, for every key that differs.
    """
    rates = interface.control_hz
    divides = interface.physics_hz % protocol.control_hz == 0
    longest = max(protocol.max_steps.values())
    has: list[tuple[bool, str, object, str]] = [
        (protocol.physics_hz == interface.physics_hz, "physics_hz", protocol.physics_hz, f"{interface.physics_hz}"),
        (
            protocol.control_hz in rates if rates else divides,
            "control_hz",
            protocol.control_hz,
            " or ".join(map(str, rates)) or f"a divisor of {interface.physics_hz}",
        ),
        (
            protocol.control_mode in interface.actions,
            "control_mode",
            protocol.control_mode,
            " or ".join(interface.actions),
        ),
        (
            protocol.success_rule == interface.success_rule,
            "success_rule",
            protocol.success_rule,
            interface.success_rule,
        ),
        (
            protocol.placements in interface.placements,
            "placements",
            protocol.placements,
            " or ".join(interface.placements),
        ),
        (
            protocol.placement_seeding in interface.seedings,
            "placement_seeding",
            protocol.placement_seeding,
            " or ".join(interface.seedings),
        ),
        (interface.settles or not protocol.settle_steps, "settle_steps", protocol.settle_steps, "0"),
        (
            protocol.image_orientation in interface.orientations,
            "image_orientation",
            protocol.image_orientation,
            " or ".join(interface.orientations),
        ),
        (
            interface.max_steps is None or longest <= interface.max_steps,
            "max_steps",
            longest,
            f"at most {interface.max_steps}",
        ),
    ]
    differing = [f"{key} {said} (it has {offered})" for fits, key, said, offered in has if not fits]
    if differing:
        raise UsageError(f"The protocol does not fit world {world!r}: {', '.join(differing)}. Change the protocol.")

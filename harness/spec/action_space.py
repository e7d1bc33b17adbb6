"""What an action is in a world: its components, their range, and what holds the robot still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ControlMode = Literal["relative", "absolute"]
"""Deltas from the present pose, or the pose to go to."""


@dataclass(frozen=True, slots=True)
class ActionSpace:
    """Actions of one world in one control mode."""

    components: tuple[str, ...]
    """What each number commands, e.g. ("dx", "dy", "dz", "gripper")."""
    mode: ControlMode
    """"relative": deltas; "absolute": targets."""
    rest: tuple[float, ...]
    """What holds the robot still before anything was commanded. Of absolute targets only what `latched` names counts:
    the others are the present pose."""
    bounds: tuple[tuple[float, float], ...] | None = None
    """Smallest and largest value of each component, beyond which it is clipped; None: it has no range."""
    latched: tuple[int, ...] = ()
    """Components that keep their last command while the robot is held (grippers)."""

    def __post_init__(self) -> None:
        """Refuse a declaration whose parts have different lengths."""
        lengths = {len(self.components), len(self.rest), *([] if self.bounds is None else [len(self.bounds)])}
        if len(lengths) != 1:
            raise ValueError(f"an action space of {len(self.components)} components has parts of lengths {lengths}")

    @property
    def dim(self) -> int:
        """Numbers of an action."""
        return len(self.components)

    def clip(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Clip actions, shape (…, dim), to the range."""
        import numpy as np

        if self.bounds is None:
            return actions
        low, high = np.array(self.bounds, dtype=np.float32).T
        clipped: NDArray[np.float32] = np.clip(actions, low, high)
        return clipped

    def spread(self, shares: NDArray[np.float64]) -> NDArray[np.float32]:
        """Actions at given places of the range.

        Args:
            shares: Shape (…, dim), from -1 (smallest) to 1 (largest).

        Returns:
            Shape (…, dim). A component without a range goes from -1 to 1.
        """
        import numpy as np

        low, high = np.array(self.bounds or [(-1.0, 1.0)] * self.dim).T
        # In this order a range of [-1, 1] gives the shares themselves, to the bit.
        placed: NDArray[np.float64] = (low + high) / 2 + (high - low) / 2 * shares
        return placed.astype(np.float32)

    def hold(self, last: NDArray[np.float32] | None, pose: NDArray[np.float32]) -> NDArray[np.float32]:
        """What holds the robot where it is, and latched components as they were told last.

        Args:
            last: The last command, shape (dim,); None before the first.
            pose: The latest observation's state, of which the first components are the pose that targets mean.
        """
        import numpy as np

        if self.mode == "absolute" and last is not None:
            return last
        held = np.array(self.rest, dtype=np.float32)
        latched = list(self.latched)
        if self.mode == "absolute":
            free = [i for i in range(self.dim) if i not in self.latched]
            held[free] = pose[free]
        if last is not None:
            held[latched] = last[latched]
        return held

    def __str__(self) -> str:
        """In words: "7 numbers (dx, …, gripper), relative"."""
        return f"{self.dim} numbers ({', '.join(self.components)}), {self.mode}"


_POSE = ("x", "y", "z", "rx", "ry", "rz")
LIBERO_ACTIONS = {
    "relative": ActionSpace(
        (*(f"d{name}" for name in _POSE), "gripper"), "relative", (0.0,) * 6 + (-1.0,), ((-1.0, 1.0),) * 7, (6,)
    ),
    "absolute": ActionSpace((*_POSE, "gripper"), "absolute", (0.0,) * 6 + (-1.0,), None, (6,)),
}
"""LIBERO's actions by control mode: OSC_POSE position (3), axis-angle (3), gripper (1, -1 opens). Absolute targets are
metres and radians, which have no range: the table alone is 0.9 m high, and an orientation is pi away from none."""

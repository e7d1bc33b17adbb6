"""Whether a policy can do what a run asks of it, from what it says of itself. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.errors import UsageError, unknown_name
from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace
from harness.spec.observation import CAMERAS, PolicyInfo


def require_able(
    label: str,
    info: PolicyInfo,
    suites: Mapping[str, Collection[int] | None],
    space: ActionSpace = LIBERO_ACTIONS["relative"],
    cameras: Collection[str] = CAMERAS,
    world: str = "libero",
) -> None:
    """Refuse a policy that cannot do what is asked.

    Args:
        label: Name of the policy.
        info: What it says of itself.
        suites: Suite → task ids; None for all of them.
        space: What an action is in the world, under the protocol.
        cameras: What the world has to look through.
        world: Its name.

    Raises:
        UsageError: A suite or task that it cannot do, actions of another size or mode, or a camera that the world does
            not have; says what it can do.
    """
    for suite, task_ids in suites.items():
        _require_tasks(label, info, suite, task_ids)
    require_dim(label, info.action_dim, space, world)
    if info.control_mode != space.mode:
        raise UsageError(
            f"Policy {label!r} acts in control mode {info.control_mode!r}, but the protocol says {space.mode!r}; set "
            f"`control_mode: {info.control_mode}` in the protocol."
        )
    for camera in info.cameras:
        if camera not in cameras:
            raise unknown_name(f"camera (of policy {label!r} in world {world!r})", camera, cameras)


def require_dim(label: str, action_dim: int, space: ActionSpace, world: str) -> None:
    """Refuse a policy whose actions have another size than the world's.

    Args:
        label: Name of the policy.
        action_dim: Numbers of its actions.
        space: What an action is in the world.
        world: Its name.

    Raises:
        UsageError: They differ; names both.
    """
    if action_dim != space.dim:
        raise UsageError(
            f"Policy {label!r} answers actions of {action_dim} numbers, but an action of world {world!r} is {space}; "
            "choose a policy that was trained there, or one that acts anywhere (noop, random)."
        )


def frame_warning(info: PolicyInfo, resolution: int) -> str | None:
    """A warning where frames have another size than the policy's checkpoint declares; None where they do not.

    Args:
        info: What the policy says of itself.
        resolution: Of the protocol, pixels.

    Raises:
        UsageError: They have, and its network would fail on them; names both sizes.
    """
    if info.frame_size is None or info.frame_size == (resolution, resolution):
        return None
    height, width = info.frame_size
    if info.frame_bound:
        raise UsageError(
            f"{info.policy_id}: its checkpoint declares frames of {height}×{width} pixels and its network takes no "
            f"others, but the protocol renders {resolution}×{resolution}. Set `resolution: {height}` in the protocol, "
            "or have frames resized as LeRobot's policy server does: ?frames=resize."
        )
    return (
        f"Its checkpoint declares frames of {height}×{width} pixels, the protocol renders {resolution}×{resolution}, "
        f"and nothing resizes them: set `resolution: {height}` in the protocol, or ?frames=resize for LeRobot's."
    )


def _require_tasks(label: str, info: PolicyInfo, suite: str, task_ids: Collection[int] | None) -> None:
    # LIBERO-PRO's suites are named for the one that they perturb: libero_spatial_swap.
    if info.suites and not any(suite == known or suite.startswith(f"{known}_") for known in info.suites):
        raise UsageError(
            f"Policy {label!r} cannot do suite {suite!r}; it can do {', '.join(info.suites)}. Choose another policy, "
            "or one of these suites."
        )
    able = {task_id for known, task_id in info.tasks if known == suite}
    if not info.tasks or (task_ids is not None and able >= set(task_ids)):
        return
    listed = ", ".join(map(str, sorted(able))) or "none"
    asked = "all" if task_ids is None else ", ".join(map(str, sorted(set(task_ids) - able)))
    raise UsageError(f"Policy {label!r} cannot do tasks {asked} of suite {suite!r}; it can do {listed} of them.")

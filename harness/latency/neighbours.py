"""Other processes on the accelerator: their work would be measured as the policy's."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A process of somebody else's."""

    pid: int
    name: str
    """Its command; "?" when it belongs to another container or has ended."""


def foreign_processes(source: object, own: Collection[int] | None = None) -> tuple[Neighbour, ...] | None:
    """Find the processes that compute on the accelerator and are not this probe's.

    Ask before the policy is built: until then this process has no context of its own on the device, so that also a
    process whose number means nothing here, in another container, is known to be foreign.

    Args:
        source: The source of telemetry, if it is an accelerator that tells.
        own: Processes of this probe; None for this process, those it descends from and those it started.

    Returns:
        The others; None when nobody can tell (a CPU, or a driver without the query).
    """
    list_pids = getattr(source, "compute_pids", None)
    pids: tuple[int, ...] | None = None if list_pids is None else list_pids()
    if pids is None:
        return None
    mine = family() if own is None else own
    return tuple(Neighbour(pid, _name(pid)) for pid in sorted(set(pids) - set(mine)))


def family() -> set[int]:
    """This process, its ancestors, and all descendants of its parent."""
    process = psutil.Process(os.getpid())
    ancestors = {parent.pid for parent in process.parents()}
    try:
        siblings = {child.pid for child in psutil.Process(os.getppid()).children(recursive=True)}
    except psutil.Error:
        siblings = set()
    return {process.pid} | ancestors | siblings


def require_alone(neighbours: Sequence[Neighbour]) -> None:
    """Refuse to measure beside others.

    Raises:
        UsageError: Names them.
    """
    if neighbours:
        listed = ", ".join(f"{neighbour.pid} ({neighbour.name})" for neighbour in neighbours)
        raise UsageError(
            f"The accelerator is in use by another process: {listed}. Its work would be measured as the policy's. Wait "
            "or stop it; or measure all the same with --allow-shared, which marks the rows."
        )


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "?"

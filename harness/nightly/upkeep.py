"""Room on the disk: how much a night needs, and which nights nobody needs any more."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from harness.errors import NodeError
from harness.gate.baseline import read_baselines
from harness.ledger.storage import Location

NIGHT_NAME = re.compile(r"^\d{8}-\d{6}$")
"""Names of the folders that a nightly gate makes."""

FIRST_NIGHT_BYTES = 2**30
"""Room that a night is given when no earlier one tells how much it needs."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What may go."""

    nights: tuple[str, ...]
    """Paths, oldest first."""
    n_bytes: int

    def lines(self, *, dry_run: bool) -> list[str]:
        """What is, or would be, removed."""
        if not self.nights:
            return ["No night is old enough to be removed."]
        verb = "Would remove" if dry_run else "Removed"
        return [f"{verb} {len(self.nights)} nights ({self.n_bytes / 2**20:,.0f} MiB): {', '.join(self.nights)}"]


def list_nights(root: str) -> list[str]:
    """Names of the nights in a directory or bucket, oldest first."""
    location = Location.of(root)
    infos = location.filesystem.get_file_info(pafs.FileSelector(location.root, allow_not_found=True))
    return sorted(info.base_name for info in infos if not info.is_file and NIGHT_NAME.match(info.base_name))


def plan_pruning(root: str, keep: int) -> Pruning:
    """Choose the nights that may be removed: older than the last `keep`, and no baseline of any name, past or present.

    Args:
        root: Directory or bucket of the nights.
        keep: Nights that stay, at least 1.
    """
    accepted = {Location.of(record.path(root)).root for record in read_baselines(root)}
    place = root.rstrip("/")
    old = [f"{place}/{name}" for name in list_nights(root)[:-keep]]
    free = tuple(path for path in old if Location.of(path).root not in accepted)
    return Pruning(free, sum(_size(path) for path in free))


def prune(planned: Pruning) -> None:
    """Remove the nights of a plan."""
    for path in planned.nights:
        location = Location.of(path)
        location.filesystem.delete_dir(location.root)


def require_room(root: str) -> None:
    """Refuse a night that would fill the disk.

    Raises:
        NodeError: Less is free than half again the largest night of the last five; names both.
    """
    location = Location.of(root)
    if not location.is_local:
        return
    recent = [_size(f"{location.root}/{name}") for name in list_nights(root)[-5:]]
    needed = int(1.5 * max(recent)) if recent else FIRST_NIGHT_BYTES
    place = Path(location.root)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NodeError(
            f"{location.label!r} has {free / 2**30:.1f} GiB free, but a night needs up to {needed / 2**30:.1f} GiB. "
            "Make room, or have old nights removed with --keep."
        )


def _size(path: str) -> int:
    location = Location.of(path)
    selector = pafs.FileSelector(location.root, allow_not_found=True, recursive=True)
    return sum(info.size or 0 for info in location.filesystem.get_file_info(selector) if info.is_file)

"""Checkpoints in a folder that training writes to: which are there, which are written to their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.watch.checkpoints.files import File, FolderEntry, Tree, open_tree
from harness.watch.checkpoints.steps import AmbiguousNameError, step_in
from harness.watch.checkpoints.weights import WEIGHTS, BrokenCheckpointError, digest

CHECKPOINTS, MODEL, LAST = "checkpoints", "pretrained_model", "last"
"""LeRobot's names."""

MAX_NESTED = 4
"""How deep below a folder without checkpoints its runs are looked for: RUNS/DATE/TIME_NAME/checkpoints (Hydra)."""
MAX_FOLDERS = 200

Signature = tuple[File, ...]
"""What `stat` says of a checkpoint's files: it changes while training writes."""


@dataclass(frozen=True, slots=True)
class CheckpointCandidate:
    """A folder (or file) that looks like a checkpoint."""

    path: str
    """Folder that its files are relative to, inside the watched folder."""
    place: str
    """Absolute path or URI: what the policy loads."""
    step: int
    files: Signature
    finished_ns: int = 0
    """When LeRobot's `last` link was pointed at it, which happens after its last file; 0 when none points at it."""
    marked: bool = False
    """Whether it holds the done-marker that was asked for."""

    @property
    def written_ns(self) -> int:
        """Time of the latest change to a file, nanoseconds since 1970."""
        return max((file.mtime_ns for file in self.files), default=0)


@dataclass(frozen=True, slots=True)
class UnusableCheckpoint:
    """Something that is no usable checkpoint."""

    place: str
    reason: str


def scan(tree: Tree, marker: str | None = None) -> tuple[list[CheckpointCandidate], list[UnusableCheckpoint]]:
    """Look for checkpoints: `checkpoints/NNNNNN/pretrained_model` (LeRobot), `step_1000/`, `epoch-3.pt`; see `step_in`.

    Args:
        tree: The output folder of a training run, or its folder of checkpoints.
        marker: Name of a file that training writes into a checkpoint's folder when it is complete.

    Returns:
        Candidates by step, and what could not be looked at. Links to another checkpoint of the folder are no
        checkpoints of their own.
    """
    try:
        top = {entry.name: entry for entry in tree.entries("")}
        base = CHECKPOINTS if CHECKPOINTS in top and top[CHECKPOINTS].fault is None else ""
        entries = tree.entries(base) if base else list(top.values())
    except OSError as error:
        return [], [UnusableCheckpoint(tree.label, f"cannot be listed ({error.strerror or error})")]
    finished = {entry.link: entry.link_ns for entry in entries if entry.name == LAST and entry.link is not None}
    found: list[CheckpointCandidate] = []
    faults: list[UnusableCheckpoint] = []
    for entry in entries:
        path = f"{base}/{entry.name}" if base else entry.name
        try:
            step = step_of(entry)
        except AmbiguousNameError as error:
            if not entry.is_dir or _holds_weights(tree, path):
                faults.append(UnusableCheckpoint(tree.place(path), str(error)))
            continue
        if entry.fault is not None and (step is not None or entry.name == LAST):
            faults.append(UnusableCheckpoint(tree.place(path), entry.fault))
        if step is None or entry.fault is not None or entry.link is not None:
            continue
        try:
            found.append(_candidate(tree, entry, base, step, marker, finished.get(entry.name, 0)))
        except OSError as error:
            faults.append(UnusableCheckpoint(tree.place(path), f"cannot be read ({error.strerror or error})"))
    found, copies = _without_copies(found)
    faults += copies
    if not found and not faults and (runs := nested_runs(tree)):
        reason = (
            f"holds no checkpoint itself, but runs: watch one of them ({', '.join(tree.place(run) for run in runs)})"
        )
        faults.append(UnusableCheckpoint(tree.label, reason))
    return sorted(found, key=lambda one: (one.step, one.place)), faults


def nested_runs(tree: Tree) -> list[str]:
    """Folders below a watched one that hold a folder of checkpoints, as LeRobot and Hydra nest them by date."""
    found: list[str] = []
    level, seen = [""], 0
    for _ in range(MAX_NESTED):
        below: list[str] = []
        for path in level:
            seen += 1
            if seen > MAX_FOLDERS:
                return found
            try:
                inside = [entry.name for entry in tree.entries(path) if entry.is_dir and entry.link is None]
            except OSError:
                continue
            if path and CHECKPOINTS in inside:
                found.append(path)
            else:
                below += [f"{path}/{name}" if path else name for name in inside]
        level = below
    return found


def _without_copies(
    found: list[CheckpointCandidate],
) -> tuple[list[CheckpointCandidate], list[UnusableCheckpoint]]:
    """Leave out averaged copies (EMA) that stand beside the weights of the same step: one step has one result."""
    kept: dict[int, CheckpointCandidate] = {}
    left: list[UnusableCheckpoint] = []
    for one in sorted(found, key=lambda one: ("ema" in one.place.rpartition("/")[2].lower(), one.place)):
        name = one.place.rpartition("/")[2].lower()
        if one.step in kept and "ema" in name:
            reason = f"is a copy of step {one.step}, of which {kept[one.step].place} is evaluated; submit it yourself"
            left.append(UnusableCheckpoint(one.place, reason))
        else:
            kept.setdefault(one.step, one)
    dropped = {one.place for one in left}
    return [one for one in found if one.place not in dropped], left


def _holds_weights(tree: Tree, path: str) -> bool:
    try:
        return any(entry.name.endswith(WEIGHTS) or entry.name == MODEL for entry in tree.entries(path))
    except OSError:
        return False


def step_of(entry: FolderEntry) -> int | None:
    """The training step in the name of something in a folder. None for names without, and for files without weights.

    Raises:
        AmbiguousNameError: Its name has several numbers.
    """
    name = entry.name
    if name.startswith("."):
        return None
    if not entry.is_dir:
        ending = next((ending for ending in WEIGHTS if name.endswith(ending)), None)
        if ending is None and entry.fault is None:
            return None
        name = name.removesuffix(ending or "")
    return step_in(name)


def is_settled(
    candidate: CheckpointCandidate, *, marker: str | None, now_s: float, unchanged_s: float, quiet_s: float
) -> bool:
    """Whether a checkpoint has been written to its end.

    With a marker, when the marker is there. Otherwise when `last` was pointed at it after its files were written, or
    when nothing has changed for the quiet period: by one's own clock, or by the files' times.

    Args:
        candidate: Checkpoint that training may still be writing.
        marker: Name of the done-marker, if one was asked for.
        now_s: Time of day, seconds since 1970.
        unchanged_s: For how long its files have been seen unchanged, seconds.
        quiet_s: The quiet period, seconds.
    """
    if marker is not None:
        return candidate.marked
    if not candidate.files:
        return False
    return (
        candidate.finished_ns >= candidate.written_ns or max(unchanged_s, now_s - candidate.written_ns / 1e9) >= quiet_s
    )


def inspect(tree: Tree, candidate: CheckpointCandidate) -> str:
    """Check a candidate's files and digest them; see `harness.watch.checkpoints.weights.digest`.

    Raises:
        BrokenCheckpointError: It is not whole, cannot be read, or is gone.
    """
    base = candidate.path
    try:
        return digest(candidate.files, lambda name: tree.open("/".join(part for part in (base, name) if part)))
    except OSError as error:
        raise BrokenCheckpointError(f"cannot be read ({error.strerror or error})") from error


def digest_place(place: str, marker: str | None = None) -> tuple[str, int]:
    """Check and digest a checkpoint by its path or URI, be it a folder or a file.

    Returns:
        The digest, and when its files were last written, nanoseconds since 1970.

    Raises:
        FileNotFoundError: It is gone.
        OSError: It cannot be read.
        BrokenCheckpointError: It is not whole.
    """
    tree = open_tree(place)
    files = tuple(file for file in tree.files("") if file.path != marker)
    if [file.path for file in files] == [""]:
        folder, _, name = place.rpartition("/")
        tree, files = open_tree(folder), (replace(files[0], path=name),)
    return digest(files, tree.open), max((file.mtime_ns for file in files), default=0)


def _candidate(
    tree: Tree, entry: FolderEntry, base: str, step: int, marker: str | None, finished_ns: int
) -> CheckpointCandidate:
    path = f"{base}/{entry.name}" if base else entry.name
    if not entry.is_dir:
        files = tuple(replace(file, path=entry.name) for file in tree.files(path))
        return CheckpointCandidate(base, tree.place(path), step, files)
    inside: Mapping[str, FolderEntry] = {one.name: one for one in tree.entries(path)}
    model = f"{path}/{MODEL}" if MODEL in inside and inside[MODEL].is_dir else path
    files = tree.files(model)
    marked = marker is not None and (marker in inside or marker in {file.path for file in files})
    kept = tuple(file for file in files if file.path != marker)
    return CheckpointCandidate(model, tree.place(model), step, kept, finished_ns, marked)

"""What is expensive to compute, kept on this machine: folders by digest, written whole, checked, bounded.

The folder belongs to this user alone (mode 0700), so that nobody else can put anything into it; what is read is checked
against the digest that was noted when it was written. A cache that cannot be used is not used: nothing here raises.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER_VARIABLE = "VLA_HARNESS_CACHE"
"""Environment: the folder in place of `$XDG_CACHE_HOME/vla-harness`; empty for none at all."""
LIMIT_VARIABLE = "VLA_HARNESS_CACHE_GB"
LIMIT_GB = 8.0
"""What the four evaluation suites of LIBERO take (40 tasks of about 100 MB, their textures) with room to spare."""
_NOTE = "digests.json"
_PARTIAL = "partial-"


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Folders by digest. Several processes may read and write at the same time."""

    folder: Path
    limit_bytes: float

    def get(self, key: str) -> Path | None:
        """The folder of an entry whose files are as they were written; None when there is none."""
        place = self.folder / key
        try:
            note = json.loads((place / _NOTE).read_text(encoding="utf-8"))
            whole = bool(note) and all(_sha256(place / name) == digest for name, digest in note.items())
            if whole:
                os.utime(place)
        except (OSError, ValueError, AttributeError):
            whole = False
        if not whole and place.exists():
            self._remove(place)
        return place if whole else None

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Keep what `write` puts into the folder that it is given. The first of several writers wins.

        A failure leaves nothing behind and is not reported: the next process tries again.
        """
        place = self.folder / key
        if place.exists():
            return
        partial = None
        try:
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
            write(partial)
            note = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
            (partial / _NOTE).write_text(json.dumps(note), encoding="utf-8")
            self._make_room(_size(partial))
            partial.rename(place)
        except OSError:
            # Another writer was first, or the disk is full.
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
        except BaseException:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    def _make_room(self, wanted: float) -> None:
        """Remove what was not used for the longest, until `wanted` bytes fit too, and what dead writers left."""
        found = sorted((path.stat().st_mtime, path) for path in self.folder.iterdir() if path.is_dir())
        sizes = {path: _size(path) for _, path in found if not path.name.startswith(_PARTIAL)}
        newest = found[-1][0] if found else 0.0
        for used, path in found:
            stale = path.name.startswith(_PARTIAL) and newest - used > _STALE_S
            if stale or (path in sizes and sum(sizes.values()) + wanted > self.limit_bytes):
                sizes.pop(path, None)
                self._remove(path)

    def _remove(self, place: Path) -> None:
        """Take an entry out of sight at once, and then delete it."""
        with contextlib.suppress(OSError):
            grave = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
            with contextlib.suppress(OSError):
                place.rename(grave / "removed")
            shutil.rmtree(grave, ignore_errors=True)


_STALE_S = 3600.0
"""Age beyond which a partial entry belongs to a writer that died, seconds."""


def open_cache(name: str) -> DiskCache | None:
    """This user's cache of a kind; None where none may or can be kept."""
    limit = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit_bytes = float(limit or LIMIT_GB) * 1e9
        root = cache_folder()
        if root is None or not limit_bytes > 0:
            return None
        folder = root / name
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError, ValueError):
        return None
    private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    usable = private and not folder.is_symlink() and os.access(folder, os.W_OK)
    return DiskCache(folder, limit_bytes) if usable else None


def cache_folder() -> Path | None:
    """Where this project keeps what it can make again; None when the environment says nowhere."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vla-harness"


def file_stamps(paths: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    """(path, size, time of change in ns) of files, by which a changed one is recognised; sizes of -1 for none."""
    return list(_stamps(sorted({str(path) for path in paths})))


def _stamps(paths: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    for path in paths:
        try:
            status = os.stat(path)
            yield path, status.st_size, status.st_mtime_ns
        except OSError:
            yield path, -1, -1


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return float(sum(path.stat().st_size for path in folder.iterdir()))
    return 0.0

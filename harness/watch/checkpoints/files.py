"""Folders that training writes: on a local disk, where links need care, or behind any `pyarrow.fs` URI."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from harness.ledger.storage import Location

MAX_FILES = 10_000
"""Files of one checkpoint; more than that is a dataset, or a link into one."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a checkpoint."""

    path: str
    """Relative to the checkpoint's folder."""
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """Something in a folder."""

    name: str
    is_dir: bool = False
    link: str | None = None
    """Where a link in this folder points to, when it is to another entry of the folder (LeRobot's `last`)."""
    link_ns: int = 0
    """When the link was made, nanoseconds since 1970."""
    fault: str | None = None
    """Why it cannot be looked at."""


class Tree(Protocol):
    """A folder and what lies below it. Paths are relative to it, "" is the folder itself."""

    label: str
    """As the user wrote it."""

    def place(self, path: str) -> str:
        """Absolute path or URI of something in it."""
        ...

    def entries(self, path: str) -> list[FolderEntry]:
        """What lies in a folder, by name; empty when it is not there.

        Raises:
            OSError: It cannot be listed.
        """
        ...

    def files(self, path: str) -> tuple[File, ...]:
        """Every file below a folder (or the file itself, as ""), by path.

        Raises:
            OSError: Something below it cannot be looked at, or it is gone.
        """
        ...

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading at any offset.

        Raises:
            OSError: It cannot be opened.
        """
        ...


def open_tree(path: str) -> Tree:
    """Open a local folder or a URI.

    Raises:
        LedgerError: A URI with an unknown scheme.
    """
    return ArrowTree(Location.of(path)) if "://" in path else LocalTree(Path(os.path.abspath(os.path.expanduser(path))))


class LocalTree:
    """A folder on a disk of this machine, NFS included."""

    def __init__(self, root: Path) -> None:
        """Point at a folder."""
        self.root, self.label = root, str(root)

    def place(self, path: str) -> str:
        """Absolute path."""
        return str(self.root / path) if path else str(self.root)

    def entries(self, path: str) -> list[FolderEntry]:
        """What lies in a folder; see `Tree.entries`."""
        try:
            with os.scandir(self.root / path) as found:
                return sorted((self._entry(one) for one in found), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []

    def files(self, path: str) -> tuple[File, ...]:
        """Every file below a folder; see `Tree.files`."""
        top = self.root / path
        if not top.is_dir():
            status = top.stat()
            return (File("", status.st_size, status.st_mtime_ns),)
        found: list[File] = []
        # Links are followed for files only: weights may be links into a cache, but a folder may be linked to itself.
        for folder, _, names in os.walk(top, onerror=_raise):
            for name in names:
                status = os.stat(os.path.join(folder, name))
                relative = os.path.relpath(os.path.join(folder, name), top)
                found.append(File(relative, status.st_size, status.st_mtime_ns))
            _require_few(len(found), str(top))
        return tuple(sorted(found, key=lambda file: file.path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file."""
        return open(self.root / path, "rb")

    def _entry(self, found: os.DirEntry[str]) -> FolderEntry:
        try:
            link = self._link(found) if found.is_symlink() else None
            made_ns = found.stat(follow_symlinks=False).st_mtime_ns if link is not None else 0
            return FolderEntry(found.name, stat.S_ISDIR(os.stat(found.path).st_mode), link, made_ns)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return FolderEntry(found.name, fault="is a symbolic link that leads to itself")
            if error.errno == errno.ENOENT and found.is_symlink():
                return FolderEntry(found.name, fault="is a symbolic link to something that is gone")
            return FolderEntry(found.name, fault=f"cannot be looked at ({error.strerror})")

    def _link(self, found: os.DirEntry[str]) -> str | None:
        target = os.path.normpath(os.path.join(os.path.dirname(found.path), os.readlink(found.path)))
        same_folder = os.path.dirname(target) == os.path.normpath(os.path.dirname(found.path))
        return os.path.basename(target) if same_folder else None


class ArrowTree:
    """A folder in a store that pyarrow reaches."""

    def __init__(self, location: Location) -> None:
        """Point at a folder."""
        self._location, self.label = location, location.label.rstrip("/")

    def place(self, path: str) -> str:
        """URI, in the form in which the folder was given."""
        return f"{self.label}/{path}" if path else self.label

    def entries(self, path: str) -> list[FolderEntry]:
        """What lies in a folder; see `Tree.entries`."""
        infos = self._infos(path, recursive=False)
        return sorted(
            (FolderEntry(info.base_name, is_dir=not info.is_file) for info in infos), key=lambda entry: entry.name
        )

    def files(self, path: str) -> tuple[File, ...]:
        """Every file below a folder; see `Tree.files`."""
        top = self._full(path)
        own = self._location.filesystem.get_file_info(top)
        if own.is_file:
            return (File("", own.size, own.mtime_ns or 0),)
        infos = self._infos(path, recursive=True)
        _require_few(len(infos), self.place(path))
        if not infos:
            raise FileNotFoundError(errno.ENOENT, "gone", self.place(path))
        found = [File(info.path[len(top) + 1 :], info.size, info.mtime_ns or 0) for info in infos if info.is_file]
        return tuple(sorted(found, key=lambda file: file.path))

    def open(self, path: str) -> IO[bytes]:
        """Open a file."""
        opened: IO[bytes] = self._location.filesystem.open_input_file(self._full(path))
        return opened

    def _infos(self, path: str, *, recursive: bool) -> list[Any]:
        import pyarrow.fs as pafs

        selector = pafs.FileSelector(self._full(path), recursive=recursive, allow_not_found=True)
        return list(self._location.filesystem.get_file_info(selector))

    def _full(self, path: str) -> str:
        return f"{self._location.root}/{path}" if path else self._location.root


@contextmanager
def local_copy(place: str, scratch: Path) -> Iterator[str]:
    """A checkpoint as a local path: itself, or a download that is removed again.

    Args:
        place: Local path or URI of a checkpoint.
        scratch: Folder for downloads.

    Raises:
        OSError: It cannot be downloaded.
    """
    if "://" not in place:
        yield place
        return
    import shutil
    import tempfile

    import pyarrow.fs as pafs

    source = Location.of(place)
    scratch.mkdir(parents=True, exist_ok=True)
    target = tempfile.mkdtemp(prefix="checkpoint-", dir=scratch)
    try:
        pafs.copy_files(source.root, target, source.filesystem, pafs.LocalFileSystem())
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _raise(error: OSError) -> None:
    raise error


def _require_few(n: int, place: str) -> None:
    if n > MAX_FILES:
        raise OSError(errno.E2BIG, f"more than {MAX_FILES:,} files, which is no checkpoint", place)

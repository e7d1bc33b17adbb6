"""Where a ledger lies: a local directory or any `pyarrow.fs` URI, with parts that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from harness.errors import LedgerError
from harness.object_store import impatient, require_answer

PART = re.compile(r"^part-.+\.parquet$")
"""File names that readers take for parts. A part being written has another name."""

STORE_ERRORS = (OSError, pa.ArrowException)
"""What the file systems of `pyarrow.fs` raise; most are `OSError`, Azure's are not."""
SHOWN = 300
"""Characters of a file system's complaint that are repeated."""

# Object stores show an object only when its upload has ended, and have no rename: there the temporary name would only
# cost a copy.
_ATOMIC_STORES = frozenset({"s3", "gcs", "abfs"})


@dataclass(frozen=True)
class Location:
    """A directory on some file system."""

    filesystem: Any
    """A `pyarrow.fs.FileSystem`."""
    root: str
    """Directory inside it, without a trailing slash."""
    label: str
    """The directory as the user wrote it, for messages."""
    noun: str = "ledger"
    """What is kept there, for messages."""
    option: str = "--out"
    """The option that named it, for messages."""

    @classmethod
    def of(cls, path: str | Path, filesystem: Any = None) -> Location:
        """Resolve a local path or a URI (`file://`, `s3://`, `gs://`, `abfss://`, `hdfs://`).

        Args:
            path: Directory; `~` is expanded in local paths.
            filesystem: A `pyarrow.fs.FileSystem` to use with `path` as it is, for stores that no URI can describe.

        Raises:
            LedgerError: The URI has a scheme that pyarrow does not know, or it does not parse.
        """
        text = str(path)
        if filesystem is not None:
            return cls(filesystem, text.rstrip("/"), text)
        if "://" not in text:
            return cls(pafs.LocalFileSystem(), str(Path(text).expanduser().absolute()), text)
        try:
            resolved, root = pafs.FileSystem.from_uri(impatient(text))
        except (*STORE_ERRORS, ValueError) as error:
            raise LedgerError(
                f"The ledger URI {text!r} cannot be opened: {_first_line(error)}. "
                "Use a local path, or a URI that pyarrow.fs knows (file://, s3://, gs://, abfss://, hdfs://)."
            ) from error
        return cls(resolved, root.rstrip("/"), text)

    @property
    def is_local(self) -> bool:
        """Whether files can be reached with `os` calls."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def partition_warning(self) -> str | None:
        """What to say of a directory whose folders look like partitions; None of any other."""
        folders = [part for part in self.root.split("/") if re.fullmatch(r"[^=]+=[^=]*", part)]
        if not folders:
            return None
        return (
            f"{self.label!r} lies in a folder named {folders[-1]!r}: DuckDB, polars and pyarrow take KEY=VALUE folders "
            "for columns. Read its tables with hive_partitioning = false, or give another --out."
        )

    def table_dir(self, table: str) -> str:
        """Directory of one table's parts."""
        return f"{self.root}/{table}"

    def exists(self) -> bool:
        """Whether the directory itself is there."""
        try:
            require_answer(self.label, os.environ)
            return bool(self.filesystem.get_file_info(self.root).type == pafs.FileType.Directory)
        except STORE_ERRORS as error:
            raise self.failure("look at", error) from error

    def parts(self, table: str) -> list[str]:
        """Full paths of a table's parts, oldest first (their names begin with the time of writing)."""
        try:
            selector = pafs.FileSelector(self.table_dir(table), allow_not_found=True)
            infos = self.filesystem.get_file_info(selector)
        except STORE_ERRORS as error:
            raise self.failure("list", error) from error
        return sorted(info.path for info in infos if info.is_file and PART.match(info.base_name))

    def make_dir(self, path: str) -> None:
        """Create a directory and its parents; one that exists is fine."""
        absent = self._absent(path)
        try:
            self.filesystem.create_dir(path, recursive=True)
            for place in absent:
                sync_folder(place.parent)
        except STORE_ERRORS as error:
            raise self.failure("create", error) from error

    def write_file(self, name: str, data: pa.Buffer | str) -> str:
        """Write a file whose name is relative to this directory, and the folders above it, whole; returns its path."""
        path = f"{self.root}/{name}"
        self.make_dir(path.rpartition("/")[0])
        self.write_whole(path, pa.py_buffer(data.encode()) if isinstance(data, str) else data)
        return path

    def try_make(self) -> None:
        """Make sure that the directory can be there; one that was not is taken away again.

        Raises:
            LedgerError: It cannot be made; names the location and the remedy.
        """
        if self.exists():
            return
        absent = self._absent(self.root)
        self.make_dir(self.root)
        for place in absent:
            with suppress(OSError):
                # Not empty: somebody else has begun to write there.
                place.rmdir()

    def _absent(self, path: str) -> list[Path]:
        """Local folders that have to be made for a path, the innermost first."""
        return [place for place in (Path(path), *Path(path).parents) if not place.exists()] if self.is_local else []

    def write_whole(self, path: str, data: pa.Buffer) -> None:
        """Write a file so that readers see it whole or not at all, also after a crash or power loss.

        Raises:
            LedgerError: Names the location and the remedy.
        """
        try:
            if self.is_local:
                _write_local(path, data)
            else:
                self.write_blocks(path, [data])
        except STORE_ERRORS as error:
            raise self.failure("write", error) from error

    def write_blocks(self, path: str, blocks: Iterable[Any]) -> None:
        """Write a file to a store that is no local disk, block by block, so that readers see it whole or not at all.

        Raises:
            LedgerError: Names the location and the remedy.
        """
        whole = self.filesystem.type_name in _ATOMIC_STORES
        written = path if whole else _temporary_name(path)
        try:
            stream = self.filesystem.open_output_stream(written, compression=None)
            try:
                for block in blocks:
                    stream.write(block)
            except BaseException:
                # A stream cannot be dropped, only closed, and that shows what came so far as if it were all.
                with suppress(*STORE_ERRORS):
                    stream.close()
                with suppress(*STORE_ERRORS):
                    self.filesystem.delete_file(written)
                raise
            stream.close()
            if not whole:
                self.filesystem.move(written, path)
        except STORE_ERRORS as error:
            raise self.failure("write", error) from error

    def failure(self, verb: str, error: Exception) -> LedgerError:
        """Build the error for a failed file operation: what, where, and the remedy that fits its cause."""
        other = f"give another {self.option}"
        remedies = {
            errno.ENOSPC: f"The disk is full: free some space or {other}",
            errno.EDQUOT: f"The disk quota is used up: free some space or {other}",
            errno.EFBIG: f"The file system or a limit (ulimit -f) refuses files of this size: {other}",
            errno.EROFS: f"The file system is read-only: {other}",
            errno.EACCES: f"Permission denied: change its owner or mode, or {other}",
            errno.EPERM: f"Permission denied: change its owner or mode, or {other}",
            errno.ENOTDIR: f"A file stands where a directory has to be: move it or {other}",
            errno.EEXIST: f"A file stands where a directory has to be: move it or {other}",
        }
        remedy = remedies.get(getattr(error, "errno", None) or 0, f"Check the path and its permissions, or {other}")
        return LedgerError(f"Cannot {verb} the {self.noun} {self.label!r} ({_first_line(error)}). {remedy}.")


def sync_folder(folder: Path) -> None:
    """Have a folder's own entries on disk: without it, a file renamed into it may be gone after a loss of power.

    Raises:
        OSError: The disk failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync no folders, and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _write_local(path: str, data: pa.Buffer) -> None:
    temporary = _temporary_name(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        sync_folder(Path(path).parent)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _temporary_name(path: str) -> str:
    directory, _, name = path.rpartition("/")
    # One of its own every time: what a killed process left behind must not stand in the next one's way.
    return f"{directory}/.{name}.{uuid.uuid4().hex[:8]}.tmp"


def _first_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"

"""Copy a ledger so that nothing can be lost: every byte is verified, nothing at the destination is touched."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from harness.errors import LedgerError, UsageError
from harness.ledger.parts import locate_ledger
from harness.ledger.storage import STORE_ERRORS, Location, sync_folder

BLOCK = 4 * 2**20

DERIVED = "summary/"
"""Folder of aggregates: every run writes it again, so a copy would differ from its source; it is made again there."""


@dataclass
class CopyResult:
    """What a copy found and did. Paths are relative to the ledger."""

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    """At the destination already, with equal contents."""
    differing: list[str] = field(default_factory=list)
    """At the destination with other contents: left as they are."""
    only_there: list[str] = field(default_factory=list)
    """Only at the destination: left as they are."""
    bytes_copied: int = 0
    sha256: dict[str, str] = field(default_factory=dict)
    """Of every file of the source."""


def copy_ledger(
    source: str | Path,
    target: str | Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    skip: Collection[str] = (),
) -> CopyResult:
    """Copy every file of a ledger that the destination lacks, and verify each by its SHA-256.

    A copy that was cut off goes on where it stopped: files appear whole, and what is there is compared, not copied
    again. Nothing at the destination is deleted or overwritten.

    Args:
        source: Ledger; path or URI.
        target: Directory or URI, created if missing.
        say: Takes a line per copied file.
        skip: Folders of the ledger to leave out.

    Raises:
        NoLedgerError: No ledger at `source`.
        LedgerError: Reading or writing failed; or a copy does not read back as it was written.
        UsageError: One of the two lies inside the other.
    """
    origin, there = Location.of(source), Location.of(target)
    _refuse_nesting(origin, there)
    locate_ledger(source)
    ours = {name: size for name, size in _files(origin).items() if name.partition("/")[0] not in skip}
    # The table of runs comes last: a copy without it is visibly not a whole ledger.
    order = sorted(ours, key=lambda name: (name.startswith("runs/"), name))
    return copy_files(origin, there, {name: ours[name] for name in order}, say)


def copy_files(
    origin: Location,
    there: Location,
    ours: Mapping[str, int],
    say: Callable[[str], None] = lambda line: None,
    expected: Mapping[str, str] | None = None,
) -> CopyResult:
    """Copy files that the destination lacks, in the order given; see `copy_ledger`.

    Args:
        origin: Where they lie.
        there: Where to.
        ours: Path → size, relative to both.
        say: Takes a line per copied file.
        expected: Path → SHA-256 that a file of the origin has to have; of those that it names.

    Raises:
        LedgerError: Reading or writing failed; a file of the origin is not what was expected; or a copy does not read
            back as it was written.
        UsageError: One of the two lies inside the other.
    """
    _refuse_nesting(origin, there)
    theirs = _files(there)
    result = CopyResult(only_there=sorted(set(theirs) - set(ours)))
    for name, size in ours.items():
        wanted = _sha256(origin, name)
        if wanted != (expected or {}).get(name, wanted):
            raise LedgerError(
                f"{origin.label}/{name} is not what was written there: its SHA-256 is {wanted[:12]}…, and "
                f"{expected[name][:12]}… was noted. It was damaged or replaced; nothing of it was copied."  # type: ignore[index]
            )
        if name in theirs:
            (result.present if _sha256(there, name) == wanted else result.differing).append(name)
        else:
            _copy(origin, there, name, wanted)
            if _sha256(there, name) != wanted:
                raise LedgerError(
                    f"{there.label}/{name} does not read back as it was written. Check the disk or network, move that "
                    "file away, and copy again."
                )
            result.copied.append(name)
            result.bytes_copied += size
            say(name)
        result.sha256[name] = wanted
    return result


def _refuse_nesting(origin: Location, there: Location) -> None:
    if origin.filesystem.type_name != there.filesystem.type_name:
        return
    inside = f"{there.root}/".startswith(f"{origin.root}/") or f"{origin.root}/".startswith(f"{there.root}/")
    if inside:
        raise UsageError(f"{origin.label!r} and {there.label!r} lie inside one another; name a destination elsewhere.")


def _files(location: Location) -> dict[str, int]:
    """Path → size of every finished file but the derived ones; those being written have names that begin with a dot."""
    try:
        selector = pafs.FileSelector(location.root, recursive=True, allow_not_found=True)
        infos = location.filesystem.get_file_info(selector)
    except STORE_ERRORS as error:
        raise location.failure("list", error) from error
    return {
        info.path[len(location.root) + 1 :]: info.size
        for info in infos
        if info.is_file
        and not info.base_name.startswith(".")
        and not info.path[len(location.root) + 1 :].startswith(DERIVED)
    }


def _sha256(location: Location, name: str) -> str:
    state = hashlib.sha256()
    try:
        with _opened(location, name) as stream:
            while block := stream.read(BLOCK):
                state.update(block)
    except STORE_ERRORS as error:
        raise location.failure(f"read {name} of", error) from error
    return state.hexdigest()


def _copy(origin: Location, there: Location, name: str, sha256: str) -> None:
    folder = f"{there.root}/{name}".rpartition("/")[0]
    there.make_dir(folder)
    if there.is_local:
        _write_new(origin, there, name, sha256)
        return
    with _opened(origin, name) as stream:
        there.write_blocks(f"{there.root}/{name}", iter(lambda: stream.read(BLOCK), b""))


def _write_new(origin: Location, there: Location, name: str, sha256: str) -> None:
    """Write a local file that did not exist; somebody else's file of that name, however new, stays.

    What a copy that was cut off has written of it is gone on with; the digest of the whole decides whether it was good.
    """
    folder, _, base = f"{there.root}/{name}".rpartition("/")
    partial = Path(folder) / f".copy-{sha256[:16]}-{base}"
    try:
        with _opened(origin, name) as stream, partial.open("ab") as sink:
            stream.seek(sink.tell())
            while block := stream.read(BLOCK):
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        if digest_file(partial) != sha256:
            partial.unlink(missing_ok=True)
            raise LedgerError(
                f"{there.label}/{name} does not read back as it was written. Check the disk or network, and copy again."
            )
        # A link, unlike a rename, never replaces anything.
        os.link(partial, f"{there.root}/{name}")
    except FileExistsError as error:
        partial.unlink(missing_ok=True)
        raise LedgerError(f"{there.label}/{name} appeared while it was being copied. Copy again to compare.") from error
    except OSError as error:
        if not partial.exists() or error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EXDEV):
            raise there.failure(f"copy {name} to", error) from error
        os.rename(partial, f"{there.root}/{name}")
    partial.unlink(missing_ok=True)
    sync_folder(Path(folder))


@contextmanager
def _opened(location: Location, name: str) -> Iterator[Any]:
    try:
        stream = location.filesystem.open_input_file(f"{location.root}/{name}")
    except STORE_ERRORS as error:
        raise location.failure(f"read {name} of", error) from error
    with stream:
        yield stream


def digest_file(path: Path) -> str:
    """SHA-256 of a local file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

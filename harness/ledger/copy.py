"""Copy a ledger so that nothing can be lost: every byte is verified, nothing at the destination is touched."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from harness.errors import LedgerError, UsageError
from harness.ledger.parts import locate_ledger
from harness.ledger.storage import Location

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
    theirs = _files(there)
    result = CopyResult(only_there=sorted(set(theirs) - set(ours)))
    # The table of runs comes last: a copy without it is visibly not a whole ledger.
    for name in sorted(ours, key=lambda name: (name.startswith("runs/"), name)):
        wanted = _sha256(origin, name)
        if name in theirs:
            (result.present if _sha256(there, name) == wanted else result.differing).append(name)
            continue
        _copy(origin, there, name)
        if _sha256(there, name) != wanted:
            raise LedgerError(
                f"{there.label}/{name} does not read back as it was written. Check the disk or network, move that file "
                "away, and copy again."
            )
        result.copied.append(name)
        result.bytes_copied += ours[name]
        say(name)
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
    except OSError as error:
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
        with location.filesystem.open_input_file(f"{location.root}/{name}") as stream:
            while block := stream.read(BLOCK):
                state.update(block)
    except OSError as error:
        raise location.failure(f"read {name} of", error) from error
    return state.hexdigest()


def _copy(origin: Location, there: Location, name: str) -> None:
    folder = f"{there.root}/{name}".rpartition("/")[0]
    there.make_dir(folder)
    try:
        with origin.filesystem.open_input_file(f"{origin.root}/{name}") as stream:
            data: Any = stream.read_buffer() if hasattr(stream, "read_buffer") else pa.py_buffer(stream.read())
    except OSError as error:
        raise origin.failure(f"read {name} of", error) from error
    if there.is_local:
        _write_new(there, name, data)
    else:
        there.write_whole(f"{there.root}/{name}", data)


def _write_new(there: Location, name: str, data: Any) -> None:
    """Write a local file that did not exist; somebody else's file of that name, however new, stays."""
    folder, _, base = f"{there.root}/{name}".rpartition("/")
    temporary = f"{folder}/.copy-{uuid.uuid4().hex[:8]}-{base}"
    there.write_whole(temporary, data)
    try:
        # A link, unlike a rename, never replaces anything.
        os.link(temporary, f"{there.root}/{name}")
    except FileExistsError as error:
        raise LedgerError(f"{there.label}/{name} appeared while it was being copied. Copy again to compare.") from error
    except OSError:
        os.rename(temporary, f"{there.root}/{name}")
        return
    finally:
        Path(temporary).unlink(missing_ok=True)

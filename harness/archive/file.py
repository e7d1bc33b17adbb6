"""One archive: `record.json`, and the ledger's tables, in a zip file."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from harness.archive.contents import FORMAT, record_of
from harness.errors import LedgerError, UsageError
from harness.ledger.compact import compact_ledger
from harness.ledger.reader import Ledger
from harness.ledger.schema import TABLES
from harness.strict_json import read_object

RECORD = "record.json"
PART = re.compile(rf"ledger/({'|'.join(TABLES)})/part-[\w.-]{{1,200}}\.parquet")
"""Members besides the record; nothing else is taken out of an archive."""
MAX_RECORD_BYTES, MAX_LEDGER_BYTES = 64 * 2**20, 8 * 2**30


class Written(NamedTuple):
    """What an export wrote."""

    episodes: int
    bytes: int
    sha256: str
    fixtures: Mapping[str, str | None]


class Archive(NamedTuple):
    """An archive that was opened."""

    record: Mapping[str, Any]
    ledger: str
    """Directory of its tables, for as long as the archive is open."""


def export_ledger(source: str, target: Path, *, harness_version: str, now: datetime) -> Written:
    """Write the archive of a ledger.

    Args:
        source: Ledger; path or URI. It is not changed.
        target: File to write.
        harness_version: Of this installation.
        now: Time of day, UTC.

    Raises:
        NoLedgerError: No ledger at `source`.
        UsageError: The ledger cannot be run again, or the file exists or cannot be written.
    """
    if target.exists():
        raise UsageError(f"{target} exists; name another file with --out, or remove it.")
    ledger = Ledger(source)
    record = record_of(ledger, harness_version=harness_version, exported_at=now)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as held:
            folder = Path(held)
            compact_ledger(source, str(folder / "ledger"))
            partial = folder / "archive"
            _write(partial, record, folder)
            partial.rename(target)
    except OSError as error:
        raise UsageError(f"Cannot write {target}: {error.strerror}. Name another file with --out.") from error
    return Written(len(record["episodes"]), target.stat().st_size, _digest(target), record["fixtures"])


def _write(target: Path, record: Mapping[str, Any], folder: Path) -> None:
    parts = sorted(path for path in (folder / "ledger").glob("*/part-*.parquet") if path.parent.name in TABLES)
    names = {path: path.relative_to(folder).as_posix() for path in parts}
    whole = {**record, "files": {names[path]: _digest(path) for path in parts}}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(RECORD, json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False))
        for path in parts:
            # Parquet is compressed already.
            archive.write(path, names[path], zipfile.ZIP_STORED)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive of others: only known members are taken out, and each has to be what the record says.

    Raises:
        UsageError: There is no such file, or it is no archive of this kind or version.
        LedgerError: A member is not what the record says.
    """
    with tempfile.TemporaryDirectory(prefix="harness-archive-") as held:
        try:
            with zipfile.ZipFile(path) as archive:
                record = _read_record(archive, path)
                _extract(archive, record, Path(held), path)
        except FileNotFoundError:
            raise UsageError(f"There is no file {path}.") from None
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise UsageError(f"{path} is no archive of `harness export` ({error}).") from error
        yield Archive(record, str(Path(held) / "ledger"))


def _read_record(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        member = archive.getinfo(RECORD)
    except KeyError:
        raise UsageError(f"{path} holds no {RECORD}; it is no archive of `harness export`.") from None
    if member.file_size > MAX_RECORD_BYTES:
        raise UsageError(
            f"The {RECORD} of {path} has {member.file_size:,} bytes; at most {MAX_RECORD_BYTES:,} are read."
        )
    try:
        record = read_object(archive.read(member))
    except ValueError as error:
        raise UsageError(f"The {RECORD} of {path} cannot be read: {error}") from error
    if record.get("format") != FORMAT:
        raise UsageError(
            f"{path} is of format {record.get('format')!r}, written by vla-harness {record.get('harness')!r}; this "
            f"installation reads format {FORMAT}."
        )
    shapes: dict[str, type] = {
        "suite": str,
        "runs": list,
        "nodes": list,
        "episodes": list,
        "fixtures": dict,
        "files": dict,
    }
    for name, kind in shapes.items():
        if not isinstance(record.get(name), kind):
            raise UsageError(f"The {RECORD} of {path} has no {name!r} of the right form; it is no whole archive.")
    return record


def _extract(archive: zipfile.ZipFile, record: Mapping[str, Any], folder: Path, path: Path) -> None:
    left = MAX_LEDGER_BYTES
    for name, expected in record["files"].items():
        if not PART.fullmatch(name):
            raise LedgerError(f"{path} names a member {name[:80]!r}, which no archive of `harness export` has.")
        try:
            member = archive.getinfo(name)
        except KeyError:
            raise LedgerError(f"{path} lacks {name}, which its record names.") from None
        left -= member.file_size
        if left < 0:
            raise LedgerError(f"The tables of {path} take more than {MAX_LEDGER_BYTES:,} bytes, and are not taken out.")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("wb") as out:
            while chunk := source.read(2**20):
                out.write(chunk)
        if _digest(target) != expected:
            raise LedgerError(
                f"{name} of {path} is not what its record says (SHA-256); the archive was damaged or changed."
            )


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as source:
        while chunk := source.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()

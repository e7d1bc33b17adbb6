"""Append to a ledger: every call writes one whole part, and what is written is never touched again."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import harness
from harness.errors import LedgerError
from harness.ledger.claim import check_claim
from harness.ledger.conform import to_table
from harness.ledger.parts import VERSION_KEY
from harness.ledger.schema import SCHEMA_VERSION
from harness.ledger.storage import Location

MIN_FREE_BYTES = 64 * 2**20
"""Least free disk space with which a run may start. A 500-episode ledger takes under 1 MB; videos take more."""

WRITER_KEY = b"vla_harness.version"
"""Key of the writing harness's version in a part's file metadata."""


def utc_now() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


class LedgerWriter:
    """Appends to the ledger in one directory. Several writers may append to the same ledger at once.

    Nothing is created before the first `claim` or `append`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        now: Callable[[], datetime] = utc_now,
        filesystem: pa.fs.FileSystem | None = None,
        claimed: bool = False,
    ) -> None:
        """Point at a ledger.

        Args:
            path: Local directory, or a `pyarrow.fs` URI such as `s3://bucket/run`.
            now: Clock that names the parts; readers order parts by it.
            filesystem: A `pyarrow.fs.FileSystem` for `path`, when no URI can describe it.
            claimed: Whether the ledger has been claimed by another writer of the same run, so that it has to be there.
        """
        self.location = Location.of(path, filesystem)
        self._now, self._claimed = now, claimed
        self._latest: dict[str, str] = {}

    def claim(self, suite_yaml: str, protocol_json: str, protocol_sha256: str, *, resume: bool = False) -> None:
        """Make sure that this directory may take the rows of a run, before anything is computed.

        Creates the directory and its parents when missing, and proves that it can be written. Files that belong to no
        ledger are left alone.

        Args:
            suite_yaml: Suite of the run, as it goes into `runs.suite`.
            protocol_json: Protocol manifests, as they go into `runs.protocol`.
            protocol_sha256: Hash of the protocol, as it goes into `runs.protocol_sha256`.
            resume: Continue the ledger that lies there.

        Raises:
            UsageError: A ledger of the same suite and protocol lies there, and `resume` is False.
            LedgerError: A ledger of another suite or protocol lies there; or the directory cannot be written; or the
                disk is (almost) full. Names the path and the remedy.
        """
        location = self.location
        check_claim(location, suite_yaml, protocol_json, protocol_sha256, resume=resume)
        location.make_dir(location.root)
        if location.is_local:
            free = shutil.disk_usage(location.root).free
            if free < MIN_FREE_BYTES:
                raise LedgerError(
                    f"Only {free / 2**20:.0f} MiB are free under {location.label!r}; a run needs at least "
                    f"{MIN_FREE_BYTES // 2**20} MiB. Free some space or give another --out."
                )
        # Only a real write proves that writing works: root passes every permission check, object stores have none.
        probe = f"{location.root}/.write-test-{uuid.uuid4().hex[:8]}"
        location.write_whole(probe, pa.py_buffer(b"vla-harness\n"))
        location.filesystem.delete_file(probe)
        self._claimed = True

    def append(self, table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> str | None:
        """Write rows as one new part. When this returns, they survive a crash of the process and of the machine.

        Args:
            table: One of `harness.ledger.schema.TABLES`.
            rows: Mappings from column to value (absent columns become null), or an Arrow table. Without rows nothing
                happens.

        Returns:
            Path of the part inside the ledger, e.g. "episodes/part-….parquet"; None without rows.

        Raises:
            LedgerError: A row does not fit the schema (names table, column, value), or writing failed.
        """
        converted = to_table(table, rows)
        if converted.num_rows == 0:
            return None
        metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), WRITER_KEY: harness.__version__.encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(converted.replace_schema_metadata(metadata), sink, compression="zstd")
        directory = self.location.table_dir(table)
        if table not in self._latest:
            self._require_there()
            self.location.make_dir(directory)
            self._latest[table] = max(map(_time_of, self.location.parts(table)), default="")
        self._latest[table] = _later(self._latest[table], self._now().astimezone(UTC))
        name = f"part-{self._latest[table]}-{uuid.uuid4().hex[:8]}.parquet"
        self.location.write_whole(f"{directory}/{name}", sink.getvalue())
        return f"{table}/{name}"

    def _require_there(self) -> None:
        """A ledger that somebody removed is not begun again in silence, without the rows that it held."""
        if self._claimed and self.location.is_local and not Path(self.location.root).is_dir():
            raise LedgerError(f"The ledger {self.location.label!r} was removed while a run wrote to it.")


_TIME = "%Y%m%dT%H%M%S.%fZ"
"""How a part's name begins: the time of writing, which sorts as text."""


def _time_of(path: str) -> str:
    return path.rpartition("/")[2].removeprefix("part-").partition("-")[0]


def _later(latest: str, now: datetime) -> str:
    """A time for the next part: now, or just after the latest one when the clock has stepped back."""
    text = f"{now:{_TIME}}"
    if text >= latest:
        return text
    try:
        return f"{datetime.strptime(latest, _TIME).replace(tzinfo=UTC) + timedelta(microseconds=1):{_TIME}}"
    except (ValueError, OverflowError):
        return text

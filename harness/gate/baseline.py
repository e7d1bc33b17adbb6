"""Which ledger is the accepted baseline: a record per acceptance, beside the ledgers, never overwritten."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from harness.analysis.paired.pairing import Side, describe_variants, read_sides
from harness.errors import LedgerError, UsageError
from harness.gate.nights import SeriesKey, series_key
from harness.ledger.storage import Location
from harness.strict_json import optional_text, optional_whole, read_object, text, texts, whole

FOLDER = "baselines"
"""Folder of the records inside the directory of ledgers."""


@dataclass(frozen=True)
class Baseline:
    """One acceptance."""

    ledger: str
    """Relative to the directory of ledgers when it lies inside, else as it was given."""
    name: str
    """Line of development, e.g. "main"; a directory may keep several."""
    suites: tuple[str, ...]
    protocol: str
    """Digest over the suites' manifests."""
    hardware: tuple[str, ...]
    policy_id: str | None
    nfe: int | None
    checkpoint: str | None
    accepted_at: str
    """UTC, ISO 8601."""
    note: str = ""

    def path(self, root: str | Path) -> str:
        """Where the ledger is."""
        outside = "://" in self.ledger or self.ledger.startswith("/")
        return self.ledger if outside else f"{str(root).rstrip('/')}/{self.ledger}"

    def serves(self, key: SeriesKey, name: str) -> bool:
        """Whether a candidate of this suite, protocol, hardware and NFE is to be judged against it."""
        own = (self.name, self.suites, self.protocol, self.hardware, self.nfe)
        return own == (name, key.suites, key.protocol, key.hardware, key.nfe)


def set_baseline(
    root: str | Path,
    ledger: str | Path,
    now: datetime,
    *,
    name: str = "main",
    policy: str | None = None,
    nfe: int | None = None,
    note: str = "",
) -> list[Baseline]:
    """Accept a ledger as the baseline of its suite, protocol, hardware and NFE.

    Args:
        root: Directory or bucket of ledgers.
        ledger: The ledger, by path, or by its name inside `root`.
        now: Time of acceptance, UTC.
        name: Line of development.
        policy: Only this policy of the ledger.
        nfe: Only this NFE.
        note: Why, for people.

    Returns:
        One record per variant of the ledger.

    Raises:
        LedgerError: No such ledger, or the record cannot be written.
        UsageError: The ledger has no episodes, or two policies at one NFE, of which one would hide the other.
    """
    place = _resolve(root, ledger)
    sides = read_sides(place, policy=policy, nfe=nfe)
    if not sides:
        raise UsageError(f"{place!r} has no episodes, so it can be no baseline. Accept the ledger of a run.")
    if len({side.nfe for side in sides}) < len(sides):
        listing = describe_variants((side.policy_id, side.nfe) for side in sides)
        raise UsageError(f"{place!r} has several policies ({listing}); choose the baseline with --policy.")
    records = [_record(root, place, side, now, name, note) for side in sides]
    for record in records:
        _write(root, record, now)
    return records


def read_baselines(root: str | Path) -> list[Baseline]:
    """Every record, oldest first.

    Raises:
        LedgerError: A record cannot be read; names it.
    """
    location = Location.of(root)
    try:
        infos = location.filesystem.get_file_info(pafs.FileSelector(f"{location.root}/{FOLDER}", allow_not_found=True))
        paths = sorted(info.path for info in infos if info.base_name.endswith(".json"))
        return [_read(location, path) for path in paths]
    except OSError as error:
        raise location.failure("list", error) from error


def current_baselines(records: Sequence[Baseline]) -> list[Baseline]:
    """The last acceptance of each name, suite, protocol, hardware and NFE."""
    last = {(one.name, one.suites, one.protocol, one.hardware, one.nfe): one for one in records}
    return sorted(last.values(), key=lambda one: (one.name, one.suites, one.hardware, one.nfe or 0))


def find_baseline(root: str | Path, side: Side, name: str = "main") -> Baseline:
    """The baseline that a candidate is to be judged against.

    Raises:
        UsageError: None was accepted for its suite, protocol, hardware and NFE; says what is different.
    """
    key = series_key(side)
    records = read_baselines(root)
    for record in reversed(records):
        if record.serves(key, name):
            return record
    raise UsageError(
        f"{str(root)!r} has no baseline {name!r} for {key.label} with this protocol. "
        f"{_near_miss(current_baselines(records), key, name)} Accept one with `harness baseline set`."
    )


def _near_miss(records: Sequence[Baseline], key: SeriesKey, name: str) -> str:
    if not records:
        return "It has none at all."
    wanted = {"name": name, "suites": key.suites, "protocol": key.protocol, "hardware": key.hardware, "nfe": key.nfe}
    misses = [
        {what: getattr(one, what) for what, value in wanted.items() if getattr(one, what) != value} for one in records
    ]
    nearest = min(misses, key=len)
    return f"The nearest differs in {', '.join(f'{what} ({_text(value)})' for what, value in nearest.items())}."


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)[:24]


def _resolve(root: str | Path, ledger: str | Path) -> str:
    inside = f"{str(root).rstrip('/')}/{ledger}"
    if "/" not in str(ledger) and Location.of(inside).exists():
        return inside
    return str(ledger)


def _record(root: str | Path, ledger: str, side: Side, now: datetime, name: str, note: str) -> Baseline:
    key = series_key(side)
    top = Location.of(root).root
    path = Location.of(ledger).root
    inside = path.startswith(f"{top}/")
    return Baseline(
        ledger=path.removeprefix(f"{top}/") if inside else (ledger if "://" in ledger else path),
        name=name,
        suites=key.suites,
        protocol=key.protocol,
        hardware=key.hardware,
        policy_id=side.policy_id,
        nfe=side.nfe,
        checkpoint=side.checkpoint,
        accepted_at=now.isoformat(timespec="seconds"),
        note=note,
    )


def _write(root: str | Path, record: Baseline, now: datetime) -> None:
    location = Location.of(root)
    folder = f"{location.root}/{FOLDER}"
    location.make_dir(folder)
    lines = json.dumps({"format_version": 1, **asdict(record)}, indent=2) + "\n"
    location.write_whole(f"{folder}/{now:%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}.json", pa.py_buffer(lines.encode()))


def _read(location: Location, path: str) -> Baseline:
    with location.filesystem.open_input_file(path) as source:
        raw = source.read()
    try:
        data = read_object(raw)
        if (version := whole(data, "format_version")) != 1:
            raise LedgerError(f"{path!r} has format version {version}; this harness reads 1. Upgrade vla-harness.")
        return Baseline(
            ledger=text(data, "ledger"),
            name=text(data, "name"),
            suites=texts(data, "suites"),
            protocol=text(data, "protocol"),
            hardware=texts(data, "hardware"),
            policy_id=optional_text(data, "policy_id"),
            nfe=optional_whole(data, "nfe"),
            checkpoint=optional_text(data, "checkpoint"),
            accepted_at=text(data, "accepted_at"),
            note=text({"note": "", **data}, "note"),
        )
    except ValueError as error:
        raise LedgerError(
            f"{path!r} is no baseline record ({error}). Move it away, or restore it from a copy."
        ) from error

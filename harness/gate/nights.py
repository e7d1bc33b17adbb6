"""A directory or bucket of ledgers: one night after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.fs as pafs

from harness.analysis.latency.comparison import read_samples
from harness.analysis.paired.pairing import SUCCESS, Side, describe_timing, read_sides
from harness.analysis.series import Step, find_steps, log_medians
from harness.errors import LedgerError
from harness.ledger import Ledger, open_ledger
from harness.ledger.schema import TABLES
from harness.ledger.storage import Location
from harness.spec.manifest import manifest_sha256
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS


@dataclass(frozen=True)
class SeriesKey:
    """What has to be equal for two nights to stand in one series."""

    suites: tuple[str, ...]
    protocol: str
    """Digest over the suites' manifests."""
    hardware: tuple[str, ...]
    policy_id: str | None
    nfe: int | None
    timing: tuple[str, str | None] = (SYNCHRONOUS, None)
    """Clock and source of delays."""

    @property
    def label(self) -> str:
        """Name in reports."""
        policy = PolicyAtNfe(self.policy_id, self.nfe).label
        if self.timing[0] != SYNCHRONOUS:
            policy += f", {describe_timing(*self.timing)}"
        return f"{policy}, {' + '.join(self.suites)}, {', '.join(self.hardware) or '–'}"


@dataclass(frozen=True)
class Night:
    """One checkpoint's results in one ledger."""

    path: str
    started: datetime | None
    checkpoint: str | None
    successes: int
    n: int
    """Scored episodes."""
    errors: int
    latency_ms: float | None
    """Median e2e latency of its probes; None without."""
    samples: int
    """Latency samples behind it."""


@dataclass(frozen=True)
class Series:
    """Nights that can be compared, in order of time."""

    key: SeriesKey
    nights: tuple[Night, ...]
    success_steps: tuple[Step, ...]
    latency_steps: tuple[Step, ...]
    latency_nights: tuple[int, ...]
    """Indices of the nights that `latency_steps` counts: those with a latency."""


def list_ledgers(root: str | Path) -> list[str]:
    """Paths of the ledgers directly inside a directory or bucket, sorted; runs and baselines' records aside.

    Raises:
        LedgerError: There is no such directory.
    """
    location = Location.of(root)
    if not location.exists():
        raise LedgerError(f"There is no directory {str(root)!r}. Give the directory or bucket that holds the ledgers.")
    infos = location.filesystem.get_file_info(pafs.FileSelector(location.root))
    names = sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)
    paths = [f"{str(root).rstrip('/')}/{name}" for name in names]
    return [path for path in paths if any(Location.of(path).parts(table) for table in TABLES)]


def series_key(side: Side) -> SeriesKey:
    """What a side may be compared with over time."""
    suites = tuple(sorted({value for value in side.details["suite"].unique().to_pylist() if value}))
    manifests = {suite: side.manifests.get(suite, {}) for suite in suites}
    return SeriesKey(suites, manifest_sha256(manifests), side.hardware, side.policy_id, side.nfe, side.timing)


def read_series(paths: Iterable[str], rng: np.random.Generator, *, alpha: float = 0.05) -> list[Series]:
    """Read ledgers, sort their nights into series, and look for steps in each.

    Args:
        paths: Ledgers of nights, in any order.
        rng: Source of the permutations.
        alpha: Probability of a false step in one series of one figure, when nothing changed.
    """
    nights: dict[SeriesKey, list[Night]] = {}
    for path in paths:
        ledger = open_ledger(path)
        started = _started(ledger)
        for side in read_sides(ledger):
            nights.setdefault(series_key(side), []).append(_night(ledger, started, side))
    return [
        _series(key, members, rng, alpha) for key, members in sorted(nights.items(), key=lambda item: item[0].label)
    ]


def _series(key: SeriesKey, members: Sequence[Night], rng: np.random.Generator, alpha: float) -> Series:
    # Ledgers without a time (imports) go first: they cannot be the news.
    nights = sorted(members, key=lambda night: (night.started is not None, night.started, night.path))
    scored = [night for night in nights if night.n]
    timed = [place for place, night in enumerate(nights) if night.latency_ms]
    return Series(
        key=key,
        nights=tuple(nights),
        success_steps=_steps([night.successes / night.n for night in scored], [night.n for night in scored], rng, alpha)
        if len(scored) == len(nights)
        else (),
        latency_steps=_steps(
            list(log_medians([nights[place].latency_ms or 1.0 for place in timed])), [1] * len(timed), rng, alpha
        ),
        latency_nights=tuple(timed),
    )


def _steps(values: Sequence[float], weights: Sequence[int], rng: np.random.Generator, alpha: float) -> tuple[Step, ...]:
    return find_steps(values, weights, rng, alpha=alpha) if values else ()


def _started(ledger: Ledger) -> datetime | None:
    found = pc.min(ledger.rows("runs")["started_at"]).as_py()
    return found if isinstance(found, datetime) else None


def _night(ledger: Ledger, started: datetime | None, side: Side) -> Night:
    errors = int((side.outcomes > SUCCESS).sum())
    latency = [
        sample
        for sample in read_samples(ledger, (side.policy_id, side.nfe))
        if sample.component == "e2e" and sample.batch_size in (None, 1)
    ]
    pooled = np.concatenate([sample.latency_ms for sample in latency]) if latency else np.empty(0)
    return Night(
        path=ledger.path,
        started=started,
        checkpoint=side.checkpoint,
        successes=int((side.outcomes == SUCCESS).sum()),
        n=side.n - errors,
        errors=errors,
        latency_ms=float(np.median(pooled)) if pooled.size else None,
        samples=int(pooled.size),
    )

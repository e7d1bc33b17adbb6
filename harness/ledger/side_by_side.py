"""Two ledgers as one in which each side keeps its name, though both ran one policy on one machine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from harness.ledger.reader import Ledger

BASE, CANDIDATE = "base", "candidate"

Variants = Collection[tuple[str | None, int | None]]
"""(policy, NFE) of one side."""


def side_by_side(base: Ledger, candidate: Ledger, chosen: tuple[Variants, Variants]) -> Ledger:
    """Read two ledgers as one.

    Args:
        base: What is in use.
        candidate: What might replace it.
        chosen: Policies that are compared, of either side; episodes and decisions of others are left out.

    Returns:
        A ledger whose policies are called "NAME [base]" and "NAME [candidate]" in `episodes`, `decisions`, `counts` and
        `differences`, and whose hardware is so called in `latency` and `counts`; videos have whole paths.
    """
    both = Ledger(*dict.fromkeys((*base.paths, *candidate.paths)))
    sides = list(zip((base, candidate), chosen, (BASE, CANDIDATE), strict=True))
    both.episodes = _joined([_with_videos(_of(one.episodes, kept, name), one) for one, kept, name in sides])
    both.decisions = _joined([_of(one.decisions, kept, name) for one, kept, name in sides])
    both.retried = _joined([_of(one.retried, kept, name) for one, kept, name in sides])
    both.latency = _joined([_on(one.latency, name) for one, _, name in sides])
    both.counts = _joined([_on(one.counts, name) for one, _, name in sides])
    both.differences = _joined([_on(one.differences, name) for one, _, name in sides])
    both.notices = tuple(dict.fromkeys((*base.notices, *candidate.notices)))
    return both


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(filled, ignore_index=True)


def _of(frame: pd.DataFrame, kept: Variants, name: str) -> pd.DataFrame:
    """Rows of the compared policies, which take the side's name."""
    wanted = [
        (None if pd.isna(policy) else policy, None if pd.isna(nfe) else int(nfe)) in kept
        for policy, nfe in zip(frame["policy_id"], frame["nfe"], strict=True)
    ]
    rows = frame[pd.Series(wanted, index=frame.index, dtype=bool)]
    return rows.assign(policy_id=rows["policy_id"].fillna("unnamed") + f" [{name}]")


def _on(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows whose machine takes the side's name: charts set the same policy on two machines beside each other."""
    return frame.assign(hardware=frame["hardware"].fillna("unknown") + f" [{name}]")


def _with_videos(frame: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    """Both ledgers may hold videos of one name."""
    if len(ledger.paths) != 1 or "://" in ledger.paths[0]:
        return frame
    root = Path(ledger.paths[0])
    whole = [str(root / name) if isinstance(name, str) else None for name in frame["video"]]
    return frame.assign(video=pd.array(whole, dtype="object"))

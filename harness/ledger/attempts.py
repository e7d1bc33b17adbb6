"""Which rows count: of an episode that was tried several times its surviving attempt, of a run its last state."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.errors import LedgerError
from harness.spec.timing import SYNCHRONOUS

IDENTITY = ["policy_id", "nfe", "episode_key", "clock", "latency_source"]
"""What makes two rows of `episodes` attempts at one episode."""
SERIES = ["run_id", *IDENTITY]
"""What the decisions of one episode in one run have in common."""


def with_clock(rows: pa.Table) -> pa.Table:
    """State the clock of rows that do not: all of before there were others, and imported ones, are synchronous.

    Args:
        rows: Of `episodes` or `decisions`; without a column `clock` they stay as they are.
    """
    place = rows.schema.get_field_index("clock")
    if place < 0 or not rows["clock"].null_count:
        return rows
    return rows.set_column(place, rows.schema.field(place), pc.fill_null(rows["clock"], SYNCHRONOUS))


def last_attempts(episodes: pa.Table) -> pa.Table:
    """Keep one row per episode: the last attempt that finished, or the last one when none did; in the order given.

    Args:
        episodes: Rows with the columns of `IDENTITY`, `outcome`, `attempt` and `started_at`.

    Raises:
        LedgerError: A row has no outcome or no key.
    """
    for column in ("episode_key", "outcome"):
        if episodes[column].null_count:
            raise LedgerError(f"{episodes[column].null_count} episodes have no {column}: the ledger is damaged.")
    codes = _codes(episodes)
    if len(np.unique(codes)) == episodes.num_rows:
        return episodes
    finished = pc.not_equal(episodes["outcome"], "error").to_numpy()
    started = episodes["started_at"].cast(pa.int64()).fill_null(-1).to_numpy()
    attempt = episodes["attempt"].fill_null(-1).to_numpy()
    order = np.lexsort((attempt, started, finished, codes))
    last = order[np.flatnonzero(np.diff(codes[order], append=-1))]
    return episodes.take(pa.array(np.sort(last)))


def contradictory_keys(episodes: pa.Table) -> tuple[str, ...]:
    """Keys of the episodes whose attempts finished with different outcomes, sorted: they are not retries of an error.

    Args:
        episodes: All attempts, as for `last_attempts`. A key counts once for every policy and NFE that contradicts
            itself on it.
    """
    finished = episodes.filter(pc.not_equal(episodes["outcome"], "error"))
    codes = _codes(finished)
    solved = pc.equal(finished["outcome"], "success").to_numpy().astype(np.int64)
    outcomes, first = np.unique(codes * 2 + solved, return_index=True)
    both = first[1:][outcomes[1:] // 2 == outcomes[:-1] // 2]
    return tuple(sorted(finished["episode_key"].take(pa.array(both)).to_pylist()))


def surviving_decisions(decisions: pd.DataFrame, episodes: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the decisions of the attempts that count.

    A crash between the two tables leaves decisions of an attempt that no row of `episodes` tells of. Of each surviving
    episode the last series of decisions of its run and attempt is kept that is as long as the episode says; parts that
    state no attempt are judged by length alone.

    Args:
        decisions: Every row of `decisions`, oldest part first.
        episodes: The surviving attempts.

    Returns:
        The rows kept, in the order given; and the number of episodes whose decisions are not whole, so that none is
        kept.
    """
    survivors = episodes[[*SERIES, "attempt", "decisions"]].rename(
        columns={"attempt": "_attempt", "decisions": "_decisions"}
    )
    rows = decisions.assign(_place=np.arange(len(decisions))).merge(survivors, on=SERIES, how="inner")
    groups = rows.groupby(SERIES, dropna=False, sort=False).ngroup().to_numpy()
    missing = np.zeros(int(groups.max(initial=-1)) + 1, dtype=bool)
    # A lost attempt that counts because there is no better one tells of no decisions.
    missing[groups] = rows["_decisions"].fillna(-1).to_numpy(dtype=np.int64) != 0
    same = (rows["attempt"].isna() | rows["_attempt"].isna() | (rows["attempt"] == rows["_attempt"])).fillna(False)
    order = np.lexsort((rows["_place"].to_numpy(), groups))
    order = order[same.to_numpy(dtype=bool)[order]]
    places = rows["_place"].to_numpy()[order[_last_whole(rows.iloc[order], groups[order])]]
    missing[groups[np.isin(rows["_place"].to_numpy(), places)]] = False
    return decisions.iloc[np.sort(places)].reset_index(drop=True), int(missing.sum())


def _last_whole(rows: pd.DataFrame, groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the last series of each group that is as long as its episode; rows are sorted by group, then place."""
    number = rows["decision"].fillna(-1).to_numpy(dtype=np.int64)
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (groups[1:] != groups[:-1]) | (number[1:] <= number[:-1])
    series = np.cumsum(begins) - 1
    wanted = rows["_decisions"].fillna(-1).to_numpy(dtype=np.int64)
    whole = (wanted == -1) | (wanted == np.bincount(series)[series]) if len(rows) else begins
    last = np.full(int(groups.max(initial=-1)) + 1, -1)
    np.maximum.at(last, groups[whole], series[whole])
    marked: NDArray[np.bool_] = whole & (series == last[groups])
    return marked


def last_states(runs: pa.Table) -> pa.Table:
    """Keep one row per run: how it ended, or that it runs, whatever the parts are called; in order of beginning.

    A run writes "running" first and its end once: after a clock that stepped back the end's part may sort first.

    Args:
        runs: Rows with `run_id` and `status`.
    """
    best: dict[str | None, tuple[bool, int]] = {}
    for row, (run_id, status) in enumerate(zip(runs["run_id"].to_pylist(), runs["status"].to_pylist(), strict=True)):
        state = (status not in (None, "running"), row)
        best[run_id] = max(best.get(run_id, state), state)
    return runs.take(pa.array([row for _, row in best.values()], pa.int64()))


def _codes(episodes: pa.Table) -> NDArray[np.int64]:
    """Number of each row's episode, rows of one episode alike."""
    codes = np.zeros(episodes.num_rows, dtype=np.int64)
    for name in IDENTITY:
        encoded = episodes[name].combine_chunks().dictionary_encode(null_encoding="encode")
        combined = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy()
        codes = np.unique(combined, return_inverse=True)[1].ravel().astype(np.int64)
    return codes

"""The aggregates as Parquet: what other tools read, pooled over ledgers and machines, and never read back by us."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.analysis import success_by_suite
from harness.analysis.aggregates import NO_INTERVAL
from harness.analysis.summary import Summary
from harness.errors import LedgerError
from harness.ledger import read
from harness.ledger.copy import copy_ledger
from harness.report import write_parquet, write_summary
from harness.report.contents import AGGREGATES
from harness.report.json import render_report_json

BuildLedger = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("summary")
    write_parquet(read(EXAMPLES / "demo"), folder)
    return folder


def test_every_aggregate_is_written_with_estimate_interval_n_and_design(demo: Path) -> None:
    assert {path.stem for path in demo.iterdir()} == set(AGGREGATES)
    for name in AGGREGATES:
        frame = pd.read_parquet(demo / f"{name}.parquet")
        assert {"estimate", "low", "high", "confidence", "n", "design"} <= set(frame.columns), name
        # The demo ran nothing on the wall clock, and no perturbation.
        assert len(frame) or name in ("wall", "robustness"), name
        bounded = frame[frame["low"].notna()]
        assert (bounded["low"] <= bounded["estimate"]).all(), name
        assert (bounded["estimate"] <= bounded["high"]).all(), name
        assert ((frame["design"] == NO_INTERVAL) == frame["low"].isna()).all(), name
        assert (frame["n"] > 0).all(), name


def test_pandas_and_duckdb_read_the_same_success_as_the_analysis(demo: Path) -> None:
    expected = success_by_suite(read(EXAMPLES / "demo").episodes).set_index("policy_id")
    found = pd.read_parquet(demo / "success.parquet").set_index("policy_id")
    pd.testing.assert_series_equal(found["estimate"], expected["rate"], check_names=False, check_dtype=False)
    query = "select policy_id, estimate, low, high, n, role from read_parquet(?) order by policy_id"
    rows = duckdb.execute(query, [str(demo / "success.parquet")]).fetchall()
    assert [(row[0], row[4]) for row in rows] == [(policy, int(n)) for policy, n in expected["n"].sort_index().items()]
    assert {row[0]: row[5] for row in rows} == {
        "flow": None,
        "flow:student": None,
        "noop": "negative",
        "scripted": "positive",
    }


def test_every_field_says_its_unit_and_what_it_is(demo: Path) -> None:
    for name in AGGREGATES:
        schema = pq.read_schema(demo / f"{name}.parquet")
        assert all(field.metadata[b"description"] for field in schema), name
        assert schema.field("estimate").metadata[b"unit"], name
    assert pq.read_schema(demo / "latency.parquet").field("estimate").metadata[b"unit"] == b"ms"


def test_the_file_names_the_protocol_and_the_runs_behind_it(demo: Path) -> None:
    metadata = pq.read_schema(demo / "paired.parquet").metadata
    runs = read(EXAMPLES / "demo").runs
    assert json.loads(metadata[b"vla_harness.run_ids"]) == list(runs["run_id"])
    assert json.loads(metadata[b"vla_harness.protocol_sha256"]) == sorted(runs["protocol_sha256"].unique())


def test_several_ledgers_and_machines_are_pooled(tmp_path: Path) -> None:
    ledgers = [EXAMPLES / "h100-latency" / "pi05", EXAMPLES / "h200-latency" / "pi05"]
    write_parquet(read(*ledgers), tmp_path)
    found = pd.read_parquet(tmp_path / "latency.parquet")
    assert found["hardware"].nunique() == 2
    metadata = pq.read_schema(tmp_path / "latency.parquet").metadata
    assert json.loads(metadata[b"vla_harness.ledgers"]) == list(map(str, ledgers))
    assert len(pd.read_parquet(tmp_path / "success.parquet")) == 0


def test_a_pair_of_policies_is_counted_on_the_episodes_that_both_ran(demo: Path) -> None:
    pairs = pd.read_parquet(demo / "paired.parquet")
    episodes = read(EXAMPLES / "demo").episodes
    solved = episodes.pivot_table(index="episode_key", columns="policy_id", values="outcome", aggfunc="last")
    for row in pairs.to_dict("records"):
        both = solved[[row["base_policy_id"], row["policy_id"]]].dropna() == "success"
        base, other = both[row["base_policy_id"]], both[row["policy_id"]]
        assert (row["lost"], row["gained"]) == ((base & ~other).sum(), (~base & other).sum())
        assert row["estimate"] == pytest.approx(other.mean() - base.mean())
    assert len(pairs) == 6


def test_a_ledgers_own_summary_is_rewritten_ignored_by_readers_and_not_copied(
    build_ledger: BuildLedger, tmp_path: Path
) -> None:
    path = build_ledger()
    before = read(path)
    write_summary(before, pytest.fail)
    write_summary(before, pytest.fail)
    assert {file.stem for file in (path / "summary").iterdir()} == set(AGGREGATES)
    pd.testing.assert_frame_equal(read(path).episodes, before.episodes)
    assert not any("summary" in name for name in copy_ledger(path, tmp_path / "copy").copied)
    shutil.rmtree(path / "summary")
    assert len(read(path).latency) == len(before.latency)


def test_a_summary_that_cannot_be_written_is_told_and_stops_nothing(build_ledger: BuildLedger) -> None:
    path = build_ledger()
    (path / "summary").write_text("in the way")
    told: list[str] = []
    write_summary(read(path), told.append)
    assert len(told) == 1
    assert "--parquet" in told[0]


def test_a_folder_that_cannot_be_made_is_named_with_its_option(build_ledger: BuildLedger, tmp_path: Path) -> None:
    file = tmp_path / "hostname"
    file.touch()
    with pytest.raises(LedgerError, match=rf"the folder '{file}' .* give another --parquet"):
        write_parquet(read(build_ledger()), file)


def test_json_holds_the_same_rows_with_units(demo: Path) -> None:
    content = json.loads(render_report_json(read(EXAMPLES / "demo")))
    found = pd.read_parquet(demo / "success.parquet")
    rows = content["aggregates"]["success"]["rows"]
    assert [row["estimate"] for row in rows] == list(found["estimate"])
    units = {column["name"]: column["unit"] for column in content["aggregates"]["latency"]["columns"]}
    assert units["estimate"] == "ms"


class Probed:
    """A ledger of which only what a probe writes may be read."""

    def __init__(self, path: Path) -> None:  # noqa: D107
        self._ledger = read(path)

    def __getattr__(self, name: str) -> object:  # noqa: D105
        assert name not in ("episodes", "decisions"), f"{name} were read"
        return getattr(self._ledger, name)


def test_the_prefix_reads_neither_episodes_nor_decisions() -> None:
    from harness.report.contents import PREFIX, contents
    from harness.report.json import render_prefix_json

    summary = Summary(Probed(EXAMPLES / "demo"))  # type: ignore[arg-type]
    assert set(contents(summary, PREFIX)) == set(PREFIX)
    assert json.loads(render_prefix_json(summary))["prefix"]

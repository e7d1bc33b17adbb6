"""The learning curve: rates with intervals, the best checkpoint, and what it cannot be told from."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.analysis.intervals import rate_interval
from harness.analysis.paired.statistics import mcnemar_exact
from harness.ledger import LedgerWriter
from harness.schedule.keys import episode_key
from harness.watch.backlog.journal import CheckpointStatus, JournalEntry
from harness.watch.learning_curve.curve import read_curve
from harness.watch.learning_curve.render import best_sentence, curve_table, render_page, write_page, write_parquet

OUTCOMES = {"+": "success", "-": "timeout", "!": "error"}


def entry(
    step: int, status: CheckpointStatus = CheckpointStatus.EVALUATED, lineage: int = 1, **changes
) -> JournalEntry:
    name = f"step-{step:06d}" + (f"-r{lineage}" if lineage > 1 else "")
    return JournalEntry(name, step, lineage, f"/{step}", f"d{step}", step, status, **changes)


def write(ledger: Path, name: str, outcomes: str, decision_ms: float = 5.0, sha: str | None = None) -> None:
    """Write a checkpoint's episodes: "+" success, "-" timeout, "!" error."""
    writer = LedgerWriter(ledger)
    rows = [
        {
            "run_id": "r",
            "episode_key": episode_key("p", "stub", 0, place, 0),
            "suite": "stub",
            "task_id": 0,
            "init_state_id": place,
            "policy_id": name,
            "checkpoint_sha256": sha or name,
            "outcome": OUTCOMES[letter],
            "success": None if letter == "!" else letter == "+",
            "attempt": 1,
        }
        for place, letter in enumerate(outcomes)
    ]
    writer.append("episodes", rows)
    decisions = [{"policy_id": name, "queue_ms": 1.0, "infer_ms": decision_ms + i % 3} for i in range(30)]
    writer.append("decisions", decisions)


def test_a_curve_has_a_point_for_every_checkpoint_in_the_order_of_training(tmp_path: Path) -> None:
    write(tmp_path, "step-000002", "++-!")
    write(tmp_path, "step-000001", "+---", decision_ms=8.0)
    curve = read_curve(
        str(tmp_path),
        [entry(2), entry(1), entry(3, CheckpointStatus.WAITING), entry(1, lineage=2, status=CheckpointStatus.FAILED)],
    )
    assert [(point.name, point.successes, point.n, point.errors) for point in curve.points] == [
        ("step-000001", 1, 4, 0),
        ("step-000002", 2, 3, 1),
        ("step-000003", 0, 0, 0),
        ("step-000001-r2", 0, 0, 0),
    ]
    first = curve.points[0]
    assert (first.low, first.high) == rate_interval(1, 4)
    assert first.decision_ms == pytest.approx(10.0), "queue and inference together, the median"
    assert curve.points[2].rate is None


def test_the_best_is_named_with_those_that_it_cannot_be_told_from(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "-" * 30)
    write(tmp_path, "step-000002", "+" * 27 + "---")
    write(tmp_path, "step-000003", "+" * 28 + "--")
    best = read_curve(str(tmp_path), [entry(1), entry(2), entry(3)]).best
    assert best is not None
    assert (best.point.name, best.alike) == ("step-000003", ("step-000002",))
    single = rate_interval(28, 30)
    assert best.interval.low < single.low < single.high < best.interval.high, "the best of three is chosen by luck too"
    curve = read_curve(str(tmp_path), [entry(1), entry(2), entry(3)])
    letters = {point.name: point.letters for point in curve.points}
    assert letters["step-000002"] == letters["step-000003"] != letters["step-000001"]
    assert "it cannot be told from step-000002" in best_sentence(curve)


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_named_with_its_cost(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "-" * 30)
    write(tmp_path, "step-000002", "+" * 27 + "---")
    write(tmp_path, "step-000003", "+" * 28 + "--")
    costs = {1: (1.0, 9.0), 2: (2.0, 6.0), 3: (3.0, 5.0)}
    by_hours = read_curve(str(tmp_path), [entry(step, gpu_hours=hours) for step, (hours, _) in costs.items()])
    assert by_hours.cheapest is not None
    assert by_hours.cheapest.name == "step-000002", "the first is cheaper, and worse"
    assert "The cheapest of these is step-000002, after 2.00 GPU-hours." in best_sentence(by_hours)
    assert curve_table(by_hours).columns[-1] == "GPU-hours"
    assert "Success against the cost of training" in render_page(by_hours, "ledger", "harness watch")
    priced = [entry(step, gpu_hours=hours, price=price) for step, (hours, price) in costs.items()]
    by_price = read_curve(str(tmp_path), priced)
    assert by_price.cheapest is not None
    assert by_price.cheapest.name == "step-000003", "what is paid counts before hours"
    assert by_price.as_json()["cheapest"]["gpu_hours"] == 3.0
    unknown = read_curve(str(tmp_path), [entry(1, gpu_hours=1.0), entry(2), entry(3, gpu_hours=3.0)])
    assert unknown.cheapest is None
    assert "cheapest" not in best_sentence(unknown)


def test_pairs_are_tested_on_shared_episodes_with_holms_correction_over_all_of_them(tmp_path: Path) -> None:
    # Six discordant pairs give p = 0.031: enough for one comparison, not for the strictest of three.
    write(tmp_path, "step-000001", "------++++")
    write(tmp_path, "step-000002", "++++++++++")
    assert float(mcnemar_exact(6, 0)) < 0.05
    two = read_curve(str(tmp_path), [entry(1), entry(2)]).best
    assert two is not None
    assert two.alike == ()
    write(tmp_path, "step-000003", "------++++")
    three = read_curve(str(tmp_path), [entry(1), entry(2), entry(3)]).best
    assert three is not None
    assert set(three.alike) == {"step-000001", "step-000003"}


def test_what_is_in_part_done_is_on_the_curve_but_never_the_best(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "+-+-")
    write(tmp_path, "step-000002", "++")
    curve = read_curve(str(tmp_path), [entry(1), entry(2, CheckpointStatus.WAITING)])
    assert curve.best is not None
    assert curve.best.point.name == "step-000001"
    assert curve.points[1].rate == 1.0
    assert "waiting, in part" in str(curve_table(curve).rows)
    assert [one["name"] for one in curve.as_json()["results"]] == ["step-000001"]


def test_an_overwritten_checkpoints_mixed_rows_spoil_no_other(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "++", sha="a")
    write(tmp_path, "step-000001", "--", sha="b")
    write(tmp_path, "step-000002", "+-")
    curve = read_curve(str(tmp_path), [entry(1, CheckpointStatus.CHANGED), entry(2)])
    assert [(point.name, point.n) for point in curve.points] == [("step-000001", 0), ("step-000002", 2)]


def test_an_empty_ledger_has_no_best(tmp_path: Path) -> None:
    curve = read_curve(str(tmp_path / "none"), [entry(1, CheckpointStatus.WAITING)])
    assert curve.best is None
    assert "No checkpoint has been evaluated" in best_sentence(curve)


def test_the_page_is_whole_escaped_and_draws_a_line_for_each_lineage(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "+---")
    write(tmp_path, "step-000002", "++--")
    write(tmp_path, "step-000002-r2", "+++-")
    failed = entry(3, CheckpointStatus.FAILED, reason="<script>alert(1)</script>")
    curve = read_curve(str(tmp_path), [entry(1), entry(2), entry(2, lineage=2), failed])
    page = render_page(curve, str(tmp_path), "harness watch <run>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 1
    assert "restart 1" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    places = [page.index(f">{name}") for name in ("step-000001", "step-000002", "step-000003")]
    assert all(first < second for first, second in pairwise(places))


def test_the_table_is_read_by_pandas_and_rewritten_in_place(tmp_path: Path) -> None:
    write(tmp_path, "step-000001", "+-")
    for _ in range(2):
        curve = read_curve(str(tmp_path), [entry(1)])
        path = write_parquet(curve, str(tmp_path))
        write_page(curve, str(tmp_path), "harness watch")
    frame = pq.read_table(path).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame[["name", "step", "rate", "best"]].to_dict("records") == [
        {"name": "step-000001", "step": 1, "rate": 0.5, "best": True}
    ]
    assert sorted(file.name for file in Path(path).parent.iterdir()) == [
        "learning_curve.html",
        "learning_curve.parquet",
    ]

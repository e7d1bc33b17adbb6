"""The first lines of a report: what a reader asks, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.summary import Summary
from harness.ledger import LedgerWriter, read
from harness.report.answers import latency_lines, success_lines, verdict, worst_lines
from harness.report.names import variant_names

LONG = "lerobot:pi05?weights=random&dtype=bfloat16"


def episodes(path: Path, outcomes: dict[str, str], **same: Any) -> Summary:
    """Policy → outcomes of its episodes, one task each: "+" success, "-" timeout, "!" error."""
    kinds = {"+": "success", "-": "timeout", "!": "error"}
    LedgerWriter(path).append(
        "episodes",
        [
            {"run_id": "r", "episode_key": f"{place:064x}", "suite": "s", "task_id": place, "task": f"t{place}"}
            | {"policy_id": policy, "outcome": kinds[letter], "success": {"+": True, "-": False, "!": None}[letter]}
            | (same if letter == "!" else {})
            for policy, letters in outcomes.items()
            for place, letter in enumerate(letters)
        ],
    )
    return Summary(read(path))


def samples(path: Path, policies: dict[str, float], launches: int = 2) -> Summary:
    """Policy → its latency, ms."""
    LedgerWriter(path).append(
        "latency",
        [
            {"run_id": "r", "node_id": "n", "hardware": "h100", "policy_id": policy, "nfe": 1, "dtype": "bfloat16"}
            | {
                "compile": "eager",
                "batch_size": 1,
                "component": "e2e",
                "sample": sample,
                "launch": sample % launches,
                "latency_ms": ms + sample / 1e3,
            }
            for policy, ms in policies.items()
            for sample in range(40)
        ],
    )
    return Summary(read(path))


def test_a_ledger_of_errors_alone_says_so_and_why(tmp_path: Path) -> None:
    summary = episodes(tmp_path, {"flow": "!!"}, error_type="NodeError", error_message="heartbeat missed")
    (line,) = success_lines(summary, variant_names(summary))
    assert line.sentence == "No episode has a result: all 2 ended in an error."
    assert line.detail == "Every time: NodeError: heartbeat missed"
    assert verdict(summary, variant_names(summary)) == line.sentence


def test_an_open_pair_names_first_the_policy_that_its_difference_favours(tmp_path: Path) -> None:
    summary = episodes(tmp_path, {"a": "++-+", "b": "-+-+"})
    (line,) = success_lines(summary, variant_names(summary))
    assert line.sentence == "a against b: success is not decided."
    assert line.detail.startswith("+25.0 points of success")
    assert "only a solved 1, only b 0" in line.detail


def test_the_verdict_alone_names_policies_in_full_and_not_by_the_letters_of_a_key(tmp_path: Path) -> None:
    first, second = (f"python:one.of.many.modules:make?checkpoint={name * 30}" for name in "xy")
    summary = episodes(tmp_path, {first: "++-+", second: "-+-+"})
    names = variant_names(summary)
    assert set(names.short.letters) == {"A", "B"}
    assert "x" * 30 in verdict(summary, names)
    assert "y" * 30 in verdict(summary, names)


def test_policies_that_fail_worst_on_one_task_share_a_line(tmp_path: Path) -> None:
    summary = episodes(tmp_path, {"a": "+-+", "b": "+-+", "c": "++-"})
    shared, alone = worst_lines(summary, variant_names(summary))
    assert shared.sentence == "2 policies fail worst on task 1 of s: t1."
    assert shared.detail.startswith("a: 0 of 1 solved")
    assert "; b: 0 of 1 solved" in shared.detail
    assert alone.sentence == "c fails worst on task 2 of s: t2."


def test_long_names_of_decisions_are_told_by_what_differs(tmp_path: Path) -> None:
    summary = samples(tmp_path, {LONG: 20.0, f"{LONG}&graphs=true": 10.0})
    (line,) = latency_lines(summary, variant_names(summary))
    assert line.sentence.startswith("Fastest decision on h100: graphs=true, 10.0 ms")
    assert line.detail.startswith("plain 20.0 ms")
    assert line.detail.endswith("All: lerobot:pi05, weights=random, dtype=bfloat16, NFE 1.")


def test_short_names_of_decisions_stay_whole(tmp_path: Path) -> None:
    summary = samples(tmp_path, {"flow": 20.0, "flow:student": 10.0})
    (line,) = latency_lines(summary, variant_names(summary))
    assert line.sentence.startswith("Fastest decision on h100: flow:student, NFE 1, 10.0 ms")
    assert "All:" not in line.detail


def test_controls_alone_are_an_answer_too(tmp_path: Path) -> None:
    summary = episodes(tmp_path, {"noop": "--", "scripted": "++"})
    names = variant_names(summary)
    (line,) = success_lines(summary, names)
    assert line.sentence == "The controls did what they should: scripted solves 100 % of s; noop solves 0 % of s."
    assert verdict(summary, names) == line.sentence


def test_a_single_timed_decision_is_told(tmp_path: Path) -> None:
    summary = samples(tmp_path, {"flow": 20.0})
    names = variant_names(summary)
    (line,) = latency_lines(summary, names)
    assert line.sentence.startswith("A decision of flow, NFE 1 takes 20.0 ms")
    assert verdict(summary, names) == line.sentence


def test_one_launch_a_side_decides_nothing(tmp_path: Path) -> None:
    summary = samples(tmp_path, {"slow": 20.0, "fast": 10.0}, launches=1)
    (line,) = latency_lines(summary, variant_names(summary))
    assert line.mark == "open"
    assert "Within one launch a side" in line.detail

"""What a comparison answers, as sentences: the same on a terminal and on a page."""

from __future__ import annotations

from typing import Literal

from harness.analysis.latency.ratios import QuantileRatio
from harness.analysis.paired.compare import Comparison, SuccessComparison
from harness.analysis.paired.matrix import Matrix
from harness.gate.judge import GateResult
from harness.gate.verdict import Verdict
from harness.report.answers import AnswerLine
from harness.report.format import count, number, points, probability

ALPHA = 0.05
"""Two-sided level at which a pair is called decided."""

MAX_LATENCY = 8
"""Ratios of latency above the tables, which have all."""


def comparison_lines(found: Comparison) -> list[AnswerLine]:
    """Which side succeeds more often, and which decides faster."""
    latency = [one for one in found.latency if one.candidate.component == "e2e"]
    lines = [_success_line(one) for one in found.success]
    for one in latency[:MAX_LATENCY]:
        ratio, where = one.median, f"{one.candidate.hardware}, NFE {count(one.candidate.nfe)}"
        interval = ratio.interval
        told = f" (95 % interval {number(interval.low)}–{number(interval.high)})" if interval else ""
        better = _faster(ratio)
        lines.append(
            AnswerLine(
                "yes" if better else "open",
                f"The {better} decides faster on {where}." if better else f"Latency on {where} is not decided.",
                f"Median {number(ratio.base)} → {number(ratio.candidate)} ms, candidate / base {number(ratio.ratio)}"
                f"{told}{', within one process a side' if ratio.within else ''}.",
            )
        )
    return lines


def comparison_verdict(found: Comparison) -> str:
    """A comparison in one line: success with its figures, then latency."""
    success = [_success_line(one) for one in found.success]
    told = [part for line in success[:1] for part in (line.sentence, line.detail) if part]
    told += [line.sentence for line in success[1:]]
    probed = [one.median for one in found.latency if one.candidate.component == "e2e"]
    if probed:
        sides = [_faster(ratio) for ratio in probed]
        told.append(
            f"Of {count(len(probed))} probed configurations the candidate decides faster in "
            f"{count(sides.count('candidate'))}, the base in {count(sides.count('base'))}, and "
            f"{count(sides.count(None))} are not decided."
        )
    return " ".join(told) or "Nothing to compare: the ledgers share neither episodes nor probed configurations."


def _faster(ratio: QuantileRatio) -> Literal["candidate", "base"] | None:
    """Which side decides faster; None where the interval of the ratio holds 1 or there is none."""
    if ratio.interval is None or ratio.interval.low <= 1 <= ratio.interval.high:
        return None
    return "candidate" if ratio.ratio < 1 else "base"


def matrix_verdict(found: Matrix) -> str:
    """Several checkpoints in one line: which are best, and that the best cannot be told apart where there are many."""
    names = [f"{entry.side.label} ({entry.side.path})" for entry in found.best]
    if not names:
        return "No checkpoint has an episode that counts."
    if len(names) == 1:
        return f"Best: {names[0]}; every other checkpoint succeeds less often."
    return f"Best: {', '.join(names)}; these {len(names)} cannot be told apart."


def gate_reasons(result: GateResult) -> str:
    """Why the verdict is what it is: the reasons of the rules that decided it."""
    deciding = [one for one in result.results if not one.reported and one.verdict is result.verdict]
    if result.verdict is Verdict.PASS:
        return f"all {count(len(deciding))} rules pass." if len(deciding) > 1 else f"{deciding[0].reason}"
    return " ".join(f"{one.rule}: {one.reason}" for one in deciding) or "no rule could be judged."


def _success_line(one: SuccessComparison) -> AnswerLine:
    group = one.overall
    counts, (low, high) = group.counts, group.difference
    if not counts.n:
        return AnswerLine("open", f"{one.base.label} and {one.candidate.label} have no pair of episodes.", "")
    seen = (
        f"{one.base.label} → {one.candidate.label}: {points(counts.difference)} points of success (95 % interval "
        f"{points(low)} … {points(high)}) over {count(counts.n)} pairs; {count(counts.lost)} lost, "
        f"{count(counts.gained)} gained; exact McNemar p {probability(group.p)}."
    )
    if group.p < ALPHA:
        better = "candidate" if counts.difference > 0 else "base"
        return AnswerLine("yes", f"The {better} succeeds more often.", seen)
    asked = max(abs(counts.difference), 0.03)
    needed = one.pairs_to_show(asked)
    told = f"about {count(needed)} pairs" if needed else "more pairs than can be counted"
    return AnswerLine(
        "open", "Which one succeeds more often is not decided.", f"{seen} {100 * asked:.1f} points would take {told}."
    )

"""Comparisons and gates as JSON: strict (no NaN), one field per figure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.analysis.intervals import Interval
from harness.analysis.latency.comparison import LatencyComparison, Samples
from harness.analysis.latency.ratios import QuantileRatio
from harness.analysis.paired.compare import Comparison, GroupComparison, ScoreComparison, SuccessComparison
from harness.analysis.paired.matrix import Matrix
from harness.analysis.paired.pairing import Side
from harness.gate.judge import GateResult
from harness.report.json import json_text

FORMAT_VERSION = 1
"""Grows when a field changes its meaning or goes away."""


def render_json(content: Comparison | GateResult | Matrix) -> str:
    """Render a comparison, gate or matrix as JSON text."""
    if isinstance(content, GateResult):
        data = gate_dict(content)
    elif isinstance(content, Matrix):
        data = matrix_dict(content)
    else:
        data = comparison_dict(content)
    return json_text({"format_version": FORMAT_VERSION, **data})


def gate_dict(result: GateResult) -> dict[str, Any]:
    """A gate as plain data."""
    return {
        "verdict": result.verdict.value,
        "rules": result.rules.model_dump(mode="json", exclude_none=True),
        "results": [{"rule": found.rule, "verdict": found.shown, "reason": found.reason} for found in result.results],
        "comparison": comparison_dict(result.comparison),
    }


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "base": comparison.base,
        "candidate": comparison.candidate,
        "confidence": comparison.confidence,
        "notices": list(comparison.notices),
        "success": [_success(success) for success in comparison.success],
        "latency": [_latency(item) for item in comparison.latency],
    }


def matrix_dict(matrix: Matrix) -> dict[str, Any]:
    """A matrix as plain data."""
    return {
        "alpha": matrix.alpha,
        "notices": list(matrix.notices),
        "checkpoints": [
            {
                **_side(entry.side),
                "successes": entry.successes,
                "n": entry.n,
                "errors": entry.errors,
                "interval": _interval(entry.interval),
                "letters": entry.letters,
            }
            for entry in matrix.entries
        ],
        "pairs": [
            {"base": _side(found.base), "candidate": _side(found.candidate), **_group(found.overall), "p_adjusted": p}
            for found, p in matrix.comparisons
        ],
    }


def _score(score: ScoreComparison) -> dict[str, Any]:
    return {
        "pairs": score.n,
        "base": score.base,
        "candidate": score.candidate,
        "difference": _interval(score.difference),
        "p_drop": score.p_drop,
    }


def _success(success: SuccessComparison) -> dict[str, Any]:
    return {
        "base": _side(success.base),
        "candidate": _side(success.candidate),
        "pairs": success.n,
        "only_base": success.pairing.only_base,
        "only_candidate": success.pairing.only_candidate,
        "errors_base": success.errors_base,
        "errors_candidate": success.errors_candidate,
        "detectable_drop": success.detectable_drop,
        "overall": _group(success.overall),
        "score": None if success.score is None else _score(success.score),
        "suites": [_group(group) for group in success.suites],
        "tasks": [_group(group) for group in success.tasks],
        "flips": [asdict(flip) for flip in success.flips],
        "missed": [asdict(pair) for pair in success.missed],
        "overlap": None if success.overlap is None else asdict(success.overlap),
        "times": [None if found is None else asdict(found) for found in success.times],
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "path": side.path,
        "policy_id": side.policy_id,
        "nfe": side.nfe,
        "checkpoint": side.checkpoint,
        "hardware": list(side.hardware),
        "episodes": side.n,
    }


def _group(group: GroupComparison) -> dict[str, Any]:
    return {
        "suite": group.suite,
        "task_id": group.task_id,
        "task": group.task,
        "counts": asdict(group.counts),
        "counts_with_errors": asdict(group.counts_with_errors),
        "base_rate": group.base_rate,
        "base_interval": _interval(group.base),
        "candidate_rate": group.candidate_rate,
        "candidate_interval": _interval(group.candidate),
        "difference": group.counts.difference,
        "difference_interval": _interval(group.difference),
        "p": group.p,
        "p_adjusted": group.p_adjusted,
    }


def _latency(item: LatencyComparison) -> dict[str, Any]:
    return {
        "component": item.candidate.component,
        "base": _samples(item.base),
        "candidate": _samples(item.candidate),
        "median": _ratio(item.median),
        "p99": _ratio(item.p99),
        "slower": item.slower,
        "p": item.median.p,
        "energy_ratio": item.energy_ratio,
        "memory_ratio": item.memory_ratio,
    }


def _samples(samples: Samples) -> dict[str, Any]:
    names = (
        *("hardware", "policy_id", "nfe", "dtype", "compile", "batch_size", "throttled"),
        *("energy_j", "energy_source", "memory_bytes"),
    )
    told = {"machine": samples.machine.name, "n": int(samples.latency_ms.size), "launches": len(samples.launches)}
    return {**{name: getattr(samples, name) for name in names}, **told}


def _ratio(ratio: QuantileRatio) -> dict[str, Any]:
    return {
        "base_ms": ratio.base,
        "candidate_ms": ratio.candidate,
        "ratio": ratio.ratio,
        "interval": _interval(ratio.interval),
        "independent": list(ratio.effective),
        "unit": "samples, within one process" if ratio.within else "launches",
    }


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]

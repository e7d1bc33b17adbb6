"""Rules about latency and memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.intervals import Floats
from harness.analysis.latency.comparison import LatencyComparison, Samples
from harness.analysis.latency.ratios import effective_size, quantile_bounds, ratio_bounds
from harness.gate.verdict import RuleResult, Verdict, combine
from harness.spec.rules import BudgetRule, LatencyRule, MemoryRule

GIB = 2**30


def judge_ratio(
    rule: LatencyRule, latency: Sequence[LatencyComparison], alpha: float, pass_alpha: float, rng: np.random.Generator
) -> RuleResult:
    """Judge a latency ratio in every configuration that it speaks of; they share the rule's alpha."""
    name = f"latency {rule.component} {quantile_name(rule.quantile)}"
    chosen = [item for item in latency if _applies(rule, item.candidate)]
    if not chosen:
        return RuleResult(name, Verdict.INCONCLUSIVE, f"Both sides have no samples of {rule.component} in common.")
    judged = [_ratio(rule, item, alpha / len(chosen), pass_alpha, rng) for item in chosen]
    return _worst(name, judged)


def judge_budget(rule: BudgetRule, samples: Sequence[Samples], alpha: float, pass_alpha: float) -> RuleResult:
    """Judge an absolute limit in every configuration of the candidate that it speaks of."""
    name = f"budget {rule.component} {quantile_name(rule.quantile)}"
    chosen = [item for item in samples if _applies(rule, item)]
    if not chosen:
        return RuleResult(name, Verdict.INCONCLUSIVE, f"The candidate has no samples of {rule.component}.")
    return _worst(name, [_budget(rule, item, alpha / len(chosen), pass_alpha) for item in chosen])


def judge_memory(rule: MemoryRule, base: Sequence[Samples], candidate: Sequence[Samples]) -> RuleResult:
    """Judge the largest peak memory of the candidate's probes, on any hardware."""
    peaks = [max((item.memory_bytes or 0 for item in side), default=0) for side in (base, candidate)]
    if not peaks[1] or (rule.max_ratio is not None and not peaks[0]):
        return RuleResult("memory", Verdict.INCONCLUSIVE, "Peak memory was not measured on both sides.")
    problems = []
    if rule.max_gib is not None and peaks[1] > rule.max_gib * GIB:
        problems.append(f"the limit is {rule.max_gib:g} GiB")
    if rule.max_ratio is not None and peaks[1] > rule.max_ratio * peaks[0]:
        problems.append(
            f"{peaks[1] / peaks[0]:.2f} times the base's {peaks[0] / GIB:.2f} GiB, limit {rule.max_ratio:g}"
        )
    figures = f"peak {peaks[1] / GIB:.2f} GiB"
    if problems:
        return RuleResult("memory", Verdict.FAIL, f"{figures}: {'; '.join(problems)}.")
    return RuleResult("memory", Verdict.PASS, f"{figures}.")


def _ratio(
    rule: LatencyRule, item: LatencyComparison, alpha: float, pass_alpha: float, rng: np.random.Generator
) -> tuple[Verdict, str]:
    old, new = item.base.latency_ms, item.candidate.latency_ms
    low, high = ratio_bounds(old, new, rule.quantile, rng, alpha, pass_alpha)
    before, after = np.quantile(old, rule.quantile), np.quantile(new, rule.quantile)
    if before <= 0:
        return Verdict.INCONCLUSIVE, f"{_where(item.candidate)}: the base's latency is 0 ms, so there is no ratio."
    figures = (
        f"{_where(item.candidate)}: {before:.2f} → {after:.2f} ms, ratio {after / before:.3f} "
        f"(bounds {_bound(low)} … {_bound(high)}), limit {rule.max_ratio:g}{_throttled(item.base, item.candidate)}"
    )
    return _against(low, high, rule.max_ratio, figures, _few(rule.quantile, old, new))


def _budget(rule: BudgetRule, item: Samples, alpha: float, pass_alpha: float) -> tuple[Verdict, str]:
    low = quantile_bounds(item.latency_ms, rule.quantile, alpha).low
    high = quantile_bounds(item.latency_ms, rule.quantile, pass_alpha).high
    figures = (
        f"{_where(item)}: {np.quantile(item.latency_ms, rule.quantile):.2f} ms "
        f"(bounds {_bound(low)} … {_bound(high)}), limit {rule.limit_ms:g} ms{_throttled(item)}"
    )
    return _against(low, high, rule.limit_ms, figures, _few(rule.quantile, item.latency_ms))


def _against(low: float, high: float, limit: float, figures: str, few: str) -> tuple[Verdict, str]:
    if low > limit:
        return Verdict.FAIL, figures
    if high <= limit:
        return Verdict.PASS, figures
    return Verdict.INCONCLUSIVE, f"{figures}; {few}"


def _worst(rule: str, judged: Sequence[tuple[Verdict, str]]) -> RuleResult:
    verdict = combine(found for found, _ in judged)
    reasons = [reason for found, reason in judged if found is verdict]
    shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    return RuleResult(rule, verdict, f"{shown}.")


def _applies(rule: LatencyRule | BudgetRule, item: Samples) -> bool:
    return item.component == rule.component and rule.nfe in (None, item.nfe) and rule.hardware in (None, item.hardware)


def _where(item: Samples) -> str:
    parts = [item.hardware, f"NFE {item.nfe}" if item.nfe is not None else None]
    parts.append(f"batch {item.batch_size}" if item.batch_size not in (None, 1) else None)
    return ", ".join(part for part in parts if part) or item.component


def _few(quantile: float, *sides: Floats) -> str:
    sizes = " and ".join(f"{side.size} ({effective_size(side, quantile)} effective)" for side in sides)
    return f"samples: {sizes}; more would tell"


def _throttled(*sides: Samples) -> str:
    count = sum(side.throttled for side in sides)
    return f"; {count} samples were throttled" if count else ""


def _bound(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def quantile_name(quantile: float) -> str:
    """A quantile as people write it: p50, p99, p99.9."""
    return f"p{100 * quantile:g}"

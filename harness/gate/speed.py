"""Rules about latency, memory and energy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis.latency.comparison import Samples, match_samples, refused_energies, telling_names
from harness.analysis.latency.launches import (
    MOST_LAUNCHES,
    WITHIN,
    Launches,
    assumed_spread,
    could_pass,
    launches_needed,
    least_samples,
    level,
    level_limits,
    limits_between,
    means_level,
    ratio_limits,
)
from harness.errors import SpecError, UsageError, unknown_name
from harness.gate.verdict import RuleResult, Verdict, combine
from harness.spec.profile import load_profile, profile_names
from harness.spec.rules import ANY_HARDWARE, BudgetRule, EnergyRule, GateRules, LatencyRule, MemoryRule

GIB = 2**30

ROUNDING = 1e-9
"""Share of a limit by which an exponential of a logarithm may miss it."""

Sides = tuple[Sequence[Samples], Sequence[Samples]]
"""Latency samples of base and candidate."""


def require_known_hardware(rules: GateRules, *sides: Sequence[Samples]) -> None:
    """Refuse rules about a machine that nobody knows: what they ask would never be judged.

    Args:
        rules: The rules.
        sides: Samples of base, candidate and device.

    Raises:
        UsageError: A rule's `hardware` is neither a profile, nor measured here; the nearest name is suggested.
    """
    measured = {item.hardware for side in sides for item in side if item.hardware is not None}
    singles = [rule for rule in (rules.memory, rules.energy) if rule is not None]
    for rule in (*rules.latency, *rules.budgets, *singles):
        if rule.hardware is None or rule.hardware in (ANY_HARDWARE, *measured):
            continue
        try:
            load_profile(rule.hardware)
        except SpecError:
            raise
        except UsageError:
            known = {ANY_HARDWARE, *measured, *profile_names()}
            raise unknown_name("hardware of a rule", rule.hardware, known) from None


def judge_ratio(rule: LatencyRule, samples: Sides, alpha: float, pass_alpha: float) -> RuleResult:
    """Judge a latency ratio in every configuration that it speaks of; they share the rule's alpha."""
    name = latency_rule_name(rule)
    across = rule.hardware == ANY_HARDWARE
    sides = [[item for item in side if item.component == rule.component] for side in samples]
    matched = match_samples(*sides, across=across)
    chosen = [pair for pair in matched.pairs if _applies(rule, pair[1])]
    if not chosen:
        nothing = f"Both sides have no samples of {rule.component} in common."
        return RuleResult(name, Verdict.INCONCLUSIVE, " ".join(matched.refused) or nothing)
    if rule.when == "decidable" and (said := _undecidable(rule, chosen, pass_alpha)):
        return RuleResult(name, Verdict.INCONCLUSIVE, said, reported=True)
    judged = [_ratio(rule, *pair, alpha / len(chosen), pass_alpha) for pair in chosen]
    return _worst(name, _told_apart(judged, [new for _, new in chosen]))


def latency_rule_name(rule: LatencyRule) -> str:
    """Name of a latency rule in verdicts, e.g. "latency e2e p99"."""
    return f"latency {rule.component} {quantile_name(rule.quantile)}"


def judge_budget(rule: BudgetRule, samples: Sequence[Samples], alpha: float, pass_alpha: float) -> RuleResult:
    """Judge an absolute limit in every configuration of the candidate that it speaks of."""
    name = f"budget {rule.component} {quantile_name(rule.quantile)}"
    chosen = [item for item in samples if item.component == rule.component and _applies(rule, item)]
    if not chosen:
        return RuleResult(name, Verdict.INCONCLUSIVE, f"The candidate has no samples of {rule.component}.")
    return _worst(name, _told_apart([_budget(rule, item, alpha / len(chosen), pass_alpha) for item in chosen], chosen))


def judge_memory(rule: MemoryRule, samples: Sides) -> RuleResult:
    """Judge the largest peak memory of the candidate's probes; its ratio machine by machine."""
    candidate = [item for item in samples[1] if item.memory_bytes]
    matched = match_samples(samples[0], samples[1], across=rule.hardware == ANY_HARDWARE)
    pairs = [(old, new) for old, new in matched.pairs if old.memory_bytes and new.memory_bytes and _on(rule, new)]
    nothing = " ".join(matched.refused) or "Peak memory was not measured on both sides."
    if not candidate:
        return RuleResult("memory", Verdict.INCONCLUSIVE, nothing)
    peak = max(candidate, key=lambda item: item.memory_bytes or 0)
    problems = []
    if rule.max_gib is not None and _gib(peak) > rule.max_gib:
        problems.append(f"the limit is {rule.max_gib:g} GiB")
    for where, (old, new) in _peaks(pairs).items() if rule.max_ratio is not None else ():
        if rule.max_ratio is not None and new > rule.max_ratio * old:
            told = f"{new / old:.2f} times the base's {old / GIB:.2f} GiB, limit {rule.max_ratio:g}"
            problems.append(f"{where}: {told}")
    figures = f"{peak.machine.name}: peak {_gib(peak):.2f} GiB"
    if problems:
        return RuleResult("memory", Verdict.FAIL, f"{figures}: {'; '.join(problems)}.")
    if rule.max_ratio is not None and not pairs:
        return RuleResult("memory", Verdict.INCONCLUSIVE, nothing)
    return RuleResult("memory", Verdict.PASS, f"{figures}.")


def judge_energy(rule: EnergyRule, samples: Sides, alpha: float, pass_alpha: float) -> RuleResult:
    """Judge the largest mean energy of a decision over the candidate's configurations, and its ratio to the base's."""
    base, candidate = ([item for item in side if item.component == "e2e"] for side in samples)
    known = [item for item in candidate if _applies(rule, item) and item.energy_j is not None]
    if not known:
        nothing = "The candidate's energy was not measured: neither an energy counter nor the power could be read."
        return RuleResult("energy", Verdict.INCONCLUSIVE, nothing)
    judged: list[tuple[Verdict, str]] = []
    if rule.max_j is not None:
        most = max(known, key=lambda item: item.energy_j or 0.0)
        told = f"{_where(most, most)}: {most.energy_j:.3g} J a decision ({most.energy_source}), mean of "
        verdict = Verdict.FAIL if (most.energy_j or 0.0) > rule.max_j else Verdict.PASS
        judged.append((verdict, f"{told}{most.latency_ms.size}, limit {rule.max_j:g} J"))
    if rule.max_ratio is not None:
        matched = match_samples(base, candidate, across=rule.hardware == ANY_HARDWARE)
        pairs = [(old, new) for old, new in matched.pairs if old.energies_j and new.energies_j and _applies(rule, new)]
        if not pairs:
            nothing = " ".join(matched.refused) or "The energy was not measured on both sides"
            judged.append((Verdict.INCONCLUSIVE, nothing.rstrip(".")))
        ratios = [_energy_ratio(rule, rule.max_ratio, *pair, alpha / len(pairs), pass_alpha) for pair in pairs]
        judged += _told_apart(ratios, [new for _, new in pairs])
    return _worst("energy", judged)


def _energy_ratio(
    rule: EnergyRule, limit: float, old: Samples, new: Samples, alpha: float, pass_alpha: float
) -> tuple[Verdict, str]:
    """Judge a ratio of mean energies: a launch a number, as of latency."""
    refused = refused_energies(old, new)
    if refused and rule.source != "any":
        return Verdict.INCONCLUSIVE, f"{_where(old, new)}: {refused} Say `source: any` to compare them all the same"
    sides = [side.energies_j for side in (old, new)]
    if min(map(min, sides)) <= 0:
        return Verdict.INCONCLUSIVE, f"{_where(old, new)}: an energy is 0 J, so there is no ratio"
    was, now = (means_level(side) for side in sides)
    low, high = limits_between(was, now, alpha, pass_alpha)
    before, after = np.exp(was.log), np.exp(now.log)
    sources = " → ".join(dict.fromkeys(str(side.energy_source) for side in (old, new)))
    figures = (
        f"{_where(old, new)}: {before:.3g} → {after:.3g} J a decision ({sources}), ratio {after / before:.3f} "
        f"(bounds {_bound(low)} … {_bound(high)}, {_basis(0.5, old.launches, new.launches)}), limit {limit:g}"
    )
    return _against(low, high, limit, figures, "too near to tell; more launches would (probe with --launches)")


def _peaks(pairs: Sequence[tuple[Samples, Samples]]) -> dict[str, tuple[int, int]]:
    """Machines → largest peaks of base and candidate there, bytes."""
    peaks: dict[str, tuple[int, int]] = {}
    for old, new in pairs:
        where = _machines(old, new)
        before = peaks.get(where, (0, 0))
        peaks[where] = (max(before[0], old.memory_bytes or 0), max(before[1], new.memory_bytes or 0))
    return peaks


def _gib(item: Samples) -> float:
    return (item.memory_bytes or 0) / GIB


def _undecidable(rule: LatencyRule, chosen: Sequence[tuple[Samples, Samples]], pass_alpha: float) -> str | None:
    """Why the base's own launches leave a limit undecided, with the ratio; None where they allow a verdict."""
    lacking = [
        (old, new) for old, new in chosen if not could_pass(old.launches, rule.quantile, rule.max_ratio, pass_alpha)
    ]
    if not lacking:
        return None
    old, new = lacking[0]
    spread = level(old.launches, rule.quantile).spread
    told = (
        f"its launches differ by {_percent(spread)}"
        if len(old.launches) > 1 and np.isfinite(spread)
        else f"it has {_launches_of(old.launches, rule.quantile)}"
    )
    return (
        f"Reported, not judged: the base cannot tell {rule.max_ratio:g} from 1 ({told}). "
        f"{_figures(rule, old, new, pass_alpha, pass_alpha)[0]}."
    )


def _figures(
    rule: LatencyRule, old: Samples, new: Samples, alpha: float, pass_alpha: float
) -> tuple[str, float, float]:
    """Ratio in words, and its bounds."""
    low, high = ratio_limits(old.launches, new.launches, rule.quantile, alpha, pass_alpha)
    before, after = (np.exp(level(side.launches, rule.quantile).log) for side in (old, new))
    figures = (
        f"{_where(old, new)}: {before:.2f} → {after:.2f} ms, ratio {after / before:.3f} "
        f"(bounds {_bound(low)} … {_bound(high)}, {_basis(rule.quantile, old.launches, new.launches)}), "
        f"limit {rule.max_ratio:g}{_throttled(old, new)}"
    )
    return figures, low, high


def _ratio(rule: LatencyRule, old: Samples, new: Samples, alpha: float, pass_alpha: float) -> tuple[Verdict, str]:
    if not np.isfinite([level(side.launches, rule.quantile).log for side in (old, new)]).all():
        return Verdict.INCONCLUSIVE, f"{_where(old, new)}: a latency is 0 ms, so there is no ratio"
    figures, low, high = _figures(rule, old, new, alpha, pass_alpha)
    old_log, new_log = (level(side.launches, rule.quantile).log for side in (old, new))
    over = new_log - old_log > np.log(rule.max_ratio)
    needed = launches_needed(old.launches, new.launches, rule.quantile, rule.max_ratio, alpha if over else pass_alpha)
    return _against(low, high, rule.max_ratio, figures, _more(rule.quantile, needed, old.launches, new.launches))


def _budget(rule: BudgetRule, item: Samples, alpha: float, pass_alpha: float) -> tuple[Verdict, str]:
    low, high = level_limits(item.launches, rule.quantile, alpha, pass_alpha)
    if not np.isfinite(level(item.launches, rule.quantile).log):
        return Verdict.INCONCLUSIVE, f"{_where(item, item)}: a latency is 0 ms, which no clock measured"
    figures = (
        f"{_where(item, item)}: {np.exp(level(item.launches, rule.quantile).log):.2f} ms "
        f"(bounds {_bound(low)} … {_bound(high)}, {_basis(rule.quantile, item.launches)}), "
        f"limit {rule.limit_ms:g} ms{_throttled(item)}"
    )
    return _against(low, high, rule.limit_ms, figures, _more(rule.quantile, None, item.launches))


def _against(low: float, high: float, limit: float, figures: str, few: str) -> tuple[Verdict, str]:
    # Bounds of launches that do not differ are the ratio itself, to the last digit of its logarithm.
    if low > limit * (1 + ROUNDING):
        return Verdict.FAIL, figures
    if high <= limit * (1 + ROUNDING):
        return Verdict.PASS, figures
    return Verdict.INCONCLUSIVE, f"{figures}; {few}"


def _told_apart(judged: Sequence[tuple[Verdict, str]], of: Sequence[Samples]) -> list[tuple[Verdict, str]]:
    """Put before each reason the policy and the build that it is about, where there are several."""
    names = telling_names(of)
    return [(verdict, ", ".join((*name, reason))) for (verdict, reason), name in zip(judged, names, strict=True)]


def _worst(rule: str, judged: Sequence[tuple[Verdict, str]]) -> RuleResult:
    verdict = combine(found for found, _ in judged)
    reasons = [reason for found, reason in judged if found is verdict]
    shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    return RuleResult(rule, verdict, f"{shown}.")


def _applies(rule: LatencyRule | BudgetRule | EnergyRule, item: Samples) -> bool:
    return rule.nfe in (None, item.nfe) and _on(rule, item)


def _on(rule: LatencyRule | BudgetRule | MemoryRule | EnergyRule, item: Samples) -> bool:
    return rule.hardware in (None, ANY_HARDWARE, item.hardware)


def _machines(old: Samples, new: Samples) -> str:
    names = dict.fromkeys((old.machine.name, new.machine.name))
    return " → ".join(names) if not old.machine.is_like(new.machine) else new.machine.name


def _where(old: Samples, new: Samples) -> str:
    parts = [_machines(old, new), f"NFE {new.nfe}" if new.nfe is not None else None]
    parts.append(f"batch {new.batch_size}" if new.batch_size not in (None, 1) else None)
    return ", ".join(part for part in parts if part)


def _basis(quantile: float, *sides: Launches) -> str:
    """On what bounds rest, in words."""
    counts = " and ".join(str(len(side)) for side in sides)
    if min(len(side) for side in sides) > 1:
        return f"{counts} launches"
    return f"{WITHIN}: {counts} launches, a spread of {_percent(assumed_spread(quantile))} between launches assumed"


def _launches_of(launches: Launches, quantile: float) -> str:
    if len(launches) == 1:
        return "one launch"
    return f"launches of {min(side.size for side in launches)} samples, of {least_samples(quantile)}"


def _more(quantile: float, needed: int | None, *sides: Launches) -> str:
    """What would decide."""
    fewest = min(samples.size for side in sides for samples in side)
    if fewest < least_samples(quantile):
        return f"a launch of {fewest} samples has no {quantile_name(quantile)}; {least_samples(quantile)} would tell"
    if min(len(side) for side in sides) == 1:
        return "near the limit one launch a side decides nothing: probe with --launches 5"
    spreads = " and ".join(_percent(level(side, quantile).spread) for side in sides)
    counted = f"{needed} launches a side" if needed else f"not even {MOST_LAUNCHES} launches a side"
    decide = "" if len(sides) == 1 else f"; if that stays so, {counted} would decide"
    return f"launches differ by {spreads}{decide}"


def _throttled(*sides: Samples) -> str:
    count = sum(side.throttled for side in sides)
    return f"; {count} samples were throttled" if count else ""


def _bound(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def quantile_name(quantile: float) -> str:
    """A quantile as people write it: p50, p99, p99.9."""
    return f"p{100 * quantile:g}"

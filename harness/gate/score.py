"""The rule about partial credit: a bounded score of every pair, weighed by the gate's design or by one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.intervals import Floats
from harness.analysis.paired.pairing import ERROR
from harness.analysis.paired.score import (
    chance_to_exclude,
    chance_to_show_drop,
    drop_p,
    log_evidence,
    mean_interval,
    on_lattice,
    shown_drop,
)
from harness.gate.evidence import FUTILITY, REACH
from harness.gate.outlook import more_needed, outlook_text
from harness.gate.pairs import PairTable, View
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import GateRules, ScoreRule

NAME = "score"
UNKNOWN = (
    "Not every pair has partial credit on both sides: ledgers of before, imports and some worlds have none. Run both "
    "again, or leave the rule out."
)
NOTHING = (
    "The base's mean score is within the margin of {:g}: losing all of it would be tolerated, so nothing can be "
    "judged. State a floor, and look at the base."
)


@dataclass(frozen=True)
class ScoreEvidence:
    """Differences of partial credit, candidate minus base, and the design that weighs them."""

    looks: tuple[Floats, ...]
    """Differences that came with each look so far; all of them together where no looks are planned."""
    sizes: tuple[int, ...]
    """Pairs that the plan has by each of its looks, cumulated; one entry where no looks are planned."""
    anytime: bool

    @property
    def differences(self) -> Floats:
        """All so far."""
        return np.concatenate(self.looks)

    @property
    def ended(self) -> bool:
        """Whether the plan is done, or there is none."""
        return self.anytime or len(self.looks) >= len(self.sizes)

    @property
    def extent(self) -> int:
        """See `outlook.Prolongable`."""
        return self.differences.size if self.unplanned else self.sizes[len(self.looks) - 1]

    @property
    def coming(self) -> Sequence[int]:
        """See `outlook.Prolongable`."""
        return () if self.unplanned else self.sizes[len(self.looks) :]

    @property
    def whole(self) -> int:
        """See `outlook.Prolongable`."""
        return self.sizes[-1]

    @property
    def unplanned(self) -> bool:
        """Whether there is no plan of several looks."""
        return self.anytime or len(self.sizes) == 1

    def prolonged(self, extent: int) -> ScoreEvidence:
        """See `outlook.Prolongable`."""
        if extent <= self.whole:
            steps = zip((self.extent, *self.coming), self.coming, strict=False)
            new = tuple(self._alike(size - before) for before, size in steps if size <= extent)
            return ScoreEvidence(self.looks + new, self.sizes, self.anytime)
        sizes = tuple(round(size * extent / self.whole) for size in self.sizes)
        steps = zip((0, *sizes), sizes, strict=False)
        return ScoreEvidence(tuple(self._alike(size - before) for before, size in steps), sizes, self.anytime)

    def _alike(self, n: int) -> Floats:
        """So many differences like those so far: what there is at n evenly spaced places of them, sorted."""
        seen = np.sort(self.differences)
        return seen[((np.arange(n) + 0.5) * seen.size / n).astype(np.int64)] if n else seen[:0]

    def drop(self, alpha: float) -> bool:
        """Whether a real drop is shown."""
        if self.anytime:
            return bool(log_evidence(-self.differences, 0.0) >= np.log(1 / alpha))
        return shown_drop([on_lattice(one) for one in self.looks], self.sizes, alpha)

    def above(self, bound: float, alpha: float) -> bool:
        """Whether the mean difference is shown to be above a bound, at this look or an earlier one."""
        return any(
            log_evidence(np.concatenate(self.looks[: look + 1]), bound) >= np.log(1 / alpha)
            for look in range(len(self.looks))
        )

    def worse(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """Whether a drop is shown, and more than the margin not about to be excluded."""
        if not self.drop(alpha) or self.above(-margin, pass_alpha):
            return False
        if self.anytime:
            return bool(self.differences.mean() <= -margin)
        if self.ended:
            return True
        return chance_to_exclude(self.differences, self.sizes[-1], margin, pass_alpha, -margin / 2) <= REACH

    def futile(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """Whether going on is of no use."""
        if self.ended or self.above(-margin, pass_alpha):
            return False
        good = chance_to_exclude(self.differences, self.sizes[-1], margin, pass_alpha, 0.0)
        return max(good, chance_to_show_drop(self.differences, self.sizes[-1], alpha, -margin)) <= FUTILITY


def judge_score(
    table: PairTable, rules: GateRules, rule: ScoreRule, alpha: float, look: int | None, *, outlook: bool = False
) -> RuleResult:
    """Judge partial credit: a PASS has to hold if errors went badly for the candidate, a FAIL if they went well.

    Args:
        table: The pairs.
        rules: The gate's rules.
        rule: The rule.
        alpha: Its share of the gate's alpha.
        look: Looks that were taken of the planned ones; None without planned looks.
        outlook: Whether an undecided rule says how many more pairs would decide it.
    """
    evidence = score_evidence(table, rules, rule, "scored", look)
    if evidence is None:
        return RuleResult(NAME, Verdict.INCONCLUSIVE, UNKNOWN)
    known = (table.base != ERROR) & (table.candidate != ERROR)
    if table.base_scores is not None and table.base_scores[known].mean() <= rule.margin:
        return RuleResult(NAME, Verdict.INCONCLUSIVE, NOTHING.format(rule.margin))
    verdict, reason = _judged(evidence, rule, alpha, rules.alpha)
    if verdict is Verdict.INCONCLUSIVE and outlook:
        reason = f"{reason} {_outlook(evidence, rule, alpha, rules.alpha)}"
    if verdict is Verdict.INCONCLUSIVE or evidence.differences.size == table.n:
        return RuleResult(NAME, verdict, reason)
    against = score_evidence(table, rules, rule, "worst" if verdict is Verdict.PASS else "best", look)
    if against is not None and _judged(against, rule, alpha, rules.alpha)[0] is verdict:
        return RuleResult(NAME, verdict, reason)
    return RuleResult(NAME, Verdict.INCONCLUSIVE, f"Infrastructure errors decide it. Left out: {verdict}: {reason}")


def score_futile(table: PairTable, rules: GateRules, rule: ScoreRule, look: int | None) -> bool:
    """Whether a run has no fair chance to decide about partial credit any more."""
    found = [score_evidence(table, rules, rule, view, look) for view in ("scored", "worst", "best")]
    return all(one is not None and one.futile(rule.margin, rules.alpha_of(rule), rules.alpha) for one in found)


def score_evidence(
    table: PairTable, rules: GateRules, rule: ScoreRule, view: View, look: int | None
) -> ScoreEvidence | None:
    """The evidence of a view of the errors; None where a pair has no partial credit, or there is no pair."""
    found = table.score_differences(view)
    if found is None or not found[0].size:
        return None
    differences, kept = found
    design = rule.design or rules.design
    if design == "sequential" and look is not None and table.rounds is not None and table.planned is not None:
        sizes = tuple(int(size) for size in np.cumsum(table.planned.sum(axis=1)))
        rounds = table.rounds[kept]
        return ScoreEvidence(tuple(differences[rounds == number] for number in range(look)), sizes, False)
    return ScoreEvidence((differences,), (differences.size,), design != "fixed")


def _judged(evidence: ScoreEvidence, rule: ScoreRule, alpha: float, pass_alpha: float) -> tuple[Verdict, str]:
    differences = evidence.differences
    low, high = mean_interval(differences)
    less, further = int((differences < 0).sum()), int((differences > 0).sum())
    said = (
        f"mean score {differences.mean():+.3f} over {differences.size} pairs "
        f"(95 % by betting: {low:+.3f} … {high:+.3f}), {less} came less far and {further} further, "
        f"margin {-rule.margin:+g}"
    )
    scope = _scope(evidence)
    if evidence.above(-rule.margin, pass_alpha):
        return Verdict.PASS, f"{said}.{scope}"
    if evidence.worse(rule.margin, alpha, pass_alpha):
        one_look = not evidence.anytime and len(evidence.sizes) == 1
        p = f" (p = {drop_p(differences):.2g}, alarm at {alpha:.2g})" if one_look else ""
        return Verdict.FAIL, f"{said}: a real drop{p}, and more than the margin is not excluded.{scope}"
    return Verdict.INCONCLUSIVE, f"{said}. Neither a drop nor its absence is shown.{scope}"


def _outlook(evidence: ScoreEvidence, rule: ScoreRule, alpha: float, pass_alpha: float) -> str:
    """How many more pairs would decide, in a sentence."""

    def decides(later: ScoreEvidence) -> bool:
        return later.above(-rule.margin, pass_alpha) or later.worse(rule.margin, alpha, pass_alpha)

    return outlook_text(more_needed(evidence, decides), evidence.extent)


def _scope(evidence: ScoreEvidence) -> str:
    if evidence.anytime:
        return " Anytime-valid (e-process, no plan)."
    if len(evidence.sizes) == 1:
        return ""
    done, planned = evidence.sizes[len(evidence.looks) - 1], evidence.sizes[-1]
    return f" Group-sequential, look {len(evidence.looks)} of {len(evidence.sizes)} planned: {done} of {planned} pairs."

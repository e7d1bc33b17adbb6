"""How the two designs weigh counts of pairs: one look at the end, or a look after every pair."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.paired.sequential import anytime_p, log_evidence_above, log_evidence_below, lower_sequence_bound
from harness.analysis.paired.statistics import PairCounts, difference_bounds, mcnemar_exact


@dataclass(frozen=True)
class Evidence:
    """Evidence about candidate minus base. Each figure errs at most as often as its alpha says."""

    counts: PairCounts
    sequential: bool
    """Whether it has to hold at any stopping time."""

    def p_drop(self) -> float:
        """P value of "no real drop"."""
        if self.sequential:
            return float(anytime_p(log_evidence_below(self.counts.gained, self.counts.lost, self.counts.n, 0.0)))
        return float(mcnemar_exact(self.counts.lost, self.counts.gained, "drop"))

    def p_rise(self) -> float:
        """P value of "no real rise"."""
        if self.sequential:
            return float(anytime_p(log_evidence_above(self.counts.gained, self.counts.lost, self.counts.n, 0.0)))
        return float(mcnemar_exact(self.counts.lost, self.counts.gained, "rise"))

    def lower(self, alpha: float) -> float:
        """One-sided lower bound of the difference."""
        if self.sequential:
            return lower_sequence_bound(self.counts, alpha)
        return float(difference_bounds(self.counts.lost, self.counts.gained, self.counts.n, 1 - 2 * alpha)[0])

    def upper(self, alpha: float) -> float:
        """One-sided upper bound of the difference."""
        mirrored = PairCounts(self.counts.both, self.counts.gained, self.counts.lost, self.counts.neither)
        return -Evidence(mirrored, self.sequential).lower(alpha)

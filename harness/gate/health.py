"""Rules about the data themselves: enough of it, and little of it lost to infrastructure errors."""

from __future__ import annotations

from harness.analysis.intervals import rate_interval
from harness.analysis.paired.compare import SuccessComparison
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import ErrorRule, GateRules


def judge_pairs(success: SuccessComparison, rules: GateRules) -> RuleResult:
    """Whether enough episodes are paired."""
    scored, paired, wanted = success.overall.counts.n, success.n, success.base.n
    share = paired / wanted if wanted else 0.0
    figures = f"{scored} pairs have a result; {paired} of the base's {wanted} episodes are paired ({share:.1%})"
    if paired == 0:
        return RuleResult("pairs", Verdict.INCONCLUSIVE, "The two ledgers have no episode in common.")
    if scored < rules.pairs.min:
        return RuleResult("pairs", Verdict.INCONCLUSIVE, f"{figures}; {rules.pairs.min} pairs are wanted.")
    stopped = rules.design == "sequential" and success.candidate.status == "stopped"
    if share < rules.pairs.min_share and not stopped:
        return RuleResult(
            "pairs",
            Verdict.INCONCLUSIVE,
            f"{figures}; {rules.pairs.min_share:.1%} are wanted. Episodes that are missing may be those that fail: "
            "finish the candidate's run with --resume. If fewer were planned, say so with pairs.min_share.",
        )
    return RuleResult("pairs", Verdict.PASS, f"{figures}.")


def judge_errors(success: SuccessComparison, rule: ErrorRule, alpha: float) -> RuleResult:
    """Whether few enough episodes ended in an infrastructure error."""
    n = success.n
    if n == 0:
        return RuleResult("errors", Verdict.INCONCLUSIVE, "There are no pairs.")
    rates = success.errors_base / n, success.errors_candidate / n
    low, _ = rate_interval(success.errors_candidate, n, 1 - 2 * alpha)
    figures = f"base {rates[0]:.1%}, candidate {rates[1]:.1%} of {n} pairs; limit {rule.max_rate:.1%}"
    if low > rule.max_rate:
        return RuleResult("errors", Verdict.FAIL, f"{figures}: the candidate truly exceeds it (at {1 - alpha:.4g}).")
    if max(rates) > rule.max_rate:
        return RuleResult("errors", Verdict.INCONCLUSIVE, f"{figures}. Run again with --resume to repeat the errors.")
    return RuleResult("errors", Verdict.PASS, f"{figures}.")

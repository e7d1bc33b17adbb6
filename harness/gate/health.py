"""Rules about the data themselves: enough of it, and little of it lost to infrastructure errors."""

from __future__ import annotations

from harness.analysis.intervals import rate_interval
from harness.analysis.paired.compare import SuccessComparison
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import ErrorRule, GateRules


def judge_pairs(success: SuccessComparison, rules: GateRules) -> RuleResult:
    """Whether enough episodes are paired."""
    scored, paired, wanted = success.overall.counts.n, success.n, success.base.n
    run = success.candidate.n
    share, own_share = paired / max(wanted, 1), paired / max(run, 1)
    figures = f"{scored} pairs have a result; {paired} of the base's {wanted} episodes are paired ({share:.1%})"
    if own_share < 1:
        figures += f", and of the candidate's {run} ({own_share:.1%})"
    if paired == 0:
        return RuleResult("pairs", Verdict.INCONCLUSIVE, "The two ledgers have no episode in common.")
    if scored < rules.pairs.min:
        return RuleResult("pairs", Verdict.INCONCLUSIVE, f"{figures}; {rules.pairs.min} pairs are wanted.")
    stopped = rules.design != "fixed" and success.candidate.status == "stopped"
    if share < rules.pairs.min_share and not stopped:
        return RuleResult(
            "pairs",
            Verdict.INCONCLUSIVE,
            f"{figures}; {rules.pairs.min_share:.1%} are wanted. Episodes that are missing may be those that fail: "
            "finish the candidate's run with --resume. If fewer were planned, say so with pairs.min_share.",
        )
    if own_share < rules.pairs.min_share:
        return RuleResult(
            "pairs",
            Verdict.INCONCLUSIVE,
            f"{figures}; {rules.pairs.min_share:.1%} are wanted. {success.pairing.only_candidate} episodes of the "
            "candidate have no partner, and may be those that fail: run them with the base too. If the base was "
            "planned with fewer, say so with pairs.min_share.",
        )
    return RuleResult("pairs", Verdict.PASS, f"{figures}. {_sampling_unit(success, rules)}")


def _sampling_unit(success: SuccessComparison, rules: GateRules) -> str:
    """What the verdicts are about."""
    if rules.cluster:
        unit = "init states" if rules.cluster == "init_state" else "tasks"
        return f"Sampling unit: {unit}; verdicts are about {unit} like these."
    said = "Sampling unit: an episode; verdicts are about these tasks and init states, pairs taken as independent."
    trials = success.base.details["trial"].unique()
    if len(trials) > 1:
        said += f" There are {len(trials)} trials of an init state, which may be alike: see cluster: init_state."
    return said


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

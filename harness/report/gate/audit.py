"""An audit of claims as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from harness.analysis.audit import LANGUAGE_MARGIN, Audit, GainClaim, LanguageCheck, Trial
from harness.analysis.paired.compare import SuccessComparison
from harness.report.format import NONE, count, percent, points, probability
from harness.report.markdown import escape_markdown, table_markdown
from harness.report.tables.table import Table


def audit_tables(found: Audit) -> list[Table]:
    """Claims, what became of them, and what policies need words for."""
    tables = [_claims(found), _trials(found)]
    return [*tables, _language(found)] if found.language else tables


def audit_findings(found: Audit) -> Iterator[str]:
    """What follows from the tables, a sentence each."""
    proven = sum(claim.provable for claim in found.claims)
    yield f"{proven} of {len(found.claims)} claims are provable on these episodes."
    for claim in found.claims:
        if not claim.provable:
            continue
        for trial in claim.trials:
            if trial.outcome in ("not shown", "reversed"):
                yield f"{_named(claim)}: under {trial.condition} the gain is {trial.outcome}."
    for check in found.language:
        yield from _words(check, found.alpha)


def _words(check: LanguageCheck, alpha: float) -> Iterator[str]:
    name, answer, counts = f"{check.side.label} ({check.condition})", check.answer(alpha), check.counts
    if answer == "no":
        yield (
            f"{name} solves as much without its words, within {100 * LANGUAGE_MARGIN:.0f} points: its score on these "
            "tasks says nothing about language."
        )
    elif answer == "undecided" and not check.enough_to_lose:
        yield (
            f"{name} solves {counts.both + counts.lost} of {counts.n} with its own words: too little to lose, so that "
            "nothing is said about language."
        )
    elif answer == "undecided":
        yield (
            f"{name}: whether it needs its words is undecided over {count(counts.n)} pairs; a drop of "
            f"{100 * LANGUAGE_MARGIN:.0f} points takes about {count(check.needed(alpha))} to show."
        )


def audit_json(found: Audit, missing: list[str]) -> dict[str, Any]:
    """Claims with what became of them elsewhere, words against none, and the commands that nobody has run."""
    return {
        "alpha": found.alpha,
        "claims": [
            {
                "base": claim.comparison.base.label,
                "candidate": claim.comparison.candidate.label,
                "provable": claim.provable,
                "p_adjusted": claim.p_adjusted,
                **asdict(claim.comparison.overall.counts),
                "trials": [{"condition": trial.condition, "outcome": trial.outcome} for trial in claim.trials],
            }
            for claim in found.claims
        ],
        "language": [
            {
                "policy": check.side.label,
                "condition": check.condition,
                **asdict(check.counts),
                "p": check.p,
                "needs_words": check.needs_words(found.alpha),
                "answer": check.answer(found.alpha),
            }
            for check in found.language
        ],
        "missing": missing,
    }


def render_audit_markdown(found: Audit, missing: list[str]) -> str:
    """An audit as Markdown."""
    blocks = ["# Audit", *(table_markdown(table) for table in audit_tables(found))]
    blocks += [f"- {escape_markdown(sentence)}" for sentence in audit_findings(found)]
    if missing:
        blocks.append("Not run yet:\n\n" + "\n".join(f"    {command}" for command in missing))
    return "\n\n".join(blocks) + "\n"


def _claims(found: Audit) -> Table:
    return Table(
        title="Claims",
        columns=("Better", "Than", "Pairs", "Difference", "Lost / gained", "Holm p", "Provable"),
        rows=tuple(
            (
                claim.comparison.candidate.label,
                claim.comparison.base.label,
                *_figures(claim.comparison),
                probability(claim.p_adjusted),
                _provable(claim),
            )
            for claim in found.claims
        ),
        left=2,
        note=(
            f"The same episodes under both; exact McNemar, two-sided, Holm over {len(found.claims)} claims at "
            f"{percent(found.alpha)}; difference: Tango's score interval, 95 %."
        ),
    )


def _trials(found: Audit) -> Table:
    return Table(
        title="Does it survive?",
        columns=("Claim", "Under", "Pairs", "Difference", "Lost / gained", "Outcome"),
        rows=tuple(
            (_named(claim), trial.condition, *_trial_figures(trial), trial.outcome)
            for claim in found.claims
            for trial in claim.trials
        ),
        left=2,
        note=(
            f"survives: the gain is shown there too (exact McNemar, one-sided, {percent(found.alpha)}). not shown: it "
            "may be gone, or the pairs too few. missing: both policies have to be run there."
        ),
    )


def _language(found: Audit) -> Table:
    return Table(
        title="Words",
        columns=("Policy", "Told", "Pairs", "Own words", "These words", "Difference", "p", "Needs its words"),
        rows=tuple(_check(check, found.alpha) for check in found.language),
        left=2,
        note=(
            "The same tasks, init states and trials, noise drawn anew. p: exact McNemar of a drop. no: a drop of "
            f"{100 * LANGUAGE_MARGIN:.0f} points is excluded (95 % interval); undecided: neither is shown."
        ),
    )


def _check(check: LanguageCheck, alpha: float) -> tuple[str, ...]:
    counts = check.counts
    if not counts.n:
        return (check.side.label, check.condition, "0", NONE, NONE, NONE, NONE, NONE)
    low, high = check.difference
    return (
        check.side.label,
        check.condition,
        count(counts.n),
        percent((counts.both + counts.lost) / counts.n),
        percent((counts.both + counts.gained) / counts.n),
        f"{points(counts.difference)} ({points(low)} … {points(high)})",
        probability(check.p),
        check.answer(alpha),
    )


def _figures(comparison: SuccessComparison) -> tuple[str, str, str]:
    counts, (low, high) = comparison.overall.counts, comparison.overall.difference
    if not counts.n:
        return "0", NONE, NONE
    difference = f"{points(counts.difference)} ({points(low)} … {points(high)})"
    return count(counts.n), difference, f"{counts.lost} / {counts.gained}"


def _trial_figures(trial: Trial) -> tuple[str, str, str]:
    return (NONE, NONE, NONE) if trial.comparison is None else _figures(trial.comparison)


def _provable(claim: GainClaim) -> str:
    if claim.provable:
        return "yes"
    return f"no; such a gain takes about {count(claim.needed)} pairs" if claim.needed else "no"


def _named(claim: GainClaim) -> str:
    return f"{claim.comparison.candidate.label} over {claim.comparison.base.label}"

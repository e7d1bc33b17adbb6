"""What a gate says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK


class Verdict(StrEnum):
    """PASS, FAIL, or "cannot tell"."""

    PASS = "PASS"  # noqa: S105 - a verdict, no secret
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> int:
        """0 PASS, 1 FAIL, 2 INCONCLUSIVE."""
        return {"PASS": EXIT_OK, "FAIL": EXIT_FAILED, "INCONCLUSIVE": EXIT_INCONCLUSIVE}[self.value]


@dataclass(frozen=True)
class RuleResult:
    """One rule's verdict."""

    rule: str
    """Which rule, e.g. "success" or "latency e2e p99"."""
    verdict: Verdict
    reason: str
    """Why, with the figures."""
    reported: bool = False
    """Whether it only says what was found: it then counts in no verdict, whatever `verdict` is."""

    @property
    def shown(self) -> str:
        """The verdict as tables show it."""
        return "reported" if self.reported else self.verdict.value


def verdict_of(results: Iterable[RuleResult]) -> Verdict:
    """Verdict of all rules together, those that only report left out."""
    return combine(result.verdict for result in results if not result.reported)


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """FAIL if any fails, PASS if all pass, INCONCLUSIVE otherwise (also without any rule)."""
    found = set(verdicts)
    if Verdict.FAIL in found:
        return Verdict.FAIL
    return Verdict.PASS if found == {Verdict.PASS} else Verdict.INCONCLUSIVE

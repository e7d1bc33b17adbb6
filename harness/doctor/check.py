"""What a preflight check is, and how a list of them is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum


class CheckStatus(Enum):
    """Verdict of one check."""

    OK = "ok"
    WARN = "warn"
    """Works, but a number may not be what it seems."""
    FAIL = "fail"
    """Something that was asked for cannot work."""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check."""

    name: str
    status: CheckStatus
    found: str
    """What was found, with the value."""
    remedy: str = ""
    """What to do about it; empty when there is nothing to do."""
    fix: tuple[str, ...] = ()
    """("pip", "install", …) where that is safe to do at once: it changes one package, to the version that is pinned."""


def run_checks(checks: Sequence[Callable[[], Check]]) -> list[Check]:
    """Run every check; one that raises is itself a failed check, so that the others are still seen."""
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        name = check.__name__.replace("_", " ")
        return Check(name, CheckStatus.FAIL, f"the check itself failed: {type(error).__name__}: {error}")

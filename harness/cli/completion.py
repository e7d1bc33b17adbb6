"""What a shell completes: names of suites, policies, profiles and rules, and ledgers on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

TABLES = ("episodes", "latency", "runs")
"""A folder that holds one of them is a ledger."""


def _suites() -> Iterable[str]:
    from harness.spec.resolve import names

    return names("suites")


def _policies() -> Iterable[str]:
    from harness.policies.registry import POLICIES

    return POLICIES.kinds()


def _profiles() -> Iterable[str]:
    from harness.spec.profile import profile_names

    return profile_names()


def _architectures() -> Iterable[str]:
    from harness.spec.resolve import names

    return names("architectures")


def _rules() -> Iterable[str]:
    from harness.spec.resolve import names

    return names("gates")


def _ledgers(incomplete: str) -> Iterator[str]:
    """Folders below what is written so far: ledgers as they are, others with a slash, to go on."""
    folder, _, begun = incomplete.rpartition("/")
    root = Path(f"{folder}/" if incomplete.startswith("/") and not folder else folder or ".")
    try:
        entries = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name.startswith(begun))
    except OSError:
        return
    for name in entries:
        if not name.startswith(".") or begun.startswith("."):
            path = f"{incomplete[: len(incomplete) - len(begun)]}{name}"
            yield path if any((root / name / table).is_dir() for table in TABLES) else f"{path}/"


def _listed(found: Callable[[], Iterable[str]]) -> Callable[[str], Iterable[str]]:
    """Names, where several may be written with commas between them."""

    def complete(incomplete: str) -> Iterator[str]:
        before, comma, begun = incomplete.rpartition(",")
        return (before + comma + name for name in found() if name.startswith(begun))

    return complete


_COMPLETERS: Mapping[Callable[[str], Iterable[str]], tuple[str, ...]] = {
    _listed(_suites): ("suite", "suites"),
    _listed(_policies): ("policy", "teacher", "student", "base_policy", "policy_kind"),
    _listed(_profiles): ("on", "device", "hardware", "to", "compare"),
    _listed(_architectures): ("architecture",),
    _listed(_rules): ("rules",),
    _ledgers: (
        *("ledger", "ledgers", "sources", "source", "base", "gate_against", "from_", "measured", "latency_from"),
        *("device_from", "device_ledger", "baseline", "root", "out", "target", "directory"),
    ),
}
"""What completes → names of the parameters that it completes, in every verb."""


def completer(parameter: str | None) -> Callable[[Any, Any, str], list[str]] | None:
    """What completes a parameter of a verb; None where the shell has nothing to offer but files."""
    for complete, parameters in _COMPLETERS.items():
        if parameter in parameters:
            return lambda ctx, param, incomplete: list(complete(incomplete))
    return None

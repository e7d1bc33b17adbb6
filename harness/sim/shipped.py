"""Suites, tasks and instructions as data that ships: a driver plans and lists without LIBERO.

`scripts/write_libero_tasks.py` writes the file from the installed package; a test holds the two together.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import unknown_name
from harness.worlds.base import SuiteDescription

SHIPPED = Path(__file__).parent / "libero_tasks.json"
"""{"versions": {package: version}, "suites": {suite: [tasks, instructions, n_init_states, init_states_sha256]}}."""


def shipped_suites() -> tuple[str, ...]:
    """Names of the suites, base suites first."""
    return tuple(_data()["suites"])


def describe_shipped(suite: str) -> SuiteDescription:
    """Describe a suite as the pinned packages have it; nodes that simulate compare it with what they have.

    Raises:
        UsageError: No such suite.
    """
    suites = _data()["suites"]
    if suite not in suites:
        raise unknown_name("suite", suite, suites)
    found = suites[suite]
    return SuiteDescription(
        suite=suite,
        tasks=tuple(found["tasks"]),
        instructions=tuple(found["instructions"]),
        n_init_states=tuple(found["n_init_states"]),
        init_states_sha256=found["init_states_sha256"],
        versions=dict(_data()["versions"]),
    )


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return data

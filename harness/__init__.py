"""vla-harness: benchmarking of vision-language-action policies.

The names below are imported when they are first used, so that `import harness` costs nothing on any node.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.paired.compare import compare as compare
    from harness.evaluation import run as run
    from harness.latency.probe import probe as probe
    from harness.ledger import read as read
    from harness.planning.suite_plan import plan as plan
    from harness.spec import load_suite as load_suite
    from harness.watch.training.client import EvalClient as EvalClient

__version__ = "0.1.0"
"""The one place of the version: pyproject.toml reads it, and a test holds CITATION.cff to it."""

__all__ = ["EvalClient", "__version__", "compare", "load_suite", "plan", "probe", "read", "run"]

_HOMES = {
    "load_suite": "harness.spec",
    "run": "harness.evaluation",
    "probe": "harness.latency",
    "read": "harness.ledger",
    "plan": "harness.planning.suite_plan",
    "compare": "harness.analysis.paired.compare",
    "EvalClient": "harness.watch.training.client",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}.")
    value: Any = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

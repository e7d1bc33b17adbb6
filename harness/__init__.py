"""vla-harness: benchmarking of vision-language-action policies.

The names below are imported when they are first used, so that `import harness` costs nothing on any node.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.compare import compare as compare
    from harness.cluster.run import run as run
    from harness.latency.probe import probe as probe
    from harness.ledger import read as read
    from harness.spec import load_suite as load_suite
    from harness.watch.client import EvalClient as EvalClient

    __version__: str

__all__ = ["EvalClient", "__version__", "compare", "load_suite", "probe", "read", "run"]

_HOMES = {
    "load_suite": "harness.spec",
    "run": "harness.cluster",
    "probe": "harness.latency",
    "read": "harness.ledger",
    "compare": "harness.analysis.compare",
    "EvalClient": "harness.watch.client",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has: {', '.join(__all__)}.")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vla-harness")
    except PackageNotFoundError:
        return "0+source"

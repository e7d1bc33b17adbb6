"""Rules × analysis → verdict. Names are imported when they are first used: a verdict alone needs no analysis."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.gate.judge import GateResult as GateResult
    from harness.gate.judge import gate as gate
    from harness.gate.stopping import PairOutcome as PairOutcome
    from harness.gate.stopping import StopDecision as StopDecision
    from harness.gate.stopping import decide_stop as decide_stop
    from harness.gate.verdict import RuleResult as RuleResult
    from harness.gate.verdict import Verdict as Verdict
    from harness.gate.verdict import combine as combine

__all__ = ["GateResult", "PairOutcome", "RuleResult", "StopDecision", "Verdict", "combine", "decide_stop", "gate"]

_HOMES = {"judge": ("GateResult", "gate"), "stopping": ("PairOutcome", "StopDecision", "decide_stop")}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "verdict")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

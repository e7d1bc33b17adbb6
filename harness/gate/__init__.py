"""Rules × analysis → verdict."""

from harness.gate.gate import GateResult, gate
from harness.gate.stopping import PairOutcome, StopDecision, decide_stop
from harness.gate.verdict import RuleResult, Verdict, combine

__all__ = ["GateResult", "PairOutcome", "RuleResult", "StopDecision", "Verdict", "combine", "decide_stop", "gate"]

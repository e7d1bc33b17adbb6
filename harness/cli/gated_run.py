"""`harness run --gate-against`: a run that stops when its verdict is certain."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from harness.errors import UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.cluster.run import RunResult
    from harness.gate import GateResult
    from harness.schedule.early_stopping import EarlyStopping
    from harness.schedule.units import EpisodeUnit
    from harness.spec.rules import GateRules


@dataclass(frozen=True)
class GatedRun:
    """A run with a gate riding along."""

    base: str
    rules: GateRules
    out: str
    resume: bool
    options: str
    """The options that gated it, for the command that resumes it."""

    def early_stopping(self, plan: Sequence[EpisodeUnit], manifests: Mapping[str, Mapping[str, Any]]) -> EarlyStopping:
        """What the controller asks after every result; see `harness.cluster.run.EarlyStoppingBuilder`."""
        from harness.gate.early_stopping import stopping_against

        return stopping_against(self.base, self.rules, plan, manifests, out=self.out if self.resume else None)

    def judge(self) -> GateResult:
        """The verdict on what the ledger holds now."""
        from harness.gate import gate

        return gate(self.base, self.out, self.rules)

    def conclude(self, result: RunResult, found: GateResult, screen: Screen) -> None:
        """Print the verdict and what stopping saved, and exit with the verdict's code."""
        from harness.gate.verdict import Verdict
        from harness.report.gate.terminal import print_gate

        print_gate(found, screen)
        for problem in result.errors:
            screen.say(f"error: {problem}")
        done = result.skipped + result.done
        if result.stopped is not None:
            saved = result.planned - done
            share = saved / result.planned
            screen.say(f"Stopped after {done} of {result.planned} episodes: {saved} saved ({share:.0%}).")
        elif found.verdict is Verdict.INCONCLUSIVE:
            screen.say(
                f"All {result.planned} episodes were needed and do not decide. What would is said above, rule by rule; "
                "more pairs come from more trials in the suite."
            )
        raise typer.Exit(found.verdict.exit_code)


def prepare_gate(base: str | None, rules: str | None, out: str, *, resume: bool) -> GatedRun | None:
    """Read the options of a gated run; None when it is not gated.

    Raises:
        UsageError: Rules without a base, or rules of fixed design.
    """
    if base is None:
        if rules is not None:
            raise UsageError(
                "--rules belongs to --gate-against: name the base ledger, or use `harness gate` afterwards."
            )
        return None
    from harness.gate import decide_stop
    from harness.ledger.parts import locate_ledger
    from harness.spec.rules import load_rules

    loaded = load_rules(rules or "sequential")
    # Wrong rules and a wrong base are refused before anything starts.
    decide_stop((), loaded)
    locate_ledger(base)
    options = f" --gate-against {shlex.quote(base)}" + (f" --rules {shlex.quote(rules)}" if rules else "")
    return GatedRun(base, loaded, out, resume, options)

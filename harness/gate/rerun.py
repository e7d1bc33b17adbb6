"""Run the flipped episodes again, in up to four cells, and attribute the change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from harness.analysis.paired.attribution import (
    NEW,
    NEW_CHECKPOINT,
    NEW_RUNTIME,
    OLD,
    Attribution,
    Cell,
    attribute,
    mostly_chance,
    stable_flips,
)
from harness.analysis.paired.compare import SuccessComparison
from harness.analysis.paired.pairing import ERROR, SUCCESS, Scored, Side, read_sides
from harness.errors import UsageError
from harness.ledger.parts import locate_ledger, read_rows
from harness.spec import PolicySpec, Suite
from harness.spec.resolve import parse

CHECKPOINT_OPTIONS = ("weights", "revision", "seed")
"""Policy options that belong to the checkpoint; all others say how it is run."""


@dataclass(frozen=True)
class Recipe:
    """How one side was run."""

    suite: Suite
    spec: PolicySpec
    nfe: int | None


@dataclass(frozen=True)
class Plan:
    """The cells to run and what differs between the sides."""

    cells: Mapping[Cell, Recipe]
    """Cells that are distinct; where nothing differs in one factor there are only two."""
    checkpoint: str
    """What differs in the checkpoint; empty when nothing does."""
    runtime: str
    """What differs in the runtime; empty when nothing does."""


RunCell = Callable[[Recipe, str, Collection[str]], None]
"""(recipe, ledger directory, episode keys) → runs those episodes into that ledger."""


def plan_cells(base: Recipe, candidate: Recipe) -> Plan:
    """Plan the reruns.

    Raises:
        UsageError: Nothing differs between the sides.
    """
    checkpoint = _difference(_checkpoint(base), _checkpoint(candidate))
    runtime = _difference(_runtime(base), _runtime(candidate))
    if not checkpoint and not runtime:
        raise UsageError(
            f"Base and candidate are the same policy run in the same way ({candidate.spec.text}), so there is nothing "
            "to attribute: what differs is chance, or the machine."
        )
    cells = {OLD: base, NEW: candidate}
    if checkpoint and runtime:
        cells[NEW_CHECKPOINT] = _mixed(candidate, base)
        cells[NEW_RUNTIME] = _mixed(base, candidate)
    return Plan(cells, checkpoint, runtime)


def read_recipe(side: Side) -> Recipe:
    """How a side was run, as its ledger recorded it.

    Raises:
        UsageError: The ledger does not say (an import, or written by another tool).
    """
    for row in reversed(read_rows(locate_ledger(side.path), "runs", ["suite"])):
        data = yaml.safe_load(row["suite"] or "")
        if not isinstance(data, dict) or "policies" not in data:
            continue
        suite = parse(Suite, data, side.path)
        for spec in suite.policies:
            if spec.label == side.policy_id:
                return Recipe(suite, spec, side.nfe)
    raise UsageError(f"{side.path!r} does not say how {side.label} was run, so its flips cannot be run again.")


def attribute_flips(
    success: SuccessComparison, out: str, run_cell: RunCell, *, say: Callable[[str], None]
) -> tuple[Plan, Attribution]:
    """Run the flipped episodes again and say what carries the change.

    Same against same goes first; where most flips do not even repeat, the mixed cells are not run.

    Args:
        success: The comparison whose flips are in question.
        out: Directory or URI for the reruns' ledgers, one per cell.
        run_cell: Runs episodes.
        say: Told what goes on.

    Raises:
        UsageError: There are no flips, nothing differs, or a ledger does not say how it was run.
    """
    base = flipped(success)
    if not base:
        raise UsageError("No episode flipped, so there is nothing to attribute.")
    plan = plan_cells(read_recipe(success.base), read_recipe(success.candidate))
    cells: dict[Cell, Mapping[str, Scored]] = {}
    for cell in (OLD, NEW, NEW_CHECKPOINT, NEW_RUNTIME):
        if cell not in plan.cells:
            continue
        if cell == NEW_CHECKPOINT and mostly_chance(len(base), len(stable_flips(base, cells))):
            break
        recipe = plan.cells[cell]
        say(f"Running {len(base)} flipped episodes again: {cell[0]} checkpoint, {cell[1]} runtime")
        target = f"{out.rstrip('/')}/{cell[0]}-checkpoint-{cell[1]}-runtime"
        run_cell(recipe, target, base)
        cells[cell] = _outcomes(target, recipe)
    if NEW_CHECKPOINT not in plan.cells:
        # With one factor equal, the mixed cells are the pure ones.
        cells[NEW_CHECKPOINT] = cells[NEW] if plan.checkpoint else cells[OLD]
        cells[NEW_RUNTIME] = cells[NEW] if plan.runtime else cells[OLD]
    return plan, attribute(base, cells)


def flipped(success: SuccessComparison) -> dict[str, bool]:
    """Episode key → the base's outcome, for every flip."""
    pairing = success.pairing
    old, new = success.base.outcomes[pairing.base_rows], success.candidate.outcomes[pairing.candidate_rows]
    changed = (old != new) & (old != ERROR) & (new != ERROR)
    keys = success.base.keys.take(pairing.base_rows[changed]).to_pylist()
    return {key: bool(code == SUCCESS) for key, code in zip(keys, old[changed], strict=True)}


def _checkpoint(recipe: Recipe) -> dict[str, Any]:
    options = {name: value for name, value in recipe.spec.options.items() if name in CHECKPOINT_OPTIONS}
    return {"kind": recipe.spec.kind, "path": recipe.spec.path, **options}


def _runtime(recipe: Recipe) -> dict[str, Any]:
    options = {name: value for name, value in recipe.spec.options.items() if name not in CHECKPOINT_OPTIONS}
    return {"nfe": recipe.nfe, **options}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {_shown(old.get(name))} → {_shown(new.get(name))}" for name in names)


def _shown(value: object) -> str:
    return "default" if value is None else str(value)


def _mixed(checkpoint: Recipe, runtime: Recipe) -> Recipe:
    """One side's checkpoint, run the other side's way."""
    if checkpoint.spec.kind != runtime.spec.kind:
        raise UsageError(
            f"The sides are policies of two kinds ({runtime.spec.kind} and {checkpoint.spec.kind}), whose options mean "
            "nothing to each other: checkpoint and runtime cannot be mixed. Change one at a time."
        )
    own = _checkpoint(checkpoint)
    options = {name: value for name, value in own.items() if name not in ("kind", "path")}
    options |= {name: value for name, value in _runtime(runtime).items() if name != "nfe"}
    spec = PolicySpec(
        kind=checkpoint.spec.kind, path=checkpoint.spec.path, options=options, label=checkpoint.spec.label
    )
    return Recipe(checkpoint.suite, spec, runtime.nfe)


def _outcomes(path: str, recipe: Recipe) -> dict[str, Scored]:
    names: dict[int, Scored] = {SUCCESS: True, ERROR: None}
    (side,) = read_sides(path, policy=recipe.spec.label, nfe=recipe.nfe)
    return {key: names.get(int(code), False) for key, code in zip(side.keys.to_pylist(), side.outcomes, strict=True)}

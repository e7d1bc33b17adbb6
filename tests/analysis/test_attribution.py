"""Which factor carries a change, from the outcomes of reruns."""

from __future__ import annotations

import pytest

from harness.analysis.paired.attribution import (
    NEW,
    NEW_CHECKPOINT,
    NEW_RUNTIME,
    OLD,
    Cell,
    Scored,
    attribute,
    flakes,
    stable_flips,
)

KEYS = [f"e{n}" for n in range(20)]
LOST = dict.fromkeys(KEYS, True)
"""Twenty episodes that the base solved and the candidate did not."""


def cells(checkpoint: bool, runtime: bool) -> dict[Cell, dict[str, Scored]]:
    """Reruns of `LOST`: whether the new checkpoint alone, and the new runtime alone, still succeed."""
    return {
        OLD: dict.fromkeys(KEYS, True),
        NEW: dict.fromkeys(KEYS, False),
        NEW_CHECKPOINT: dict.fromkeys(KEYS, checkpoint),
        NEW_RUNTIME: dict.fromkeys(KEYS, runtime),
    }


@pytest.mark.parametrize(
    ("checkpoint", "runtime", "verdict", "cause"),
    [
        (False, True, "checkpoint", "checkpoint"),
        (True, False, "runtime", "runtime"),
        (False, False, "both", "either"),
        (True, True, "both", "together"),
    ],
)
def test_the_factor_that_is_enough_carries_the_change(
    checkpoint: bool, runtime: bool, verdict: str, cause: str
) -> None:
    found = attribute(LOST, cells(checkpoint, runtime))
    assert found.verdict == verdict
    assert found.causes == {cause: 20}
    assert found.base_flake.rate == found.candidate_flake.rate == 0


def test_gained_episodes_are_read_the_other_way_round() -> None:
    mirrored: dict[Cell, dict[str, Scored]] = {
        cell: {key: not outcome for key, outcome in outcomes.items()} for cell, outcomes in cells(False, True).items()
    }
    assert attribute(dict.fromkeys(KEYS, False), mirrored).verdict == "checkpoint"


def test_flips_that_do_not_repeat_are_chance() -> None:
    again = cells(False, True)
    again[NEW] = {key: place % 2 == 0 for place, key in enumerate(KEYS)}
    found = attribute(LOST, again)
    assert found.verdict == "chance"
    assert (found.stable, found.candidate_flake.changed) == (10, 10)


def test_a_tie_is_undecided() -> None:
    mixed = cells(False, True)
    for key in KEYS[:10]:
        mixed[NEW_CHECKPOINT][key], mixed[NEW_RUNTIME][key] = True, False
    assert attribute(LOST, mixed).verdict == "undecided"


def test_errors_prove_nothing() -> None:
    broken = cells(False, True)
    broken[OLD]["e0"] = None
    broken[NEW_RUNTIME]["e1"] = None
    found = attribute(LOST, broken)
    assert (found.stable, sum(found.causes.values()), found.base_flake.n) == (19, 18, 19)
    assert "e0" not in stable_flips(LOST, broken)


def test_without_mixed_cells_only_flakiness_is_judged() -> None:
    pure = {cell: outcomes for cell, outcomes in cells(True, True).items() if cell in (OLD, NEW)}
    assert attribute(LOST, pure).verdict == "undecided"


def test_no_reruns_have_no_flake_rate() -> None:
    flake = flakes({}, {})
    assert flake.n == 0
    assert flake.interval == (0.0, 1.0)

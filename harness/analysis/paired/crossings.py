"""Pairs whose two episodes ran on machines of two classes, and what canaries have found between these classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.analysis.paired.pairing import Side, pair
from harness.ledger import Ledger

MACHINE = {"isa": "instruction sets", "threads": "numbers of threads", "gl": "renderers"}
"""Columns of `nodes` that decide single episodes beside the checkpoint, and what they hold."""

UNITS = {"episode": "m or rad", "frame": "levels of 255", "decision": "action units"}
"""Kind of a canary → unit of its difference."""


def crossings(base: Ledger, candidate: Ledger, matched: Sequence[tuple[Side, Side]]) -> Iterator[str]:
    """How many pairs have one episode on a machine of another class than the other, and how much that may matter."""
    classes = _machine_classes(base), _machine_classes(candidate)
    for old, new in matched:
        pairing = pair(old, new)
        rows = pairing.base_rows, pairing.candidate_rows
        sides = zip((old, new), classes, rows, strict=True)
        one, two = ([known.get(place) for place in _places(side, kept)] for side, known, kept in sides)
        crossed = sum(a is not None and b is not None and a != b for a, b in zip(one, two, strict=True))
        if crossed:
            yield (
                f"{new.label} against {old.label}: {crossed} of {len(one)} pairs have their episodes on machines of "
                f"two classes ({', '.join(MACHINE.values())}). {_canaries(base, candidate)}"
            )
        outside = [_outside(side, kept) for side, kept in zip((old, new), rows, strict=True)]
        if n_outside := int((outside[0] | outside[1]).sum()):
            yield (
                f"{new.label} against {old.label}: {n_outside} of {len(one)} pairs have an episode on a machine "
                "outside the tolerance of the canaries."
            )


def _canaries(base: Ledger, candidate: Ledger) -> str:
    """The largest differences that canaries found between machines of two classes, by kind."""
    widest: dict[str, float] = {}
    failed = 0
    for ledger in dict.fromkeys((base, candidate)):
        for row in ledger.rows("canaries").to_pylist():
            if row["node_id"] == row["reference_node_id"] or row["tolerance"] == 0:
                continue
            failed += row["error"] is not None
            if row["difference"] is not None:
                widest[row["kind"]] = max(widest.get(row["kind"], 0.0), row["difference"])
    if not widest and not failed:
        return "No canaries have compared the two (`harness run --canaries always` on a cluster that has both)."
    found = ", ".join(f"{kind} {value:.3g} {UNITS[kind]}" for kind, value in widest.items())
    return f"Canaries of unlike machines differed by at most: {found or 'nothing'}" + (
        f"; {failed} gave no answer." if failed else "."
    )


def _machine_classes(ledger: Ledger) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(run, node) → what of it decides single episodes."""
    rows = ledger.rows("nodes", ["run_id", "node_id", *MACHINE]).to_pylist()
    return {(row["run_id"], row["node_id"]): tuple(row[name] for name in MACHINE) for row in rows}


def _places(side: Side, rows: NDArray[np.int64]) -> list[tuple[Any, Any]]:
    kept = side.details.take(pa.array(rows))
    return list(zip(kept["run_id"].to_pylist(), kept["node_id"].to_pylist(), strict=True))


def _outside(side: Side, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    labels = side.details.take(pa.array(rows))["canary"].to_pylist()
    return np.array([label == "outside" for label in labels], dtype=np.bool_)

"""How the nodes of a run compared: before it began, and by the episodes that two of them ran."""

from __future__ import annotations

from typing import Any

from harness.analysis.summary import Summary
from harness.report.format import count, known, text
from harness.report.names import VariantNames
from harness.report.tables.table import Table, records

NOTE = (
    "Before unlike nodes ran, each repeated the same keyed episodes (40 steps of drawn actions), frame and decisions. "
    "Difference: largest of one number; m or rad of the final positions, levels of 255, action units. Nodes of one "
    "class (instruction set, renderer, accelerator) must agree to the bit."
)

TWICE = (
    "Last episodes that an idle node began again because the first was late. The one that ended first counts; the "
    "other one is a check of determinism (table `duplicates`)."
)


def canary_table(summary: Summary) -> Table:
    """Every answer beside the reference's."""
    columns = ("node", "class", "what", "of", "against", "equal bits", "difference", "limit", "verdict")
    rows = tuple(
        (
            text(row["node_id"]),
            ", ".join(row[name] for name in ("isa", "gl", "accelerator") if known(row[name])),
            text(row["kind"]),
            text(row["subject"]),
            "reference" if row["node_id"] == row["reference_node_id"] else text(row["reference_node_id"]),
            _yes(row["equal"]),
            _figure(row["difference"]),
            _figure(row["tolerance"]),
            "within" if row["within"] else f"outside: {row['error']}" if known(row["error"]) else "outside",
        )
        for row in records(summary.ledger.canaries)
    )
    return Table("Canaries", columns, rows, 6, NOTE)


def duplicate_table(summary: Summary, names: VariantNames) -> Table:
    """Episodes that an idle node ran too, because the first was slow: whether both went the same way."""
    columns = ("policy", "counted on", "run on too", "episodes", "the same to the bit", "another way")
    groups: dict[tuple[str, str, str], list[bool]] = {}
    for row in records(summary.ledger.duplicates):
        place = names.of(row), text(row["counted_node_id"]), text(row["node_id"])
        groups.setdefault(place, []).append(bool(row["equal"]))
    rows = tuple(
        (*place, count(len(equal)), count(sum(equal)), count(len(equal) - sum(equal)))
        for place, equal in sorted(groups.items())
    )
    return Table("Episodes run on two nodes", columns, rows, 3, TWICE)


def _figure(value: Any) -> str:
    """Differences go over many magnitudes, down to a last bit."""
    return text(f"{value:.3g}" if known(value) else None)


def _yes(value: Any) -> str:
    return text(("yes" if value else "no") if known(value) else None)

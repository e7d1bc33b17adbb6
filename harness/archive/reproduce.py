"""A rerun against the record that it repeats: the same, or what differs and by how much. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.archive.contents import IDENTITY

SHOWN = 5
"""Episodes that are named."""

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reproduction:
    """What a rerun came to."""

    compared: int
    """Episodes that both sides have."""
    differs: tuple[str, ...]
    """Sentences of what differs in the result; empty: the same."""
    around: tuple[str, ...]
    """Sentences of what differs around it (versions, machine); it may explain the others."""

    @property
    def same(self) -> bool:
        """Whether every episode went as recorded."""
        return not self.differs

    @property
    def sentence(self) -> str:
        """The answer in a line."""
        if self.same:
            return f"same: {self.compared} episodes ended as recorded, along the same trajectories."
        return f"differs by {'; '.join(self.differs)} (of {self.compared} episodes)."

    def record(self) -> dict[str, Any]:
        """For machines."""
        return {
            "same": self.same, "compared": self.compared, "differs": list(self.differs), "around": list(self.around)
        }  # fmt: skip


def compare_rerun(record: Mapping[str, Any], again: Mapping[str, Any], *, partial: bool) -> Reproduction:
    """Hold a rerun against a record.

    Args:
        record: The archive's.
        again: The rerun's, gathered in the same way.
        partial: Whether only a part of the episodes was asked for, so that missing ones are no difference.
    """
    before, after = (_by_identity(each["episodes"]) for each in (record, again))
    both = [name for name in before if name in after]
    differs = _differences([(before[name], after[name]) for name in both])
    missing = [name for name in before if name not in after]
    if missing and not partial:
        differs.append(f"{len(missing)} episodes that the rerun lacks")
    if not both:
        differs.append("everything: no episode stands on both sides")
    return Reproduction(len(both), tuple(differs), tuple(_around(record, again)))


def _differences(pairs: Sequence[tuple[_Row, _Row]]) -> list[str]:
    told = []
    turned = [(old, new) for old, new in pairs if old["outcome"] != new["outcome"]]
    if turned:
        ways = Counter(f"{old['outcome']} → {new['outcome']}" for old, new in turned)
        kinds = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
        told.append(f"{len(turned)} outcomes ({kinds}; {_named(turned)})")
        old_rate, new_rate = (_successes([pair[side] for pair in pairs]) for side in (0, 1))
        told.append(f"successes {old_rate} → {new_rate}")
    moved = [
        (old, new)
        for old, new in pairs
        if old["outcome"] == new["outcome"] and old.get("trajectory_sha256") != new.get("trajectory_sha256")
    ]
    if moved:
        told.append(f"{len(moved)} trajectories of equal outcome ({_named(moved)})")
    return told


def _successes(rows: Sequence[_Row]) -> str:
    counted = [row for row in rows if row["outcome"] != "error"]
    return f"{sum(row['outcome'] == 'success' for row in counted)}/{len(counted)}"


def _named(pairs: Sequence[tuple[_Row, _Row]]) -> str:
    shown = [
        f"{old['policy_id']}: {old['suite']} task {old['task_id']} init state {old['init_state_id']}"
        + (f" trial {old['trial']}" if old.get("trial") else "")
        for old, _ in pairs[:SHOWN]
    ]
    return ", ".join(shown) + (f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else "")


def _around(record: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    told = []
    for name, digest in record["fixtures"].items():
        here = again["fixtures"].get(name)
        if digest and here and digest != here:
            told.append(f"fixture of {name}: {digest[:12]} → {here[:12]} (tasks, instructions or init states)")
    told += _changes("protocol", _protocols(record), _protocols(again))
    told += _changes("version of", _merged(record["runs"], "versions"), _merged(again["runs"], "versions"))
    for column in ("hardware", "cpu", "accelerator", "driver", "isa", "gl", "threads"):
        old, new = (sorted({str(node.get(column)) for node in each["nodes"]}) for each in (record, again))
        if old != new and old and new:
            told.append(f"{column}: {', '.join(old)} → {', '.join(new)}")
    told += _changes("checkpoint of", _checkpoints(record), _checkpoints(again))
    return told


def _changes(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [f"{what} {name}: {old[name]} → {new[name]}" for name in old if name in new and old[name] != new[name]]


def _protocols(record: Mapping[str, Any]) -> dict[str, Any]:
    """Suite and key of its manifest → value."""
    found: dict[str, Any] = {}
    for run in record["runs"]:
        try:
            manifests = json.loads(run.get("protocol") or "{}")
        except ValueError:
            continue
        for suite, manifest in manifests.items() if isinstance(manifests, dict) else ():
            if isinstance(manifest, dict):
                found |= {f"{suite} {key}": value for key, value in manifest.items()}
    return found


def _merged(rows: Sequence[_Row], column: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        if isinstance(row.get(column), Mapping):
            found |= row[column]
    return found


def _checkpoints(record: Mapping[str, Any]) -> dict[str, str]:
    """Policy → digest of what it is, shortened."""
    return {
        str(row["policy_id"]): str(row["checkpoint_sha256"])[:12]
        for row in record["episodes"]
        if row.get("checkpoint_sha256")
    }


def _by_identity(rows: Sequence[_Row]) -> dict[tuple[Any, ...], _Row]:
    return {tuple(row.get(name) for name in IDENTITY): row for row in rows}

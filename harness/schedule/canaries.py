"""Whether unlike nodes may pool their rows: what each found for the same keys, compared by pure functions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CanaryKind = Literal["episode", "frame", "decision"]
"""What was repeated."""
CANARY_KINDS: tuple[CanaryKind, ...] = ("episode", "frame", "decision")
CANARY_LABELS = ("reference", "within", "outside")
"""`episodes.canary`: the node that others are compared with; like it; unlike it."""

MachineClass = tuple[str | None, str | None, str | None]
"""(instruction set, GL class and device, accelerator): nodes of one class are expected to agree to the bit."""


@dataclass(frozen=True, slots=True)
class Sung:
    """What a node answered to one key."""

    kind: CanaryKind
    subject: str
    """Which episode, camera or policy."""
    values: NDArray[Any] | None = None
    """Final positions, a frame, or a chunk of actions; None where it failed."""
    sha256: str | None = None
    """Digest of all of it: of every position on the way, for an episode."""
    error: str | None = None
    """Why there is no answer."""


def digest(values: NDArray[Any]) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class CanaryNode:
    """A node and what it answered."""

    node_id: str
    """As ledgers name it."""
    machine: MachineClass
    hardware: str | None = None
    answers: tuple[Sung, ...] = ()


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """One answer of one node beside the reference's."""

    node: CanaryNode
    reference: CanaryNode
    answer: Sung
    difference: float | None
    """Largest difference of one number; None where one of the two has no answer."""
    tolerance: float
    """What it may be: 0 within a class."""
    equal: bool | None
    """Whether the digests are equal."""

    @property
    def within(self) -> bool:
        """Whether the node may be pooled with the reference, for all that this check says."""
        if self.node is self.reference:
            return self.answer.error is None
        if self.node.machine == self.reference.machine:
            return self.equal is True
        return self.difference is not None and self.difference <= self.tolerance


def need_canaries(machines: Sequence[MachineClass], mode: str) -> bool:
    """Whether nodes are compared.

    Args:
        machines: Class of each node of the run.
        mode: `Canaries.run`.
    """
    return mode == "always" or (mode == "auto" and len(set(machines)) > 1)


def choose_reference(nodes: Sequence[CanaryNode]) -> CanaryNode:
    """The first node of the largest class: one that is odd is compared with the many, not the many with it."""
    sizes = Counter(node.machine for node in nodes)
    return max(nodes, key=lambda node: sizes[node.machine])


def compare_canaries(nodes: Sequence[CanaryNode], tolerances: Mapping[str, float]) -> list[CanaryCheck]:
    """Compare every answer with that of the reference, which is chosen for each kind among those that answered it.

    Args:
        nodes: Nodes with their answers, the driver's first.
        tolerances: Kind → largest difference between classes.

    Returns:
        A check for each node and answer, in the order of the nodes.
    """
    checks = []
    for kind, subject in dict.fromkeys((a.kind, a.subject) for node in nodes for a in node.answers):
        asked = [(node, answer) for node, answer in _answers(nodes, kind, subject)]
        able = [node for node, answer in asked if answer.error is None] or [node for node, _ in asked]
        reference = choose_reference(able)
        own = next(answer for node, answer in asked if node is reference)
        checks += [_check(node, answer, reference, own, tolerances[kind]) for node, answer in asked]
    places = {node.node_id: place for place, node in enumerate(nodes)}
    return sorted(checks, key=lambda check: places[check.node.node_id])


def canary_labels(checks: Sequence[CanaryCheck]) -> dict[str, str]:
    """Node → its label in `episodes.canary`: one check outside is enough."""
    labels: dict[str, str] = {}
    for check in checks:
        own = "reference" if check.node is check.reference else "within"
        label = own if check.within else "outside"
        held = labels.setdefault(check.node.node_id, label)
        labels[check.node.node_id] = max(held, label, key=("reference", "within", "outside").index)
    return labels


def describe_outside(checks: Sequence[CanaryCheck]) -> dict[str, str]:
    """Node → what of it is outside the tolerance, in words."""
    told: dict[str, list[str]] = {}
    for check in checks:
        if not check.within:
            told.setdefault(check.node.node_id, []).append(_words(check))
    return {node_id: "; ".join(words) for node_id, words in told.items()}


def _words(check: CanaryCheck) -> str:
    what = f"{check.answer.kind} {check.answer.subject}"
    if check.answer.error is not None or check.difference is None:
        return f"{what}: {check.answer.error or 'another shape'}"
    if check.node.machine == check.reference.machine:
        return (
            f"{what} differs from that of {check.reference.node_id}, a machine of its class, by {check.difference:.3g}"
        )
    return (
        f"{what} differs from that of {check.reference.node_id} by {check.difference:.3g} (limit {check.tolerance:g})"
    )


def _answers(nodes: Sequence[CanaryNode], kind: str, subject: str) -> Iterator[tuple[CanaryNode, Sung]]:
    for node in nodes:
        for answer in node.answers:
            if (answer.kind, answer.subject) == (kind, subject):
                yield node, answer


def _check(node: CanaryNode, answer: Sung, reference: CanaryNode, own: Sung, limit: float) -> CanaryCheck:
    difference, equal = None, None
    if answer.values is not None and own.values is not None:
        equal = answer.sha256 == own.sha256
        if answer.values.shape == own.values.shape:
            apart = np.abs(answer.values.astype(np.float64) - own.values.astype(np.float64))
            # A NaN is no small difference.
            difference = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
    return CanaryCheck(node, reference, answer, difference, 0.0 if node.machine == reference.machine else limit, equal)

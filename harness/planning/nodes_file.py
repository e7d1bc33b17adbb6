"""Nodes that a plan is made for: `nodes.yaml`, one entry per kind of node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from harness.errors import UsageError
from harness.schedule.placement import NodeResources
from harness.spec.profile import load_profile
from harness.spec.resolve import SpecModel, load_yaml, parse
from harness.spec.strict_yaml import MAX_BYTES, read_yaml

MEMORY_PER_CORE = 4e9
"""Memory that is assumed for a node whose entry does not say, bytes per core: what cloud machines come with."""


class NodeKind(SpecModel):
    """Nodes that are alike."""

    profile: str
    """Hardware profile."""
    count: Annotated[int, Field(ge=1)] = 1
    """How many."""
    cores: Annotated[int, Field(ge=1)]
    """CPU cores of each."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of each."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory of each, 1e9 bytes; null: 4 per core."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Of each, in any currency; null: not known, so that no cost is told."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray labels."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    """From asking for a node to its joining, seconds."""


class NodesFile(SpecModel):
    """A list of kinds of nodes."""

    nodes: Annotated[tuple[NodeKind, ...], Field(min_length=1)]
    """The kinds."""

    def resources(self) -> tuple[NodeResources, ...]:
        """Every node as the scheduler sees it; ids are PROFILE-N."""
        return tuple(node for node, _ in self.members())

    def members(self) -> list[tuple[NodeResources, NodeKind]]:
        """Every node with its kind."""
        found: list[tuple[NodeResources, NodeKind]] = []
        for kind in self.nodes:
            memory = kind.memory_gb * 1e9 if kind.memory_gb else kind.cores * MEMORY_PER_CORE
            for _ in range(kind.count):
                name = f"{kind.profile}-{len(found)}"
                found.append((NodeResources(name, name, kind.cores, kind.gpus, memory, kind.profile), kind))
        return found


def load_nodes(path: str | Path) -> NodesFile:
    """Read a nodes file: a list of kinds, or a mapping with the list under `nodes`.

    Raises:
        SpecError: It does not validate; the key is named.
        UsageError: No such file, or an unknown profile, answered with the nearest known one.
    """
    where = Path(path)
    if not where.is_file():
        raise UsageError(f"No nodes file {str(path)!r}. Write one, or from a cluster: `harness plan --describe auto`.")
    found = parse(NodesFile, _read(where), str(path))
    for kind in found.nodes:
        load_profile(kind.profile)
    return found


def _read(where: Path) -> dict[str, Any]:
    """A bare list stands for a mapping that holds nothing else."""
    if where.stat().st_size <= MAX_BYTES and where.read_bytes().lstrip().startswith(b"-"):
        with suppress(yaml.YAMLError, UnicodeDecodeError):
            return {"nodes": read_yaml(where.read_text(encoding="utf-8"))}
    return load_yaml(where)


def describe_nodes(nodes: Sequence[NodeResources], labels: Mapping[str, Mapping[str, str]] | None = None) -> NodesFile:
    """Nodes of a cluster as a nodes file, those that are alike counted together.

    Args:
        nodes: What a live cluster says; a node of no known profile is taken for `cpu`.
        labels: Node id → its labels.
    """
    count: dict[tuple[str, int, int, float], int] = {}
    told: dict[tuple[str, int, int, float], Mapping[str, str]] = {}
    for node in nodes:
        key = (node.hardware or "cpu", max(int(node.cpus), 1), int(node.gpus), max(round(node.memory_bytes / 1e9), 1.0))
        count[key] = count.get(key, 0) + 1
        told.setdefault(key, (labels or {}).get(node.node_id, {}))
    kinds = [
        NodeKind(profile=key[0], count=n, cores=key[1], gpus=key[2], memory_gb=key[3], labels=dict(told[key]))
        for key, n in count.items()
    ]
    return NodesFile(nodes=tuple(kinds))


def to_yaml(found: NodesFile) -> str:
    """The text of a nodes file; prices are for its owner to fill in."""
    return "# Fill in price_per_hour; start_s is what a node takes to join.\n" + yaml.safe_dump(
        found.model_dump(mode="json"), sort_keys=False
    )

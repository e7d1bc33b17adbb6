"""Which hardware profile this node is: the one that was named if the node agrees, else the one that matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.latency.node import describe_node
from harness.spec.profile import match_profile, require_profile


def hardware_of_node(named: str | None = None, node: Mapping[str, Any] | None = None) -> str | None:
    """Name of this node's hardware profile.

    Args:
        named: The profile that a user named; None to match.
        node: A row of the ledger's `nodes` table; None to describe this machine.

    Returns:
        The name; None when no profile fits, or several do (`spec.profile.explain_match` says which).

    Raises:
        UsageError: The named profile is unknown, or contradicts this node.
    """
    row = describe_node() if node is None else node
    if named is not None:
        return require_profile(named, row).name
    profile = match_profile(row)
    return profile.name if profile is not None else None

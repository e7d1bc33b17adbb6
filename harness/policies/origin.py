"""What a policy knows of its own origin, if it says so."""

from __future__ import annotations

from typing import Any

from harness.policies.base import Policy


def origin_of(policy: Policy) -> dict[str, Any]:
    """Plain data about where a policy came from.

    Policies may carry `provenance` (a mapping: repository asked and served, revision, versions, defaults used) and
    `warnings` (sentences); others have none.

    Returns:
        "provenance" and "warnings", where there are any, the policy's "default_nfe", "chunk_length" and
        "replan_interval", and its "identity": the digests of its parts (see `harness.spec.identity`), where it states
        any.
    """
    info = policy.info
    record: dict[str, Any] = {
        "default_nfe": info.default_nfe,
        "chunk_length": info.chunk_length,
        "replan_interval": info.replan_interval,
    }
    if identity := info.stated_identity.record():
        record["identity"] = identity
    provenance, warnings = getattr(policy, "provenance", None), getattr(policy, "warnings", None)
    if provenance:
        record["provenance"] = {str(name): str(value) for name, value in dict(provenance).items()}
    if warnings:
        record["warnings"] = [str(warning) for warning in warnings]
    return record

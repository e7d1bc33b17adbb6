"""`arch:NAME`: a runnable policy of random weights from an architecture file: to time what has not been trained yet."""

from __future__ import annotations

from harness.policies.arch.options import check
from harness.policies.base import Policy
from harness.policies.registry import PolicyRequest

__all__ = ["check", "make"]


def make(spec: PolicyRequest) -> Policy:
    """Build the policy; see `harness.policies.arch.policy.build`."""
    from harness.policies.arch.policy import build

    return build(spec)

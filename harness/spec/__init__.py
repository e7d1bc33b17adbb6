"""Contracts: suites, protocols, policies, hardware profiles, observations.

The names below are imported when they are first used: a report reads no suite, and building the models takes a tenth of
a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.spec.manifest import canonical_json, manifest_sha256, require_equal_manifests
    from harness.spec.policy import PolicySpec, parse_policy
    from harness.spec.protocol import Protocol, presets, run_protocol_sha256
    from harness.spec.suite import Limits, ProbePlan, Suite, TaskSet, load_suite

__all__ = [
    "Limits",
    "PolicySpec",
    "ProbePlan",
    "Protocol",
    "Suite",
    "TaskSet",
    "canonical_json",
    "load_suite",
    "manifest_sha256",
    "parse_policy",
    "presets",
    "require_equal_manifests",
    "run_protocol_sha256",
]

_HOMES = {
    **dict.fromkeys(("canonical_json", "manifest_sha256", "require_equal_manifests"), "manifest"),
    **dict.fromkeys(("PolicySpec", "parse_policy"), "policy"),
    **dict.fromkeys(("Protocol", "presets", "run_protocol_sha256"), "protocol"),
    **dict.fromkeys(("Limits", "ProbePlan", "Suite", "TaskSet", "load_suite"), "suite"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"harness.spec.{_HOMES[name]}"), name)

"""Contracts: suites, protocols, policies, hardware profiles, observations."""

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

"""Latency: what a policy's `act` costs, end to end and by component, and on what machine it was measured."""

from harness.latency.inputs import probe_observations, synthetic_observations
from harness.latency.isolated import run_isolated
from harness.latency.node import describe_node, node_name
from harness.latency.parent import IsolatedResult
from harness.latency.probe import SCOPE, ConfigurationResult, Labels, ProbeFailure, ProbeResult, probe
from harness.latency.telemetry import Telemetry, find_source
from harness.spec.budget import Budget

__all__ = [
    "SCOPE",
    "Budget",
    "ConfigurationResult",
    "IsolatedResult",
    "Labels",
    "ProbeFailure",
    "ProbeResult",
    "Telemetry",
    "describe_node",
    "find_source",
    "node_name",
    "probe",
    "probe_observations",
    "run_isolated",
    "synthetic_observations",
]

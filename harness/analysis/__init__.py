"""Statistics over ledgers: pure functions of data frames."""

from harness.analysis.intervals import rate_interval
from harness.analysis.latency.percentiles import decision_latency, latency_by_component
from harness.analysis.latency.prefix import prefix_fit
from harness.analysis.success.controls import ControlFault, control_faults, control_roles
from harness.analysis.success.rates import error_counts, success_by_suite, success_by_task
from harness.analysis.timing import throughput, time_shares, worker_time

__all__ = [
    "success_by_suite",
    "success_by_task",
    "error_counts",
    "rate_interval",
    "time_shares",
    "throughput",
    "worker_time",
    "latency_by_component",
    "decision_latency",
    "prefix_fit",
    "control_roles",
    "control_faults",
    "ControlFault",
]

"""Preflight checks, one function per known failure."""

from harness.doctor.check import Check, Status, run_checks
from harness.doctor.checks import CHECKS

__all__ = ["CHECKS", "Check", "Status", "run_checks"]

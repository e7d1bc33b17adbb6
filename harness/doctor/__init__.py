"""Preflight checks, one function per known failure."""

from harness.doctor.check import Check, CheckStatus, run_checks
from harness.doctor.checks import CHECKS

__all__ = ["CHECKS", "Check", "CheckStatus", "run_checks"]

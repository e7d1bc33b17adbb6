"""Versions that a run's results come from."""

from __future__ import annotations

from collections.abc import Iterable

from harness.latency.node import versions
from harness.worlds.base import SuiteDescription


def run_versions(descriptions: Iterable[SuiteDescription]) -> dict[str, str]:
    """Versions on the driver, and those that decide scores as the world states them."""
    found = dict(versions())
    for description in descriptions:
        found.update(description.versions)
    return found

"""Shares of time in which policy servers were busy: pure functions of what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerUse:
    """What one policy server says of itself."""

    server: str
    """Its process: another one after a restart."""
    seconds: float
    """Its stopwatch."""
    busy_s: float
    """How long it has computed since it began, the running batch included, seconds."""
    gpu_busy: float | None = None
    """Share of the last moments in which its GPU ran a kernel; None without one."""


def busy_share(before: Sequence[ServerUse], now: Sequence[ServerUse]) -> float | None:
    """Mean share of the time between two looks in which each server computed.

    Args:
        before: The look before.
        now: This look.

    Returns:
        A share in [0, 1]; None when no server stands in both.
    """
    known = {use.server: use for use in before}
    shares = [
        min(max((use.busy_s - known[use.server].busy_s) / (use.seconds - known[use.server].seconds), 0.0), 1.0)
        for use in now
        if use.server in known and use.seconds > known[use.server].seconds
    ]
    return sum(shares) / len(shares) if shares else None

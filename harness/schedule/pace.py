"""What finished episodes say of those that are left: how long they may take, and what they wait for."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from harness.schedule.result import EpisodeResult

MIN_EPISODES = 4
"""Before so many have ended there is no band and no limit."""
Z_90 = 1.645
"""Standard normal quantile of a two-sided 90 % band."""


@dataclass(slots=True)
class Pace:
    """Durations of a run's finished episodes, and the parts that they are made of. Errors are left out."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean (Welford)."""
    parts: Counter[str] = field(default_factory=Counter)
    """Part of an episode → seconds, summed."""

    def add(self, result: EpisodeResult) -> None:
        """Count an episode that ended."""
        self.n += 1
        before = result.wall_s - self.mean
        self.mean += before / self.n
        self.squares += before * (result.wall_s - self.mean)
        known = {
            "policy": result.policy_wait_s,
            "physics": result.physics_s,
            "rendering": result.render_s,
            "reset": result.reset_s,
        }
        for part, seconds in known.items():
            self.parts[part] += seconds  # type: ignore[assignment]
        self.parts["other"] += max(result.wall_s - sum(known.values()), 0.0)  # type: ignore[assignment]

    def band(self, eta_s: float | None, remaining: int) -> tuple[float, float] | None:
        """A 90 % band of the time that is left.

        Episodes last as those that ended did, independently: the rate is known to a share `cv / sqrt(n)`, and what is
        left varies by `cv / sqrt(remaining)`, where `cv` is the coefficient of variation of one episode. Log-normal.

        Args:
            eta_s: Seconds that are left at the present rate.
            remaining: Episodes that are left.

        Returns:
            Seconds, low and high; None while too little is known or nothing is left.
        """
        if eta_s is None or remaining <= 0 or self.n < MIN_EPISODES or self.mean <= 0:
            return None
        cv = math.sqrt(self.squares / (self.n - 1)) / self.mean
        spread = Z_90 * cv * math.sqrt(1 / self.n + 1 / remaining)
        return eta_s * math.exp(-spread), eta_s * math.exp(spread)

    def limit(self) -> tuple[str, float] | None:
        """The part on which workers spend most of their episodes' time, and its share; None while too little is known.

        Returns:
            "policy" (waiting for decisions), "physics", "rendering", "reset" or "other", and its share in (0, 1].
        """
        total = sum(self.parts.values())
        if self.n < MIN_EPISODES or total <= 0:
            return None
        part, seconds = max(self.parts.items(), key=lambda item: item[1])
        return part, seconds / total

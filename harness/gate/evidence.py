"""How the designs weigh pairs: one look at the end, looks that were planned, or a look whenever one likes.

Each answer is wrong at most as often as its alpha says: of "a drop" when there is none, of "within the margin" when
the candidate truly dropped by the margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

import numpy as np

from harness.analysis.paired.clusters import Clusters, cluster_drop_p, cluster_margin_p
from harness.analysis.paired.group_sequential import (
    PATIENCE,
    chance_to_exclude,
    chance_to_show_drop,
    look_levels,
    spent,
    walk_boundaries,
)
from harness.analysis.paired.margin import exact_lower_bound, margin_p
from harness.analysis.paired.sequential import anytime_p, log_evidence_above, log_evidence_below, lower_sequence_bound
from harness.analysis.paired.statistics import PairCounts, mcnemar_exact
from harness.gate.outlook import Prolongable

REACH = 0.2
"""A look may FAIL a candidate only when the plan's rest, at half the margin, would show the margin with at most this
probability: else a drop that the margin tolerates would fail early and pass late."""

FUTILITY = 0.05
"""A run is given up when neither a PASS nor a FAIL has a larger chance than this to come: the error of futility."""


class Evidence(Prolongable, Protocol):
    """Evidence about candidate minus base."""

    @property
    def counts(self) -> PairCounts:
        """Pairs so far."""

    def drop(self, alpha: float) -> bool:
        """Whether a real drop is shown."""

    def rise(self, alpha: float) -> bool:
        """Whether a real rise is shown."""

    def above(self, bound: float, alpha: float) -> bool:
        """Whether the difference is shown to be above a bound, e.g. above the negative margin."""

    def beyond(self, margin: float, alpha: float) -> bool:
        """Whether a drop beyond the margin is shown."""

    def worse(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """Whether a drop is shown, and more than the margin not about to be excluded."""

    def futile(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """Whether going on is of no use: neither verdict has a fair chance."""

    def figures(self, bound: float, alpha: float) -> str:
        """What is known about a bound, in words."""

    def drop_text(self, alpha: float) -> str:
        """What is known about a drop, in words."""

    def scope(self, alpha: float, pass_alpha: float) -> str:
        """The design and where in it this is; empty for a single look."""

    def without_loss(self, extent: int) -> Self:
        """As much evidence by the same design, of which no pair flipped."""


def scaled(counts: PairCounts, factor: float) -> PairCounts:
    """Counts of so many times as many pairs in the same proportions, flips rounded, the total exact to one pair."""
    lost, gained, neither = (round(one * factor) for one in (counts.lost, counts.gained, counts.neither))
    return PairCounts(max(round(counts.n * factor) - lost - gained - neither, 0), lost, gained, neither)


def _mirrored(counts: PairCounts) -> PairCounts:
    return PairCounts(counts.both, counts.gained, counts.lost, counts.neither)


@dataclass(frozen=True)
class FixedEvidence:
    """One look, after all planned episodes."""

    counts: PairCounts
    clusters: Clusters | None = None
    """Pairs by init state or task, when those are the sampling unit; None: every pair is independent."""

    def p_drop(self) -> float:
        """P value of "no real drop"."""
        if self.clusters is not None:
            return cluster_drop_p(self.clusters)
        return float(mcnemar_exact(self.counts.lost, self.counts.gained, "drop"))

    def p_rise(self) -> float:
        """P value of "no real rise"."""
        if self.clusters is not None:
            return cluster_drop_p(self.clusters.mirrored())
        return float(mcnemar_exact(self.counts.lost, self.counts.gained, "rise"))

    def p_above(self, bound: float) -> float:
        """P value of "the difference is at most the bound"."""
        if self.clusters is not None:
            return cluster_margin_p(self.clusters, self.counts, bound)
        return margin_p(self.counts, bound)

    def drop(self, alpha: float) -> bool:
        """See `Evidence`."""
        return self.p_drop() <= alpha

    def rise(self, alpha: float) -> bool:
        """See `Evidence`."""
        return self.p_rise() <= alpha

    def above(self, bound: float, alpha: float) -> bool:
        """See `Evidence`."""
        return self.p_above(bound) <= alpha

    def beyond(self, margin: float, alpha: float) -> bool:
        """See `Evidence`."""
        clusters = None if self.clusters is None else self.clusters.mirrored()
        return FixedEvidence(_mirrored(self.counts), clusters).above(margin, alpha)

    def worse(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`."""
        return self.drop(alpha) and not self.above(-margin, pass_alpha)

    def futile(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`; there is nothing to give up."""
        return False

    def figures(self, bound: float, alpha: float) -> str:
        """See `Evidence`."""
        if self.clusters is not None:
            return f"p = {self.p_above(bound):.2g} for {points(bound)} or less, wanted {alpha:.2g}"
        return f"lower bound {points(exact_lower_bound(self.counts, alpha))} at {1 - alpha:.4g}"

    def drop_text(self, alpha: float) -> str:
        """See `Evidence`."""
        return f"p = {self.p_drop():.2g}, alarm at {alpha:.2g}"

    def scope(self, alpha: float, pass_alpha: float) -> str:
        """See `Evidence`."""
        return ""

    @property
    def extent(self) -> int:
        """See `Evidence`."""
        return self.counts.n if self.clusters is None else self.clusters.net.size

    @property
    def coming(self) -> Sequence[int]:
        """See `Evidence`."""
        return ()

    @property
    def whole(self) -> int:
        """See `Evidence`."""
        return self.extent

    def prolonged(self, extent: int) -> FixedEvidence:
        """See `Evidence`."""
        counts = scaled(self.counts, extent / self.extent)
        return FixedEvidence(counts, None if self.clusters is None else self.clusters.prolonged(extent))

    def without_loss(self, extent: int) -> FixedEvidence:
        """See `Evidence`."""
        if self.clusters is None:
            return FixedEvidence(PairCounts(extent, 0, 0, 0))
        size = max(round(float(self.clusters.sizes.mean())), 1)
        clusters = Clusters(np.zeros(extent, dtype=np.int64), np.full(extent, size, dtype=np.int64))
        return FixedEvidence(PairCounts(extent * size, 0, 0, 0), clusters)


@dataclass(frozen=True)
class AnytimeEvidence:
    """An e-process: a look after every pair, without a plan of how many there will be."""

    counts: PairCounts

    def p_drop(self) -> float:
        """P value of "no real drop"."""
        return float(anytime_p(log_evidence_below(self.counts.gained, self.counts.lost, self.counts.n, 0.0)))

    def drop(self, alpha: float) -> bool:
        """See `Evidence`."""
        return self.p_drop() <= alpha

    def rise(self, alpha: float) -> bool:
        """See `Evidence`."""
        return self.above(0.0, alpha)

    def above(self, bound: float, alpha: float) -> bool:
        """See `Evidence`."""
        evidence = log_evidence_above(self.counts.gained, self.counts.lost, self.counts.n, bound)
        return bool(evidence >= np.log(1 / alpha))

    def beyond(self, margin: float, alpha: float) -> bool:
        """See `Evidence`."""
        return AnytimeEvidence(_mirrored(self.counts)).above(margin, alpha)

    def worse(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`: without a plan, when a drop is shown and the margin is where the data point or nearer."""
        return self.drop(alpha) and self.counts.difference <= -margin

    def futile(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`; without a plan one can always go on."""
        return False

    def figures(self, bound: float, alpha: float) -> str:
        """See `Evidence`."""
        return f"lower bound {points(lower_sequence_bound(self.counts, alpha))} at {1 - alpha:.4g}"

    def drop_text(self, alpha: float) -> str:
        """See `Evidence`."""
        return f"p = {self.p_drop():.2g}, alarm at {alpha:.2g}"

    def scope(self, alpha: float, pass_alpha: float) -> str:
        """See `Evidence`."""
        return f"Anytime-valid (e-process, no plan): alpha {alpha:.2g} for a drop, {pass_alpha:.2g} for the margin."

    @property
    def extent(self) -> int:
        """See `Evidence`."""
        return self.counts.n

    @property
    def coming(self) -> Sequence[int]:
        """See `Evidence`."""
        return ()

    @property
    def whole(self) -> int:
        """See `Evidence`."""
        return self.extent

    def prolonged(self, extent: int) -> AnytimeEvidence:
        """See `Evidence`."""
        return AnytimeEvidence(scaled(self.counts, extent / self.extent))

    def without_loss(self, extent: int) -> AnytimeEvidence:
        """See `Evidence`."""
        return AnytimeEvidence(PairCounts(extent, 0, 0, 0))


@dataclass(frozen=True)
class LookEvidence:
    """Looks that were planned: the group-sequential tests of `analysis.paired.group_sequential`.

    A drop is tested exactly, given the flips; the levels of the margin come from a joint normal law.
    """

    looks: tuple[PairCounts, ...]
    """Pairs at each look so far, cumulated; at least one look."""
    sizes: tuple[int, ...]
    """Pairs that the plan has by each of its looks, cumulated; the last is the whole plan."""

    @property
    def counts(self) -> PairCounts:
        """Pairs so far."""
        return self.looks[-1]

    @property
    def planned(self) -> int:
        """Pairs of the whole plan."""
        return self.sizes[-1]

    def drop(self, alpha: float) -> bool:
        """See `Evidence`."""
        boundaries = _boundaries(self.looks, self.sizes, alpha)
        return any(line is not None and look.lost >= line for look, line in zip(self.looks, boundaries, strict=True))

    def rise(self, alpha: float) -> bool:
        """See `Evidence`."""
        return LookEvidence(tuple(map(_mirrored, self.looks)), self.sizes).drop(alpha)

    def above(self, bound: float, alpha: float) -> bool:
        """See `Evidence`."""
        levels = _levels(self.sizes, alpha)
        return any(
            look.n > 0 and look.difference > bound and margin_p(look, bound) <= level
            for look, level in zip(self.looks, levels, strict=False)
        )

    def beyond(self, margin: float, alpha: float) -> bool:
        """See `Evidence`."""
        return LookEvidence(tuple(map(_mirrored, self.looks)), self.sizes).above(margin, alpha)

    def worse(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`: the margin counts as lost when a rest at half of it would hardly bring it back."""
        if not self.drop(alpha) or self.above(-margin, pass_alpha):
            return False
        if self.ended:
            # A single look would have passed this: it is no FAIL, though these looks may not PASS it.
            return margin_p(self.counts, -margin) > pass_alpha
        return bool(chance_to_exclude(self.counts, self.planned, margin, pass_alpha, -margin / 2) <= REACH)

    def futile(self, margin: float, alpha: float, pass_alpha: float) -> bool:
        """See `Evidence`."""
        if self.ended or self.above(-margin, pass_alpha):
            return False
        good = chance_to_exclude(self.counts, self.planned, margin, self._last_level(pass_alpha), 0.0)
        bad = chance_to_show_drop(self.counts, self.planned, self._last_level(alpha), -margin)
        return bool(max(good, bad) <= FUTILITY)

    @property
    def ended(self) -> bool:
        """Whether the plan is done."""
        return len(self.looks) >= len(self.sizes)

    def figures(self, bound: float, alpha: float) -> str:
        """See `Evidence`."""
        level = _levels(self.sizes, alpha)[len(self.looks) - 1]
        p = margin_p(self.counts, bound)
        return f"p = {p:.2g} for {points(bound)} or less, this look's level {level:.2g}"

    def drop_text(self, alpha: float) -> str:
        """See `Evidence`."""
        line = _boundaries(self.looks, self.sizes, alpha)[-1]
        flips = f"{self.counts.lost} of {self.counts.discordant} flips lost"
        return f"{flips}, this look shows a drop at {line}" if line is not None else f"{flips}, too few to show a drop"

    def scope(self, alpha: float, pass_alpha: float) -> str:
        """See `Evidence`."""
        done = self.sizes[len(self.looks) - 1]
        saved = self.planned - done
        used, margin_used = spent(alpha, done, self.planned), spent(pass_alpha, done, self.planned, PATIENCE)
        rest = f" ({saved} to go, saved if this stops)" if saved else ""
        return (
            f"Group-sequential, look {len(self.looks)} of {len(self.sizes)} planned: {done} of {self.planned} "
            f"pairs{rest}; alpha spent {used:.3g} of {alpha:.2g} on a drop, {margin_used:.3g} of "
            f"{pass_alpha:.2g} on the margin."
        )

    @property
    def extent(self) -> int:
        """See `Evidence`."""
        return self.sizes[len(self.looks) - 1]

    @property
    def coming(self) -> Sequence[int]:
        """See `Evidence`."""
        return self.sizes[len(self.looks) :]

    @property
    def whole(self) -> int:
        """See `Evidence`."""
        return self.planned

    def prolonged(self, extent: int) -> LookEvidence:
        """See `Evidence`."""
        if extent <= self.planned:
            coming = tuple(self._at(size) for size in self.coming if size <= extent)
            return LookEvidence(self.looks + coming, self.sizes)
        sizes = self._resized(extent)
        return LookEvidence(tuple(self._at(size) for size in sizes), sizes)

    def without_loss(self, extent: int) -> LookEvidence:
        """See `Evidence`."""
        sizes = self._resized(extent)
        return LookEvidence(tuple(PairCounts(size, 0, 0, 0) for size in sizes), sizes)

    def _at(self, size: int) -> PairCounts:
        return scaled(self.counts, size / max(self.extent, 1))

    def _resized(self, extent: int) -> tuple[int, ...]:
        return tuple(round(size * extent / self.planned) for size in self.sizes)

    def _last_level(self, alpha: float) -> float:
        return _levels(self.sizes, alpha)[-1]


@lru_cache(maxsize=65536)
def _boundaries(looks: tuple[PairCounts, ...], sizes: tuple[int, ...], alpha: float) -> tuple[int | None, ...]:
    seen = [(size, look.discordant) for look, size in zip(looks, sizes, strict=False)]
    return tuple(walk_boundaries(seen, alpha, sizes[-1]))


@lru_cache(maxsize=4096)
def _levels(sizes: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Level of each look; a look that the plan gives no new pair may not reject."""
    rising = [size for size in dict.fromkeys(sizes) if size > 0]
    found = dict(zip(rising, look_levels(tuple(size / sizes[-1] for size in rising), alpha), strict=True))
    return tuple(found.pop(size, 0.0) for size in sizes)


def points(value: float) -> str:
    """A difference of rates in percentage points, signed."""
    return f"{100 * value:+.1f} points"

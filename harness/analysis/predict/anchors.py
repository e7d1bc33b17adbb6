"""Known latencies, and what they say of those that are not known.

Host, number formats and stack differ from what a roofline or a ledger of another device knows of, by factors that
published and own points tell.

The logarithm of a known latency over its nominal value is a sum of normal effects: of how a stack executes (eager,
compiled, engine), of the stack, of the device, of the stack on that device (its level, and how it differs between what
runs once and the steps), and noise. Their sizes are estimated from the points, and a prediction is the conditional
distribution at the target: a known point of the same stack and device pins it down, others shift it, and where nothing
is near the band is wide. Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), §2.2, 5.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from harness.errors import UsageError
from harness.spec.profile import load_profile

BAND = 0.90
"""Level of the band."""


class Place(NamedTuple):
    """Where a latency is known or asked for, and its nominal value."""

    device: str
    """Hardware profile."""
    family: str
    """Stack, whatever its number format."""
    execution: str
    """eager, compiled (or captured) or engine; what launches and fusing cost is alike within one."""
    nominal_ms: float
    """What it would take if host, formats and stack were those that the nominal prediction knows of."""
    once: float
    """Share of the nominal time that runs once a decision, whatever the NFE."""


class Anchor(NamedTuple):
    """A known latency."""

    place: Place
    latency_ms: float
    name: str
    """What it is called in a note: device, stack, NFE, source."""

    @property
    def log_ratio(self) -> float:
        """Natural logarithm of known over nominal."""
        return math.log(self.latency_ms / self.place.nominal_ms)


class Corrected(NamedTuple):
    """A latency as anchors predict it, ms."""

    low: float
    likely: float
    high: float
    """Bounds of the `BAND`."""


class Effects(NamedTuple):
    """Standard deviations of the effects, in log units: about relative."""

    execution: float
    family: float
    device: float
    here: float
    """Of a stack on one device."""
    once: float
    """Of what runs once against the steps, for a stack on one device."""
    noise: float


PRIOR = Effects(0.5, 0.3, 0.3, 0.3, 0.3, 0.08)
"""Where the estimate begins, and what it is drawn to (log-normal, a factor of 1.6 either way): with eight devices the
data alone would not tell five effects apart."""
PRIOR_WIDTH = 0.5


class AnchorModel:
    """The effects, estimated from anchors."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        """Estimate them; without anchors nothing is corrected."""
        self.anchors = tuple(anchors)
        self._places = [anchor.place for anchor in anchors]
        self._ratios = np.array([anchor.log_ratio for anchor in anchors])
        self.effects = _estimate(self._places, self._ratios) if len(anchors) > 1 else PRIOR

    @property
    def devices(self) -> int:
        """Devices that anchors lie on."""
        return len({place.device for place in self._places})

    def at(self, place: Place) -> Corrected:
        """Predict a latency.

        The band is of Student's t with a degree of freedom less than there are devices: how much devices differ is
        itself known from so few.
        """
        prior = _covariance([place], [place], self.effects)[0, 0]
        mean, variance = 0.0, prior
        if self.anchors:
            among = _covariance(self._places, self._places, self.effects)
            among += self.effects.noise**2 * np.eye(len(among))
            across = _covariance(self._places, [place], self.effects)[:, 0]
            weights = np.linalg.solve(among, across)
            mean, variance = float(weights @ self._ratios), max(0.0, prior - float(weights @ across))
        spread = math.sqrt(variance + self.effects.noise**2)
        half = float(stats.t.isf((1 - BAND) / 2, max(1, self.devices - 1))) * spread
        likely = place.nominal_ms * math.exp(mean)
        return Corrected(likely / math.exp(half), likely, likely * math.exp(half))

    def near(self, place: Place) -> list[Anchor]:
        """Anchors that say most: those of the same stack, and those on the same device."""
        return [
            anchor
            for anchor in self.anchors
            if anchor.place.device == place.device or anchor.place.family == place.family
        ]

    def without(self, device: str) -> AnchorModel:
        """The model that knows nothing of a device."""
        return AnchorModel([anchor for anchor in self.anchors if anchor.place.device != device])


def _covariance(rows: Sequence[Place], columns: Sequence[Place], effects: Effects) -> NDArray[np.float64]:
    """Covariance of the log ratios of places, without noise, shape (rows, columns)."""

    def same(name: str) -> NDArray[np.float64]:
        left = np.array([getattr(place, name) for place in rows], dtype=object)
        right = np.array([getattr(place, name) for place in columns], dtype=object)
        return np.asarray(left[:, None] == right[None, :], dtype=np.float64)

    device, family = same("device"), same("family")
    tilt = np.outer([place.once - 0.5 for place in rows], [place.once - 0.5 for place in columns])
    found: NDArray[np.float64] = (
        effects.execution**2 * same("execution")
        + effects.family**2 * family
        + effects.device**2 * device
        + (effects.here**2 + effects.once**2 * tilt) * device * family
    )
    return found


def _estimate(places: Sequence[Place], ratios: NDArray[np.float64]) -> Effects:
    """Most probable standard deviations, given the points and the prior."""
    middle = np.log(PRIOR)

    def loss(logs: NDArray[np.float64]) -> float:
        effects = Effects(*np.exp(logs))
        matrix = _covariance(places, places, effects) + effects.noise**2 * np.eye(len(places))
        _, determinant = np.linalg.slogdet(matrix)
        fit = float(ratios @ np.linalg.solve(matrix, ratios)) + float(determinant)
        return fit / 2 + float((((logs - middle) / PRIOR_WIDTH) ** 2).sum()) / 2

    return Effects(*np.exp(optimize.minimize(loss, middle, method="L-BFGS-B").x).tolist())


class GivenPoint(NamedTuple):
    """A latency that a user states."""

    device: str
    stack: str
    nfe: int
    latency_ms: float


def parse_anchors(texts: Iterable[str], stack: str) -> list[GivenPoint]:
    """Read "PROFILE:nfe10=1299,nfe1=798" or "PROFILE:STACK:nfe10=203", milliseconds.

    Args:
        texts: What was given.
        stack: Stack of an anchor that names none.

    Raises:
        UsageError: Another form, or no positive latency; names what is expected.
        SpecError: No such profile.
    """
    found = []
    for text in texts:
        head, _, points = text.rpartition(":")
        device, _, named = head.partition(":")
        matches = [re.fullmatch(r"nfe(\d+)=([0-9.]+)", point.strip()) for point in points.split(",")]
        if not device or not all(matches):
            raise UsageError(f"--anchor is {text!r}, where e.g. dgx-spark-gb10:nfe10=1299,nfe1=798 is expected (ms).")
        load_profile(device)
        for match in matches:
            try:
                nfe, latency = (int(match[1]), float(match[2])) if match else (0, 0.0)
            except ValueError:
                nfe, latency = 0, 0.0
            if nfe < 1 or not 0.001 <= latency <= 1e7:
                raise UsageError(f"--anchor {text!r} states no NFE from 1 on with a latency in milliseconds.")
            found.append(GivenPoint(device, named or stack, nfe, latency))
    return found

"""Which device to buy: every profile with every variant of a policy, and what speaks against each.

A variant is a policy as it would be served: its weights, number formats, graphs and NFE. Its latency and memory are
measured where a ledger timed it on that very profile, else predicted; its success comes from its own paired run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.latency.roofline import work_of
from harness.analysis.paired.compare import compare_success
from harness.analysis.paired.pairing import match_variants, read_sides, require_same_protocol
from harness.analysis.predict.anchored import Anchored, score
from harness.analysis.predict.prediction import (
    WHOLE,
    MeasuredSource,
    Prediction,
    predict,
    predict_architecture,
    sources,
    target_for,
    target_for_description,
)
from harness.analysis.predict.published import load_published
from harness.analysis.predict.targets import fits
from harness.errors import LedgerError, UsageError, unknown_name
from harness.ledger import Ledger, read
from harness.spec.architecture import load_architecture
from harness.spec.profile import HardwareProfile, load_profile, profile_names
from harness.spec.resolve import load_yaml

Suitability = Literal["suits", "may suit", "no"]
SUITABILITIES: tuple[Suitability, ...] = ("suits", "may suit", "no")
TAIL = 0.99
"""Percentile of a measured latency that has to meet the limit."""


@dataclass(frozen=True)
class Need:
    """What the device has to do."""

    hz: float | None = None
    """Decisions a second."""
    stands_ms: float | None = None
    """The largest delay that success stands, as `harness delay` finds it."""
    power_w: float | None = None
    """Power that the robot can give."""

    @property
    def limit_ms(self) -> float:
        """The longest that a decision may take."""
        return min(1e3 / self.hz if self.hz else float("inf"), self.stands_ms or float("inf"))


@dataclass(frozen=True)
class Estimate:
    """A decision of a variant on a device."""

    low: float
    """Milliseconds, as the next two; measured: the median, and the 99th percentile as `high`."""
    likely: float
    high: float
    memory_bytes: float | None
    fits: bool | None
    measured: bool
    flag: str = ""
    """What makes it doubtful."""


@dataclass(frozen=True)
class Success:
    """What a variant's own paired run says of it."""

    kept: bool | None
    """Whether it is within the margin; None: not shown."""
    text: str


@dataclass(frozen=True)
class Variant:
    """A policy as it would be served."""

    label: str
    nfe: int | None
    estimate: Callable[[HardwareProfile], Estimate]
    success: Success


@dataclass(frozen=True)
class Offer:
    """A variant on a device."""

    profile: HardwareProfile
    variant: Variant
    price: float | None
    estimate: Estimate | None
    verdict: Suitability
    reasons: tuple[str, ...]
    """What excludes it, or what is not certain; empty when it suits."""


def weigh(variants: Sequence[Variant], profiles: Sequence[str], prices: Mapping[str, float], need: Need) -> list[Offer]:
    """Judge every variant on every profile.

    Args:
        variants: From `described` or `timed`.
        profiles: Names of hardware profiles.
        prices: Profile → price, in any currency; empty where nobody asks for the cheapest.
        need: What it has to do.

    Returns:
        What suits, then what may, then what does not, each by price, then by latency.

    Raises:
        UsageError: An unknown profile (the nearest known name is told).
    """
    found = [
        _judge(variant, load_profile(name), prices.get(name), bool(prices), need)
        for name in profiles
        for variant in variants
    ]
    return sorted(
        found,
        key=lambda offer: (
            SUITABILITIES.index(offer.verdict),
            float("inf") if offer.price is None else offer.price,
            offer.estimate.likely if offer.estimate else float("inf"),
        ),
    )


def _judge(variant: Variant, profile: HardwareProfile, price: float | None, priced: bool, need: Need) -> Offer:
    against, doubts = list[str](), list[str]()
    if priced and price is None:
        against.append("has no price in the price list")
    if need.power_w is not None:
        if profile.power_w is None:
            doubts.append("its power is not known")
        elif profile.power_w.value > need.power_w:
            against.append(f"takes up to {profile.power_w.value:g} W, {need.power_w:g} can be given")
    try:
        estimate = variant.estimate(profile)
    except UsageError as error:
        return Offer(profile, variant, price, None, "no", (*against, str(error)))
    if estimate.fits is None:
        doubts.append("whether it fits in memory is not known")
    elif not estimate.fits:
        has = f"{profile.memory_gb.value:g}" if profile.memory_gb else "too few"
        against.append(f"needs {(estimate.memory_bytes or 0) / 1e9:.1f} GB beside the system's, has {has}")
    limit = need.limit_ms
    if estimate.low > limit:
        against.append(f"takes at least {estimate.low:.3g} ms, {limit:.3g} are allowed")
    elif estimate.high > limit:
        doubts.append(f"takes up to {estimate.high:.3g} ms, {limit:.3g} are allowed")
    if estimate.flag:
        doubts.append(estimate.flag)
    if variant.success.kept is False:
        against.append(variant.success.text)
    elif variant.success.kept is None:
        doubts.append(variant.success.text)
    verdict: Suitability = "no" if against else "may suit" if doubts else "suits"
    return Offer(profile, variant, price, estimate, verdict, tuple(against or doubts))


def described(name: str, nfe: Sequence[int]) -> list[Variant]:
    """Variants of an architecture that exists as a description: all its numbers are predicted.

    Raises:
        UsageError: No such architecture.
    """
    architecture = load_architecture(name.removeprefix("arch:"))
    untrained = Success(None, "its success is not known: it is a description without weights")

    def estimate(steps: int) -> Callable[[HardwareProfile], Estimate]:
        def there(profile: HardwareProfile) -> Estimate:
            target = target_for_description(profile, architecture)
            return _predicted(predict_architecture(architecture, target, steps))

        return there

    label = f"arch:{architecture.name}"
    return [Variant(label, steps, estimate(steps), untrained) for steps in nfe or architecture.nfe]


def timed(
    ledger: Ledger, labels: Sequence[str], nfe: Sequence[int], success: Callable[[str, int | None], Success]
) -> list[Variant]:
    """Variants that were probed.

    Args:
        ledger: Of the probes.
        labels: Policies; empty for all of them.
        nfe: NFE values; empty for all that were timed.
        success: (label, NFE) → what its paired run says.

    Raises:
        UsageError: The ledger holds nothing that can be carried to another device, or not such a policy.
    """
    known = [each for each in sources(ledger.latency, ledger.counts, ledger.nodes) if each.unbatched]
    if not known:
        raise UsageError(
            f"{ledger.path} holds no configuration that was timed and counted at batch 1 on a calibrated node. "
            "`harness probe` counts and calibrates."
        )
    held = list(dict.fromkeys(str(each.configuration["policy_id"]) for each in known))
    for label in labels:
        if label not in held:
            raise unknown_name("timed policy", label, held)
    found = []
    for source in known:
        label = str(source.configuration["policy_id"])
        if labels and label not in labels:
            continue
        estimate = _Carried(source, known, ledger.latency)
        for steps in nfe or source.e2e:
            found.append(Variant(label, steps, estimate.at(steps), success(label, steps)))
    return found


class _Carried:
    """A measured configuration on another device, or its own samples where it is the same."""

    def __init__(self, source: MeasuredSource, known: Sequence[MeasuredSource], latency: pd.DataFrame) -> None:
        self._source, self._latency = source, latency
        self._anchored = Anchored(source, list(known), load_published())

    def at(self, nfe: int | None) -> Callable[[HardwareProfile], Estimate]:
        def there(profile: HardwareProfile) -> Estimate:
            if profile.name == self._source.configuration["hardware"]:
                return self._measured(profile, nfe)
            if self._anchored.applies:
                tested = score(self._anchored.back_test(profile.name))
                flag = "" if tested.passes else "its back-test fails" if tested.n else ""
                return _predicted(self._anchored.predict(profile.name, nfe), flag)
            own = self._source.configuration["hardware"]
            like = load_profile(own) if isinstance(own, str) else None
            return _predicted(predict(self._source, target_for(profile, self._source, like), nfe))

        return there

    def _measured(self, profile: HardwareProfile, nfe: int | None) -> Estimate:
        rows = self._latency[self._latency["component"] == WHOLE]
        for name, value in (*self._source.configuration.items(), ("nfe", nfe)):
            rows = rows[rows[name].isna() if value is None or pd.isna(value) else rows[name] == value]
        if rows.empty:
            raise UsageError(f"was timed there, but not at NFE {nfe}")
        samples = rows["latency_ms"].to_numpy(dtype=np.float64)
        median, tail = np.quantile(samples, [0.5, TAIL])
        memory = self._source.memory_bytes
        held = fits(memory, target_for(profile, self._source, profile))
        return Estimate(float(median), float(median), float(tail), memory, held, True)


def _predicted(found: Prediction, flag: str = "") -> Estimate:
    return Estimate(found.low, found.likely, found.high, found.memory_bytes, found.fits, False, flag)


def paired_success(
    ledgers: Sequence[str], base: str, base_nfe: int | None, margin: float
) -> Callable[[str, int | None], Success]:
    """Success of variants by their runs on the base's episodes.

    Args:
        ledgers: Of the runs.
        base: Label of the policy that a variant must not fall behind.
        base_nfe: Its NFE; None where it ran at one alone.
        margin: Drop that is accepted, as a share: 0.03 for three points.
    """
    if not ledgers:
        return lambda label, nfe: Success(None, "its success is not known: name a run with --success")
    ledger = read(*ledgers)
    sides = read_sides(ledger, policy=base, nfe=base_nfe)
    if len(sides) != 1:
        raise UsageError(f"{ledger.path} holds {len(sides)} runs of {base!r}; choose one with --base-nfe.")

    def told(label: str, nfe: int | None) -> Success:
        plain = work_of(label)
        if (plain, nfe if base_nfe is not None else None) == (base, base_nfe):
            return Success(True, "is the base")
        try:
            matched = match_variants(sides, read_sides(ledger, policy=plain, nfe=nfe))
        except (UsageError, LedgerError):
            matched = []
        if len(matched) != 1:
            ran = plain if nfe is None else f"{plain} @ NFE {nfe}"
            return Success(None, f"its success is not known: {ran} has no run")
        require_same_protocol(*matched[0])
        found = compare_success(*matched[0]).overall
        bounds = f"{100 * found.difference.low:+.1f} … {100 * found.difference.high:+.1f}"
        text = f"success {100 * found.counts.difference:+.1f} points [{bounds}], {found.counts.n} pairs"
        kept = True if found.difference.low >= -margin else False if found.difference.high < -margin else None
        return Success(kept, text if kept else f"{text}, {100 * margin:g} are accepted")

    return told


def load_prices(path: str | Path) -> dict[str, float]:
    """A price list: a YAML mapping of hardware profiles to prices.

    Raises:
        UsageError: An unknown profile, or a price that is no number from 0 up; both are named.
    """
    known, found = profile_names(), dict[str, float]()
    for name, price in load_yaml(Path(path)).items():
        if name not in known:
            raise unknown_name(f"hardware profile in {path}", str(name), known)
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise UsageError(f"{path}: the price of {name} is {price!r}; write a number from 0 up.")
        found[str(name)] = float(price)
    if not found:
        raise UsageError(f"{path} names no price; write lines such as `jetson-orin-nano-8gb: 249`.")
    return found

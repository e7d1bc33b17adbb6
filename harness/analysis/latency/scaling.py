"""What scales with what across devices: "the prefix is n times slower because the memory is" as a test.

Times of a step and of what runs once are set against the ratios of bandwidth, matmul rates and launch costs. A claim is
rejected where the two ratios differ by more than both uncertainties explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis.intervals import Interval
from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.latency.prefix import prefix_fit
from harness.analysis.latency.roofline import node_rates
from harness.analysis.predict.published import STACK, is_plain, load_published, model_of
from harness.analysis.predict.targets import SPREADS
from harness.errors import UsageError, unknown_name
from harness.ledger import Ledger
from harness.spec.profile import HardwareProfile, load_profile

PUBLISHED = "published:"
PUBLISHED_SPREAD = 0.05
"""Relative uncertainty (95 %) that a published median is given: none states its own, and the medians of fresh processes
on one H100 ranged over 8 %."""
RESOURCES = ("bandwidth", "bf16 rate", "tf32 rate", "fp32 rate", "launch rate")
"""What a time may scale with: LeRobot runs Pi0.5's vision tower in fp32 or TF32, its other products in bf16."""


class Measure(NamedTuple):
    """A positive quantity with its relative 95 % uncertainty."""

    value: float
    spread: float

    def over(self, other: Measure) -> Measure:
        """The ratio of two independent quantities."""
        return Measure(self.value / other.value, math.hypot(self.spread, other.spread))

    @property
    def interval(self) -> Interval:
        """95 % bounds, symmetric in the logarithm."""
        factor = math.exp(self.spread)
        return Interval(self.value / factor, self.value * factor)


class DevicePoint(NamedTuple):
    """One configuration on one device: a line over NFE, and what the device can do."""

    name: str
    device: str
    configuration: tuple[object, ...]
    """Policy, dtype, compilation and batch size of a measured point; empty for a published one."""
    model: str | None
    """What published points are matched by; None where the configuration is not what LeRobot runs."""
    step: Measure
    """A denoise step, ms."""
    once: Measure
    """What does not depend on NFE (prefix, host), ms."""
    printed: Mapping[str, Measure]
    """Datasheet figures: bandwidth and matmul rates."""
    measured: Mapping[str, Measure]
    """The same measured on the node, and launches a second."""


class ScalingClaim(NamedTuple):
    """One time ratio beside one ratio of what devices can do."""

    slow: DevicePoint
    fast: DevicePoint
    part: str
    resource: str
    time_ratio: Measure
    """Time on `slow` over that on `fast`."""
    resource_ratio: Measure
    """What `fast` can do over what `slow` can."""
    kind: str
    """"measured" or "printed" rates."""

    @property
    def gap(self) -> Measure:
        """Time ratio over resource ratio: 1 where the claim holds."""
        return self.time_ratio.over(self.resource_ratio)

    @property
    def answer(self) -> str:
        """Rejected by the data, or consistent with them."""
        return "consistent" if self.gap.interval.contains(1.0) else "rejected"


def device_points(arguments: Sequence[str]) -> list[DevicePoint]:
    """Points of ledgers, and of published figures ("published:PROFILE" or "published:PROFILE:STACK").

    Raises:
        UsageError: Nothing is published there, or at one NFE value only.
        LedgerError: A ledger that cannot be read.
    """
    return [
        point
        for argument in arguments
        for point in (_published(argument) if argument.startswith(PUBLISHED) else _measured(argument))
    ]


def scaling_claims(points: Sequence[DevicePoint]) -> list[ScalingClaim]:
    """Every two points of one configuration, or model, on two devices: each part against each resource."""
    found: list[ScalingClaim] = []
    for one, other in combinations(points, 2):
        same = one.configuration == other.configuration if one.configuration and other.configuration else None
        if one.device != other.device and (same if same is not None else one.model == other.model is not None):
            fast, slow = sorted((one, other), key=lambda point: point.once.value)
            found += _claims(slow, fast)
    return found


def _claims(slow: DevicePoint, fast: DevicePoint) -> Iterator[ScalingClaim]:
    for part, ratio in (("what runs once", slow.once.over(fast.once)), ("a step", slow.step.over(fast.step))):
        for resource in RESOURCES:
            for kind in ("measured", "printed"):
                mine, theirs = (getattr(point, kind).get(resource) for point in (fast, slow))
                if mine is not None and theirs is not None:
                    yield ScalingClaim(slow, fast, part, resource, ratio, mine.over(theirs), kind)
                    break


def printed_figures(profile: HardwareProfile) -> dict[str, Measure]:
    """Bandwidth and matmul rates of a profile, each as uncertain as its source."""
    figures = {"bandwidth": profile.bandwidth_gb_s, **{f"{key} rate": value for key, value in profile.tflops.items()}}
    return {
        str(name): Measure(figure.value, SPREADS[figure.confidence])
        for name, figure in figures.items()
        if figure is not None
    }


def _published(argument: str) -> list[DevicePoint]:
    name, _, stack = argument.removeprefix(PUBLISHED).partition(":")
    rows = load_published()
    rows = rows[(rows["component"] == "e2e") & (rows["kind"] == "measured") & rows["nfe"].notna()]
    known = sorted(rows["profile"].dropna().unique())
    if name not in known:
        raise unknown_name("device with published latencies", name, known)
    here = rows[rows["profile"] == name]
    chosen = here[here["stack"] == (stack or STACK)]
    found = []
    for (model, source), group in chosen.groupby(["model", "source"], sort=False):
        by_nfe = group.groupby("nfe")["latency_ms"].median().sort_index()
        if len(by_nfe) < 2:
            continue
        few, many = (int(str(value)) for value in (by_nfe.index[0], by_nfe.index[-1]))
        least, most = float(by_nfe.iloc[0]), float(by_nfe.iloc[-1])
        step = (most - least) / (many - few)
        error = PUBLISHED_SPREAD * math.hypot(least, most) / (many - few)
        once = least - few * step
        off = PUBLISHED_SPREAD * math.hypot(least * many, most * few) / (many - few)
        if min(step, once) > 0:
            told = f"{model} on {name}, {stack or STACK} ({source})"
            printed = printed_figures(load_profile(name))
            found.append(
                DevicePoint(
                    told,
                    name,
                    (),
                    model_of(str(model)),
                    Measure(step, error / step),
                    Measure(once, off / once),
                    printed,
                    {},
                )
            )
    if not found:
        held = ", ".join(sorted(set(here["model"] + " with " + here["stack"])))
        raise UsageError(
            f"A prefix needs published times at two NFE values; {argument!r} has none. On {name} there is: {held}."
        )
    return found


def _measured(path: str) -> list[DevicePoint]:
    ledger = Ledger(path)
    if not len(ledger.latency):
        raise UsageError(f"{path} holds no latency samples; probe a policy first (`harness probe`).")
    found = []
    for row in prefix_fit(ledger.latency).to_dict("records"):
        if not isinstance(row["hardware"], str) or min(row["step"], row["prefix"]) <= 0:
            continue
        latency = ledger.latency[ledger.latency["hardware"] == row["hardware"]]
        rates = node_rates(ledger.nodes, latency).rates
        measured = {
            "bandwidth": rates.copy_gb_s,
            **{f"{key} rate": value for key, value in rates.tflop_s.items()},
            "launch rate": None if not rates.launch_us else 1e6 / rates.launch_us,
        }
        policy = str(row["policy_id"])
        eager = pd.isna(row["compile"]) or str(row["compile"]).startswith("eager")
        plain = eager and is_plain(policy) and row["batch_size"] == 1
        found.append(
            DevicePoint(
                f"{policy} on {row['hardware']}",
                row["hardware"],
                tuple(None if pd.isna(row[key]) else row[key] for key in CONFIGURATION if key != "hardware"),
                model_of(policy) if plain else None,
                _with_bounds(row, "step"),
                _with_bounds(row, "prefix"),
                printed_figures(load_profile(row["hardware"])),
                {key: Measure(float(value), SPREADS["measured"]) for key, value in measured.items() if value},
            )
        )
    return found


def _with_bounds(row: Mapping[Any, Any], name: str) -> Measure:
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return Measure(value, (high - low) / 2 / value if math.isfinite(high - low) else SPREADS["inferred"])

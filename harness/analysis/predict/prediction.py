"""What a decision would take on a device that is not at hand, from counts and from times measured on another.

The model of one call of a component. Its device work is ideal = max(bytes / bandwidth, FLOPs / rate), plus what
elementwise operators move if it runs eagerly; every kernel costs `KERNEL_US` at least, on any device; the rest of the
busy time measured on the source is inefficiency, which is taken to be the target's as well. Around that stands the
host. Where the source stood idle for its host, the target is idle too until its own work fills the time: "overlapped"
is max(busy, host), "queued" is busy + the idle time measured, and the truth lies between: their mean is predicted.
The band runs from the lower of the two with faster rates and host to the higher with slower ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.latency.roofline import Demand, NodeRates, Rates, compute_ms, demand_of, find_counts, node_rates
from harness.analysis.predict.targets import Target, fits, target_device
from harness.errors import UsageError
from harness.spec.architecture import Architecture, Work
from harness.spec.profile import HardwareProfile

KERNEL_US = 3.0
"""Least time of a kernel on any of these devices, microseconds: a launch's own work on the device."""
MODEL_SPREAD = 0.15
"""Relative uncertainty of carrying an efficiency over to another device."""
LAUNCH_BOUND = 0.2
"""A component whose device stood idle for more than this share of its time is held up by its host."""
ROOFLINE_SHARE = (0.57, 0.70, 0.83)
"""Share of the roofline that real stacks reach, low, middle and high: arXiv 2602.18397 (VLA-Perf) found 57 to 83 %."""

STEP = "denoise_step"
ON_DEVICE = ("vision", "prefix", STEP)
ON_HOST = ("preprocess", "postprocess")
WHOLE = "e2e"


class MeasuredCall(NamedTuple):
    """One call of a component, measured on the source."""

    component: str
    demand: Demand
    elementwise_bytes: float
    """What eager execution moves beside `demand.bytes`; 0 for a compiled one."""
    wall_ms: float
    nfe: int | None = None
    """The NFE of a whole decision; None for a component, whose cost per call is the same at every NFE."""


class Cost(NamedTuple):
    """One call of a component on the target, ms."""

    component: str
    low: float
    likely: float
    high: float
    busy: float
    bound: str
    """bandwidth, compute, or host."""


@dataclass(frozen=True)
class MeasuredSource:
    """A configuration that was measured."""

    configuration: Mapping[str, Any]
    rates: Rates
    parts: tuple[MeasuredCall, ...]
    host_ms: float
    """Preprocess and postprocess."""
    scale: float
    """End to end over the sum of components: what synchronising between them hides or adds."""
    e2e: Mapping[int | None, float]
    """NFE → median, ms."""
    memory_bytes: float | None

    @property
    def name(self) -> str:
        """The configuration in words."""
        keys = ("policy_id", "dtype", "compile")
        return ", ".join(str(self.configuration[key]) for key in keys if pd.notna(self.configuration[key]))

    @property
    def unbatched(self) -> bool:
        """Whether it decided for one observation at a time, as a robot's server does."""
        size = self.configuration["batch_size"]
        return bool(pd.isna(size)) or int(size) == 1

    @property
    def formats(self) -> tuple[str, ...]:
        """Number formats of all parts."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.demand.flops_by_format))


class Prediction(NamedTuple):
    """A decision on the target."""

    target: Target
    nfe: int | None
    low: float
    """Milliseconds, as the next two."""
    likely: float
    high: float
    parts: tuple[Cost, ...]
    fits: bool | None
    memory_bytes: float | None

    @property
    def bound(self) -> str:
        """What the largest part of the time waits for."""
        return max(self.parts, key=lambda part: part.likely * self.calls(part)).bound

    def calls(self, part: Cost) -> int:
        """How often a decision calls a part."""
        return self.nfe or 1 if part.component == STEP else 1


def sources(latency: pd.DataFrame, counts: pd.DataFrame, nodes: pd.DataFrame) -> list[MeasuredSource]:
    """Configurations of a ledger that can be carried to another device: timed, counted, on a calibrated node.

    Components where they were timed; for a policy whose graph hides them, whole decisions at each NFE.
    """
    found, counted = [], counts.to_dict("records")
    for key, group in latency.groupby(CONFIGURATION, dropna=False, sort=True):
        configuration = dict(zip(CONFIGURATION, key, strict=True))
        node = node_rates(nodes, group)
        parts = tuple(_component_parts(configuration, group, counted, node)) or tuple(
            _whole_parts(configuration, group, counted, node)
        )
        e2e = group[group["component"] == WHOLE].groupby("nfe", dropna=False)["latency_ms"].median()
        if not parts or not len(e2e) or not node.rates.copy_gb_s:
            continue
        host = sum(_median(group, component) or 0.0 for component in ON_HOST)
        memory = group["memory_bytes"].max()
        medians = {_whole_number(nfe): float(value) for nfe, value in e2e.items()}
        source = MeasuredSource(
            configuration, node.rates, parts, host, 1.0, medians, None if pd.isna(memory) else float(memory)
        )
        found.append(replace(source, scale=_scale(source)))
    return found


def _component_parts(
    configuration: Mapping[str, Any], group: pd.DataFrame, counts: Sequence[Mapping[Any, Any]], node: NodeRates
) -> Iterator[MeasuredCall]:
    for component in ON_DEVICE:
        timed = group[group["component"] == component]
        # Per call the same at every NFE; the row of any of them serves.
        for nfe in timed["nfe"].drop_duplicates().tolist():
            row = find_counts(counts, {**configuration, "component": component, "nfe": nfe})
            counted = demand_of(row, node)
            if counted is not None and row is not None and _profiled(counted.demand, node):
                extra = row["elementwise_bytes"] if _is_eager(configuration) else 0.0
                wall = float(timed["latency_ms"].median())
                yield MeasuredCall(component, counted.demand, 0.0 if pd.isna(extra) else float(extra), wall)
                break


def _whole_parts(
    configuration: Mapping[str, Any], group: pd.DataFrame, counts: Sequence[Mapping[Any, Any]], node: NodeRates
) -> Iterator[MeasuredCall]:
    whole = group[group["component"] == WHOLE]
    for nfe, samples in whole.groupby("nfe", dropna=False):
        row = find_counts(counts, {**configuration, "component": WHOLE, "nfe": nfe})
        counted = demand_of(row, node)
        if counted is not None and row is not None and _profiled(counted.demand, node):
            extra = row["elementwise_bytes"] if _is_eager(configuration) else 0.0
            steps = _whole_number(nfe)
            wall = float(samples["latency_ms"].median())
            yield MeasuredCall(WHOLE, counted.demand, 0.0 if pd.isna(extra) else float(extra), wall, steps)


def _profiled(demand: Demand, node: NodeRates) -> bool:
    """Whether it is known how long a GPU was busy: without, the host's time would be taken for the device's."""
    return demand.busy_ms is not None or not node.accelerated


def _whole_number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _is_eager(configuration: Mapping[str, Any]) -> bool:
    compiled = configuration["compile"]
    return bool(pd.isna(compiled)) or str(compiled).startswith("eager")


def _median(group: pd.DataFrame, component: str) -> float | None:
    samples = group.loc[group["component"] == component, "latency_ms"]
    return float(samples.median()) if len(samples) else None


def _scale(source: MeasuredSource) -> float:
    """Median over the NFE values of end to end over the sum of components."""
    if source.parts[0].component == WHOLE:
        return 1.0
    ratios = []
    for nfe, measured in source.e2e.items():
        inside = sum(part.wall_ms * (nfe or 1 if part.component == STEP else 1) for part in source.parts)
        ratios.append(measured / (source.host_ms + inside))
    return float(pd.Series(ratios).median())


def predict(source: MeasuredSource, target: Target, nfe: int | None) -> Prediction:
    """Carry a measured configuration to another device.

    Raises:
        UsageError: The source was timed as a whole and not at this NFE, or the target lacks a rate.
    """
    parts = [part for part in source.parts if part.component != WHOLE or part.nfe == nfe]
    if not parts:
        known = ", ".join(str(value) for value in source.e2e)
        raise UsageError(
            f"{source.name} hides its components, so it can only be predicted at the NFE it was timed at: {known}."
        )
    costs = tuple(_carry(part, source.rates, target) for part in parts)
    return _add_up(costs, target, nfe, source.host_ms, source.scale, source.memory_bytes)


def _add_up(
    costs: tuple[Cost, ...], target: Target, nfe: int | None, host_ms: float, scale: float, memory: float | None
) -> Prediction:
    def total(values: Sequence[float], host: float) -> float:
        calls = [nfe or 1 if cost.component == STEP else 1 for cost in costs]
        return scale * (host_ms * host + sum(value * n for value, n in zip(values, calls, strict=True)))

    low, likely, high = (
        total([getattr(cost, name) for cost in costs], getattr(target.host, name)) for name in ("low", "likely", "high")
    )
    return Prediction(target, nfe, low, likely, high, costs, fits(memory, target), memory)


def _carry(part: MeasuredCall, rates: Rates, target: Target) -> Cost:
    ideal = ideal_ms(part.demand, part.elementwise_bytes, rates)
    expected = ideal_ms(part.demand, part.elementwise_bytes, target.rates)
    if ideal is None or expected is None:
        if target.rates.copy_gb_s is None and not target.rates.tflop_s:
            raise UsageError(
                f"Hardware profile {target.name!r} states neither bandwidth nor matmul rates: nothing can be predicted "
                "for it. Measure there (`harness probe`), or name a profile that has them: a YAML file with that "
                "machine's figures in hardware_profiles/."
            )
        raise UsageError(
            f"{target.name}: a rate for {', '.join(part.demand.flops_by_format)} or a bandwidth is missing, here or on "
            "the source; add it to the hardware profile, or calibrate the source again."
        )
    fit = _fit(part, ideal)
    there = expected / fit.efficiency + fit.kernels_ms
    bound = _bound(part.demand, target.rates)
    return _cost(part.component, there, part.wall_ms - fit.busy_ms, part.wall_ms, target, bound)


class _Fit(NamedTuple):
    """How a component ran on the source."""

    busy_ms: float
    kernels_ms: float
    """Of it the least time of its kernels."""
    efficiency: float
    """Ideal over the rest."""


def _fit(part: MeasuredCall, ideal: float) -> _Fit:
    busy = part.wall_ms if part.demand.busy_ms is None else min(part.demand.busy_ms, part.wall_ms)
    kernels_ms = min(max(0.0, busy - ideal), (part.demand.launches or 0.0) * KERNEL_US / 1e3)
    # A component may beat the copy rate where its data stay in a cache; the target is not granted that.
    return _Fit(busy, kernels_ms, min(1.0, ideal / (busy - kernels_ms)) if busy > kernels_ms else 1.0)


def _cost(component: str, busy: float, idle_ms: float, wall_ms: float, target: Target, bound: str) -> Cost:
    """One call on the target: its device work, and the host of the source around it."""
    spread = math.hypot(target.spread, MODEL_SPREAD)
    held_up = wall_ms > 0 and idle_ms / wall_ms > LAUNCH_BOUND

    def models(work: float, host: float) -> tuple[float, float]:
        queued = work + idle_ms * host
        return (max(work, wall_ms * host), queued) if held_up else (queued, queued)

    likely = sum(models(busy, target.host.likely)) / 2
    low = min(models(busy / (1 + spread), target.host.low))
    high = max(models(busy * (1 + spread), target.host.high))
    return Cost(component, low, likely, high, busy, "host" if likely > 2 * busy else bound)


def _bound(demand: Demand, rates: Rates) -> str:
    compute = compute_ms(demand.flops_by_format, rates.tflop_s) or 0.0
    return "compute" if compute > demand.bytes / (rates.copy_gb_s or math.inf) / 1e6 else "bandwidth"


def ideal_ms(demand: Demand, elementwise_bytes: float, rates: Rates) -> float | None:
    """Device time of one call at a device's rates; None where one is missing."""
    compute = compute_ms(demand.flops_by_format, rates.tflop_s)
    if compute is None or not rates.copy_gb_s:
        return None
    return max(compute, demand.bytes / rates.copy_gb_s / 1e6) + elementwise_bytes / rates.copy_gb_s / 1e6


def predict_architecture(architecture: Architecture, target: Target, nfe: int) -> Prediction:
    """Predict a policy that exists as a description only, in a stack without launch costs (one captured graph).

    The stack reaches `ROOFLINE_SHARE` of the target's printed peaks; the band is that range and the peaks' own spread.
    """
    low, likely, high = ROOFLINE_SHARE
    costs = []
    for work in architecture.work():
        demand = demand_of_work(work)
        ideal = ideal_ms(demand, 0.0, target.rates)
        if ideal is None:
            raise UsageError(f"{target.name} has no rate for {', '.join(work.flops_by_format)}; add it to its profile.")
        spread = 1 + target.spread
        bound = _bound(demand, target.rates)
        best, worst = ideal / high / spread, ideal / low * spread
        costs.append(Cost(work.component, best, ideal / likely, worst, ideal / likely, bound))
    return _add_up(tuple(costs), target, nfe, 0.0, 1.0, architecture.memory_bytes)


def predict_architecture_like(
    architecture: Architecture, source: MeasuredSource, target: Target, nfe: int
) -> Prediction | None:
    """Predict a description in the stack of a source: its efficiency and its host's cost per launch, by component.

    None where a tower does not say how many kernels it launches, or the source's components were not timed.
    """
    parts = {part.component: part for part in source.parts}
    works = architecture.work()
    if any(work.component not in parts or not work.kernels for work in works):
        return None
    costs = []
    for work in works:
        part = parts[work.component]
        share = work.kernels / (part.demand.launches or work.kernels)
        demand = demand_of_work(work)
        moved = part.elementwise_bytes / max(1.0, part.demand.bytes) * demand.bytes
        here = ideal_ms(part.demand, part.elementwise_bytes, source.rates)
        expected = ideal_ms(demand, moved, target.rates)
        if here is None or expected is None:
            return None
        fit = _fit(part, here)
        busy = expected / fit.efficiency + fit.kernels_ms * share
        idle, wall = (part.wall_ms - fit.busy_ms) * share, part.wall_ms * share
        costs.append(_cost(work.component, busy, idle, wall, target, _bound(demand, target.rates)))
    return _add_up(tuple(costs), target, nfe, source.host_ms, source.scale, architecture.memory_bytes)


def demand_of_work(work: Work) -> Demand:
    """A described component as a demand."""
    moved = work.parameter_bytes + work.kv_bytes + work.activation_bytes
    return Demand(work.flops_by_format, moved, float(work.kernels), None)


def target_for_description(profile: HardwareProfile, architecture: Architecture) -> Target:
    """The device of a profile at its printed peaks, of which `predict_architecture` takes a share."""
    return target_device(profile, architecture.formats, assumed=(1.0, 1.0))


def target_for(
    profile: HardwareProfile, source: MeasuredSource, like: HardwareProfile | None, formats: tuple[str, ...] = ()
) -> Target:
    """The device of a profile, with the reach of the source's; by default in the formats of the source's policy."""
    return target_device(profile, formats or source.formats, source.rates, like)

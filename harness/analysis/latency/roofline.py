"""Which part of a device limits a component: three floors, what each explains of the time measured, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.analysis.latency.percentiles import CONFIGURATION

MAJORITY = 0.5
"""A floor that explains at least this share of the time names the verdict."""
TOLERANCE = 0.1
"""How far calibrated rates may be off: a floor may exceed the time by this much before it is called impossible."""
BOUNDS = ("bandwidth", "compute", "launch")
COMPONENTS = ("vision", "prefix", "denoise_step", "e2e")
"""What is judged: the components that work on a device, and the whole."""

COLUMNS = [
    *CONFIGURATION,
    *("nfe", "component", "n", "wall", "calls", "flops", "bytes", "kernels", "busy"),
    *("bandwidth", "compute", "launch", "bandwidth_share", "compute_share", "launch_share", "verdict", "reason"),
]


class Rates(NamedTuple):
    """What a device reaches; None where nobody measured."""

    copy_gb_s: float | None
    """Memory bandwidth, 1e9 bytes a second."""
    tflop_s: Mapping[str, float]
    """1e12 FLOP a second by number format."""
    launch_us: float | None
    """Host time of one launch, microseconds."""


class Demand(NamedTuple):
    """What one call of a component asks of a device."""

    flops_by_format: Mapping[str, float]
    bytes: float
    """Parameters, cache and activations."""
    launches: float | None
    """Kernels on a GPU, operators on a CPU."""
    busy_ms: float | None
    """Time in which the device did anything; None where no profiler told."""

    @property
    def flops(self) -> float:
        """FLOPs in all formats."""
        return sum(self.flops_by_format.values())


class Floors(NamedTuple):
    """Least times of one call, ms; None where a rate or count is missing."""

    bandwidth: float | None
    compute: float | None
    launch: float | None


class Bottleneck(NamedTuple):
    """What limits a component."""

    name: str
    """bandwidth-bound, compute-bound, launch-bound, mixed or unknown."""
    reason: str
    """In words, with the figures."""
    shares: Floors
    """Share of the time that each floor explains."""


def floors(demand: Demand, rates: Rates, wall_ms: float | None = None) -> Floors:
    """Least times that a device's rates allow.

    Where the device's busy time is known, the rest of `wall_ms` is what the host's launches cost: the device stood
    idle and waited for them. Otherwise the launch floor is launches × the cost of one.
    """
    bandwidth = demand.bytes / rates.copy_gb_s / 1e6 if rates.copy_gb_s else None
    launch = None
    if demand.busy_ms is not None and wall_ms is not None:
        launch = max(0.0, wall_ms - demand.busy_ms)
    elif demand.launches is not None and rates.launch_us is not None:
        launch = demand.launches * rates.launch_us / 1e3
    return Floors(bandwidth, compute_ms(demand.flops_by_format, rates.tflop_s), launch)


def compute_ms(flops_by_format: Mapping[str, float], tflop_s: Mapping[str, float]) -> float | None:
    """Time of the FLOPs of every format at its rate, ms; None where a rate is missing."""
    needed = {name: flops for name, flops in flops_by_format.items() if flops > 0}
    if any(not tflop_s.get(name) for name in needed):
        return None
    return sum(flops / tflop_s[name] / 1e9 for name, flops in needed.items())


def judge(found: Floors, wall_ms: float) -> Bottleneck:
    """Say what limits a component that takes `wall_ms`."""
    shares = Floors(*(None if value is None else value / wall_ms for value in found))
    stated = {name: share for name, share in zip(BOUNDS, shares, strict=True) if share is not None}
    impossible = [name for name, share in stated.items() if share > 1 + TOLERANCE]
    if impossible:
        name = impossible[0]
        return Bottleneck(
            "unknown",
            f"the {name} floor is {stated[name]:.0%} of the time: the data lie in a cache, or the calibrated rate is "
            "not this device's",
            shares,
        )
    largest = max(stated, key=lambda name: stated[name], default=None)
    if largest is not None and stated[largest] >= MAJORITY:
        return Bottleneck(f"{largest}-bound", f"{_floor_name(largest)} {stated[largest]:.0%} of the time", shares)
    missing = [name for name in BOUNDS if name not in stated]
    if missing:
        return Bottleneck(
            "unknown", f"no {' and no '.join(missing)} floor: a count or a calibrated rate is missing", shares
        )
    told = ", ".join(f"{name} {share:.0%}" for name, share in stated.items())
    return Bottleneck("mixed", f"no floor explains half of the time ({told})", shares)


def _floor_name(bound: str) -> str:
    return "launches and the host's Python explain" if bound == "launch" else f"the {bound} floor explains"


def roofline(latency: pd.DataFrame, counts: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Judge every component of every configuration that was timed.

    Args:
        latency: `Ledger.latency`.
        counts: `Ledger.counts`.
        nodes: `Ledger.nodes`.

    Returns:
        One row per configuration, NFE and component of `COMPONENTS`, columns `COLUMNS`; times per call in ms, `wall` is
        the median. NaN or None where a figure is missing; the verdict says so then.
    """
    keys = [*CONFIGURATION, "nfe", "component"]
    timed = latency[latency["component"].isin(COMPONENTS)]
    rows, counted = [], counts.to_dict("records")
    for key, group in timed.groupby(keys, dropna=False, sort=True):
        configuration = dict(zip(keys, key, strict=True))
        rates = node_rates(nodes, group)
        wall = float(group["latency_ms"].median())
        row = configuration | {"n": len(group), "wall": wall}
        rows.append(row | _judged(demand_of(find_counts(counted, configuration), rates), rates.rates, wall))
    table = pd.DataFrame(rows, columns=COLUMNS)
    rank = table["component"].map({name: place for place, name in enumerate(COMPONENTS)})
    ordered = table.assign(_rank=rank, nfe=table["nfe"].astype("Int32")).sort_values(
        [*CONFIGURATION, "nfe", "_rank"], kind="stable", ignore_index=True
    )
    return ordered.drop(columns="_rank")


def _judged(demand: Counted | None, rates: Rates, wall: float) -> dict[str, Any]:
    if demand is None:
        return {"verdict": "unknown", "reason": "this component was not counted"}
    found = floors(demand.demand, rates, wall)
    verdict = judge(found, wall)
    return {
        "calls": demand.calls,
        "flops": demand.demand.flops,
        "bytes": demand.demand.bytes,
        "kernels": demand.demand.launches,
        "busy": demand.demand.busy_ms,
        **found._asdict(),
        **{f"{name}_share": share for name, share in verdict.shares._asdict().items()},
        "verdict": verdict.name,
        "reason": verdict.reason,
    }


ON_DEVICE = ("kernels", "busy_ms")
"""Columns of `counts` that depend on the device and the compiler, unlike the work."""
EXECUTION = ("graphs", "compile", "compile_scope", "device")
"""Options of a policy that change how it runs, not what it computes."""


def work_of(policy_id: str) -> str:
    """Name of a policy without the options that leave its work as it is: "p?seed=1&graphs=true" is "p?seed=1"."""
    path, mark, query = str(policy_id).partition("?")
    kept = [part for part in query.split("&") if part.split("=")[0] not in EXECUTION]
    return path + (mark + "&".join(kept) if kept[:1] != [""] and kept else "")


class Counted(NamedTuple):
    """A row of `counts`, as floors need it."""

    demand: Demand
    calls: int
    """Calls of it in a decision."""


class NodeRates(NamedTuple):
    """The rates of the nodes behind a group of samples."""

    rates: Rates
    accelerated: bool
    """Whether they have an accelerator: launches are kernels then, else operators."""


def find_counts(counts: Sequence[Mapping[Any, Any]], configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of `counts` for a component of a configuration: its own, else one that does the same work.

    What a component computes depends neither on the device nor on the compiler, so another row of the same policy,
    dtype and batch serves; its kernels and busy time, which do, are left out then.

    Args:
        counts: Rows of `Ledger.counts`.
        configuration: Values of `CONFIGURATION`, `nfe` and `component`.
    """
    work = work_of(configuration["policy_id"])
    alike = ["component", "dtype", "batch_size", *(["nfe"] if configuration["component"] == "e2e" else [])]
    same = [row for row in counts if _same(row, configuration, alike) and work_of(row["policy_id"]) == work]
    own = [row for row in same if _same(row, configuration, ("hardware", "policy_id", "compile", "nfe"))]
    device = {name: own[-1][name] for name in ON_DEVICE} if own else dict.fromkeys(ON_DEVICE)
    worked = [row for row in same if pd.notna(row["flops"])]
    if not worked:
        return None
    row = dict(next((row for row in reversed(own) if pd.notna(row["flops"])), worked[-1])) | device
    # A compiler fuses operators and a graph launches them at once: theirs are not the launches of another variant.
    return row if _same(row, configuration, ("policy_id", "compile")) else row | {"operators": None}


def _same(row: Mapping[Any, Any], configuration: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(_is(row[name], configuration[name]) for name in names)


def _is(one: Any, other: Any) -> bool:
    return bool(one == other) if pd.notna(one) and pd.notna(other) else bool(pd.isna(one) and pd.isna(other))


def same_as(column: pd.Series[Any], value: Any) -> pd.Series[bool]:
    """Where a column holds a value; a missing value is the same as another missing one."""
    return column.isna() if pd.isna(value) else (column == value).fillna(False).astype(bool)


def demand_of(row: Mapping[str, Any] | None, node: NodeRates) -> Counted | None:
    """Turn a row of `counts` into a demand; None without a row."""
    if row is None:
        return None
    kernels = row["kernels"]
    launches = row["operators"] if pd.isna(kernels) else kernels
    busy = row["busy_ms"]
    moved = sum(float(row[name]) for name in ("parameter_bytes", "kv_bytes", "activation_bytes") if pd.notna(row[name]))
    formats = row["flops_by_format"]
    return Counted(
        Demand(
            dict(formats) if isinstance(formats, Mapping) else {},
            moved,
            None if pd.isna(launches) else float(launches),
            None if pd.isna(busy) or not node.accelerated else float(busy),
        ),
        int(row["calls"]),
    )


def node_rates(nodes: pd.DataFrame, samples: pd.DataFrame) -> NodeRates:
    """Rates of the nodes that took some samples: for each figure the best that any of them measured."""
    pairs = set(zip(samples["run_id"], samples["node_id"], strict=True))
    found = [pair in pairs for pair in zip(nodes["run_id"], nodes["node_id"], strict=True)]
    own = nodes.loc[np.array(found, dtype=bool)]
    accelerated = bool(own["accelerator"].notna().any()) and not (samples["hardware"] == "cpu").all()
    return NodeRates(rates_of(own, accelerated), accelerated)


def rates_of(nodes: pd.DataFrame, accelerated: bool) -> Rates:
    """Rates in rows of `nodes`; ledgers from before the rates by format have one, of the usual format."""
    by_format: dict[str, float] = {}
    for found in nodes["matmul_by_format"]:
        for name, rate in (found if isinstance(found, Mapping) else {}).items():
            by_format[name] = max(rate, by_format.get(name, 0.0))
    usual = _best(nodes["matmul_tflop_s"])
    if usual is not None:
        by_format.setdefault("bf16" if accelerated else "fp32", usual)
    launches = [float(value) for value in nodes["launch_us"].dropna()]
    return Rates(_best(nodes["copy_gb_s"]), by_format, min(launches, default=None))


def _best(values: pd.Series[Any]) -> float | None:
    found = [float(value) for value in values.dropna() if math.isfinite(value)]
    return max(found, default=None)


class Claim(NamedTuple):
    """A sentence that people say about a component, and what the data say."""

    configuration: Mapping[str, Any]
    component: str
    nfe: int | None
    claim: str
    """E.g. "bandwidth-bound"."""
    answer: str
    """holds, rejected, open (a calibration's error away from half of the time) or unknown."""
    reason: str


def claims(table: pd.DataFrame, components: Sequence[str] = ("vision", "prefix", "denoise_step")) -> list[Claim]:
    """Hold "it is bandwidth-bound", "compute-bound" and "launch-bound" against a roofline.

    A claim is rejected when its floor, raised by what a calibration may be off, explains less than half of the time.

    Args:
        table: From `roofline`.
        components: Which to judge, each at the lowest NFE at which it was timed (its cost per call is the same at all).
    """
    found = []
    judged = table[table["component"].isin(list(components))].sort_values("nfe")
    first = judged.drop_duplicates([*CONFIGURATION, "component"], keep="first").sort_index()
    for _, row in first.iterrows():
        configuration = {name: row[name] for name in CONFIGURATION}
        nfe = None if pd.isna(row["nfe"]) else int(row["nfe"])
        for bound in BOUNDS:
            answer, reason = _answer(row, bound)
            found.append(Claim(configuration, row["component"], nfe, f"{bound}-bound", answer, reason))
    return found


def _answer(row: pd.Series[Any], bound: str) -> tuple[str, str]:
    share = row[f"{bound}_share"]
    if pd.isna(share):
        return "unknown", "a count or a calibrated rate is missing"
    reason = f"{_floor_name(bound)} {share:.0%} of {row['wall']:.3g} ms"
    if share > 1 + TOLERANCE:
        return "unknown", f"{reason}: the data lie in a cache, or the rate is not this device's"
    if share >= MAJORITY:
        return "holds", reason
    return ("rejected" if share * (1 + TOLERANCE) < MAJORITY else "open"), reason

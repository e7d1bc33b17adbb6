"""Typed tables for other tools: each estimate with its interval, n and design.

Which of them a report has, and beside which tables for people, says `harness.report.contents`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

import harness
from harness.analysis.latency.launches import WITHIN
from harness.analysis.summary import Summary
from harness.analysis.timing import PARTS
from harness.ledger.schema import LONG, REAL, TEXT, WHOLE, Column

VERSION = 1
"""Grows when a column changes its meaning or goes away; columns are added at the end."""


@dataclass(frozen=True)
class Aggregate:
    """A typed table: one estimate a row, with its interval, n and design."""

    columns: tuple[Column, ...]
    frame: Callable[[Summary], pd.DataFrame]
    """Makes the columns, and may make others, from what the summary holds."""


_POLICY = (
    Column("policy_id", TEXT, "Policy."),
    Column("nfe", WHOLE, "Number of function evaluations; null for a policy without a denoising loop.", "steps"),
)
_TIMING = (
    Column("clock", TEXT, "How simulated time passed while the policy decided."),
    Column("latency_source", TEXT, "Where the delays of decisions come from; null under the synchronous clock."),
)
_CONFIGURATION = (
    Column("hardware", TEXT, "Hardware profile of the machine."),
    *_POLICY,
    Column("dtype", TEXT, "Data type of the policy's parameters."),
    Column("compile", TEXT, "How the policy was compiled."),
    Column("batch_size", WHOLE, "Observations in one call of the policy.", "observations"),
)


def _estimate(what: str, unit: str, counted: str) -> tuple[Column, ...]:
    """The columns that every aggregate has."""
    return (
        Column("estimate", REAL, what, unit),
        Column("low", REAL, "Lower bound of the interval of `estimate`; null where there is none.", unit),
        Column("high", REAL, "Upper bound of the interval of `estimate`; null where there is none.", unit),
        Column("confidence", REAL, "Two-sided level of the interval; null where there is none.", "fraction"),
        Column("n", LONG, "What the estimate rests on.", counted),
        Column("design", TEXT, "How the interval was made, and what it takes as independent."),
    )


_COUNTS = (
    Column("successes", LONG, "Episodes that the policy solved.", "episodes"),
    Column("timeouts", LONG, "Episodes that ran out of steps: failures of the policy.", "episodes"),
    Column("errors", LONG, "Infrastructure errors, which count in no rate.", "episodes"),
    Column("retried", LONG, "Episodes that needed more than one attempt.", "episodes"),
    Column("steps", REAL, "Median control steps of successes.", "control steps"),
)
_SCORED = _estimate("Success rate: successes / n.", "fraction", "scored episodes (success + timeout)")
_SUITE = Column("suite", TEXT, "LIBERO suite.")
_LAUNCHES = Column("launches", LONG, "Processes measured; with one, the interval holds within it.", "launches")

RATES = "Clopper-Pearson; episodes independent, about these init states"
PAIRS = "Tango's score interval with Edwards' correction; pairs independent, about these init states"
QUANTILES = f"order statistics (binomial); samples independent, {WITHIN}"
LINE = f"bootstrap of the medians; samples independent, {WITHIN}"
LAUNCHED = "t on the log quantile of each launch; launches independent, about a launch's quantile"
LAUNCHED_LINE = "t on the line of each launch; launches independent"
NO_INTERVAL = "no interval"
LEVEL = 0.95


def arrow_table(aggregate: Aggregate, summary: Summary, name: str) -> pa.Table:
    """An aggregate as an Arrow table.

    Args:
        aggregate: Its columns, and how their rows are computed.
        summary: Of one ledger, or of several that were read as one: everything is pooled over them and their machines.
        name: What the table calls itself in its metadata.

    Returns:
        The table; each field's metadata holds `description` and `unit`, the schema's the protocols and runs behind it.
    """
    frame = aggregate.frame(summary)
    fields = [column.field for column in aggregate.columns]
    columns = [pa.Array.from_pandas(_plain(frame[field.name], field), type=field.type, safe=False) for field in fields]
    return pa.table(columns, schema=pa.schema(fields, metadata=_metadata(summary, name)))


def _plain(values: pd.Series[Any], field: pa.Field) -> pd.Series[Any]:
    """Values as Arrow takes them: what is missing is None, numbers are plain."""
    if pa.types.is_string(field.type):
        return values.astype(object).where(values.notna(), None)
    return pd.to_numeric(values).astype("Float64" if pa.types.is_floating(field.type) else "Int64")


def _metadata(summary: Summary, name: str) -> dict[str, str]:
    runs, ledger = summary.ledger.runs, summary.ledger
    told = {
        "aggregate": name,
        "version": VERSION,
        "harness": harness.__version__,
        "protocol_sha256": sorted(runs["protocol_sha256"].dropna().unique()),
        "run_ids": list(runs["run_id"].dropna().unique()),
        "ledgers": list(ledger.paths),
        "nodes": sorted(ledger.nodes["node_id"].dropna().unique()),
    }
    return {f"vla_harness.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}


def _bounded(frame: pd.DataFrame, design: str) -> pd.DataFrame:
    """Add level and design; a level only where there is an interval."""
    known = frame["low"].notna()
    return frame.assign(
        confidence=known.map({True: LEVEL, False: None}).astype("Float64"),
        design=known.map({True: design, False: NO_INTERVAL}),
    )


def _by_launches(frame: pd.DataFrame, several: str, one: str) -> pd.DataFrame:
    """Add level and design, which differ with the number of launches."""
    bounded = _bounded(frame, several)
    alone = (frame["launches"] == 1) & frame["low"].notna()
    return bounded.assign(design=bounded["design"].mask(alone, one))


def _rates(frame: pd.DataFrame) -> pd.DataFrame:
    return _bounded(frame.assign(estimate=frame["rate"]), RATES)


def _success(summary: Summary) -> pd.DataFrame:
    return _rates(summary.success).assign(role=summary.success["policy_id"].map(summary.roles))


def _tasks(summary: Summary) -> pd.DataFrame:
    return _rates(summary.tasks)


def _latency(summary: Summary) -> pd.DataFrame:
    frame = summary.latency
    parts = [
        frame.assign(statistic=name, estimate=frame[name], low=frame[f"{name}_low"], high=frame[f"{name}_high"])
        for name in ("median", "p99")
    ]
    return _by_launches(pd.concat(parts, ignore_index=True), LAUNCHED, QUANTILES)


def _prefix(summary: Summary) -> pd.DataFrame:
    frame = summary.prefix
    parts = [
        frame.assign(
            quantity=quantity,
            estimate=frame[name],
            low=frame[f"{name}_low"],
            high=frame[f"{name}_high"],
            measured=frame[measured],
        )
        for quantity, name, measured in (
            ("step", "step", "measured_step"),
            ("outside_loop", "prefix", "measured_outside"),
        )
    ]
    return _by_launches(pd.concat(parts, ignore_index=True), LAUNCHED_LINE, LINE)


def _roofline(summary: Summary) -> pd.DataFrame:
    return _bounded(summary.roofline.assign(estimate=summary.roofline["wall"], low=None, high=None), NO_INTERVAL)


def _paired(summary: Summary) -> pd.DataFrame:
    return _bounded(summary.paired.assign(estimate=summary.paired["difference"]), PAIRS)


def _robustness(summary: Summary) -> pd.DataFrame:
    return _bounded(summary.robustness.assign(estimate=summary.robustness["difference"]), PAIRS)


def _devices(summary: Summary) -> pd.DataFrame:
    return _rates(summary.devices)


def _wall(summary: Summary) -> pd.DataFrame:
    frame = summary.wall
    bounds = {"estimate": frame["agreement"], "low": frame["agreement_low"], "high": frame["agreement_high"]}
    return _bounded(frame.assign(**bounds, n=frame["pairs"], episodes=frame["n"]), RATES)


def _time(summary: Summary) -> pd.DataFrame:
    frame = summary.time
    parts = [
        frame.assign(part=part, estimate=frame[f"{part}_share"], seconds=frame[f"{part}_s"], low=None, high=None)
        for part in PARTS
    ]
    long = pd.concat(parts, ignore_index=True)
    return _bounded(long.assign(n=long["episodes"], episodes_per_worker_hour=long["per_worker_hour"]), NO_INTERVAL)


SUCCESS = Aggregate(
    (*_POLICY, _SUITE, *_SCORED, *_COUNTS, Column("role", TEXT, "positive or negative control, or null."), *_TIMING),
    _success,
)
TASKS = Aggregate(
    (
        *(*_POLICY, _SUITE),
        Column("task_id", WHOLE, "Number of the task in its suite, from 0."),
        Column("task", TEXT, "Name of the task."),
        *(*_SCORED, *_COUNTS, *_TIMING),
    ),
    _tasks,
)
LATENCY = Aggregate(
    (
        *_CONFIGURATION,
        Column("component", TEXT, "Part of a decision; e2e is the whole; denoise and outside_loop are sums of parts."),
        Column("statistic", TEXT, "What `estimate` is.", None, ("median", "p99")),
        *_estimate("The quantile of the latency that `statistic` names, over all raw samples.", "ms", "samples"),
        Column("min", REAL, "Least latency.", "ms"),
        Column("p90", REAL, "90th percentile of the latency.", "ms"),
        Column("throttled", LONG, "Samples taken while the device throttled; null when nobody looked.", "samples"),
        Column("memory_bytes", LONG, "Peak memory of the policy.", "bytes"),
        Column("power_w", REAL, "Median power.", "W"),
        _LAUNCHES,
    ),
    _latency,
)
PREFIX = Aggregate(
    (
        *(column for column in _CONFIGURATION if column.name != "nfe"),
        Column("quantity", TEXT, "Part of the line over NFE.", None, ("step", "outside_loop")),
        *_estimate("Slope (a denoise step) or intercept (what does not depend on the NFE).", "ms", "decisions"),
        Column("measured", REAL, "The same as the probe timed it inside; null where it did not.", "ms"),
        Column("residual", REAL, "Largest distance of a median from the line.", "ms"),
        _LAUNCHES,
    ),
    _prefix,
)
ROOFLINE = Aggregate(
    (
        *_CONFIGURATION,
        Column("component", TEXT, "Part of a decision; e2e is the whole."),
        *_estimate("Median latency of one call.", "ms", "samples"),
        Column("flops", REAL, "Work of one call.", "FLOP"),
        Column("bytes", REAL, "Parameters, cache and activations that one call moves.", "bytes"),
        Column("kernels", REAL, "Launches of one call: kernels on a GPU, operators on a CPU.", "launches"),
        Column("busy", REAL, "Time in which the device did anything.", "ms"),
        *(
            column
            for bound in ("bandwidth", "compute", "launch")
            for column in (
                Column(bound, REAL, f"Least time that the {bound} of the node allows.", "ms"),
                Column(f"{bound}_share", REAL, f"Share of the time that the {bound} floor explains.", "fraction"),
            )
        ),
        Column("verdict", TEXT, "What limits the component."),
        Column("reason", TEXT, "Why, with figures."),
    ),
    _roofline,
)
PAIRED = Aggregate(
    (
        Column("base_policy_id", TEXT, "Policy that the other is compared with."),
        Column("base_nfe", WHOLE, "Its number of function evaluations.", "steps"),
        *_POLICY,
        Column("suite", TEXT, "LIBERO suite; null for all that the two share."),
        *_estimate("Success rate of `policy_id` minus that of `base_policy_id`, same episodes.", "fraction", "pairs"),
        Column("both", LONG, "Pairs that both solved.", "pairs"),
        Column("lost", LONG, "Pairs that only the base solved.", "pairs"),
        Column("gained", LONG, "Pairs that only the other solved.", "pairs"),
        Column("neither", LONG, "Pairs that neither solved.", "pairs"),
        Column("p", REAL, "Exact McNemar test, two-sided.", "probability"),
        Column("p_holm", REAL, "`p` after Holm's correction over the pairs (or suites) of this table.", "probability"),
        *_TIMING,
    ),
    _paired,
)
ROBUSTNESS = Aggregate(
    (
        *_POLICY,
        Column("base_suite", TEXT, "Suite that is perturbed."),
        Column("perturbation", TEXT, "What was changed: LIBERO-PRO's ending of a suite, or LIBERO-Plus's category."),
        Column("task", TEXT, "Name of the base task; null for all of the suite."),
        *_estimate("Success perturbed minus success of the base, same episodes where they pair.", "fraction", "pairs"),
        Column("base_rate", REAL, "Success rate of the base; null where the ledger has none.", "fraction"),
        Column("rate", REAL, "Success rate under the perturbation.", "fraction"),
        Column("rate_low", REAL, "Lower 95 % bound of `rate` (Clopper-Pearson).", "fraction"),
        Column("rate_high", REAL, "Upper 95 % bound of `rate`.", "fraction"),
        Column("lost", LONG, "Pairs that only the base solved; null where episodes do not pair.", "pairs"),
        Column("gained", LONG, "Pairs that only the perturbed episode solved.", "pairs"),
        Column("p", REAL, "Exact McNemar test, two-sided.", "probability"),
        Column("p_holm", REAL, "`p` after Holm's correction over the rows of suites, or of tasks.", "probability"),
        *_TIMING,
    ),
    _robustness,
)
DEVICES = Aggregate(
    (
        *_POLICY,
        *_TIMING,
        Column("device", TEXT, "Device that the source of delays stands for; null under the synchronous clock."),
        Column("band", TEXT, "Part of a prediction's band: low, mid or high."),
        Column("timing_of", TEXT, "Policy that was timed; another than `policy_id` where its timing is borrowed."),
        _SUITE,
        *_SCORED,
        Column("reason", TEXT, "Why the cell was not run."),
        Column("successes", REAL, "Episodes that the policy solved.", "episodes"),
        Column("errors", REAL, "Infrastructure errors, which count in no rate.", "episodes"),
        Column("pairs", REAL, "Episodes that the synchronous run has too.", "pairs"),
        Column("difference", REAL, "Success less that of the synchronous run, same episodes.", "fraction"),
        Column("difference_low", REAL, "Lower 95 % bound of `difference` (Tango, corrected).", "fraction"),
        Column("difference_high", REAL, "Upper 95 % bound of `difference`.", "fraction"),
        Column("lost", REAL, "Pairs that only the synchronous run solved.", "pairs"),
        Column("gained", REAL, "Pairs that only this cell solved.", "pairs"),
        Column("p", REAL, "Exact McNemar test, two-sided.", "probability"),
        Column("p_holm", REAL, "`p` after Holm's correction over this table.", "probability"),
        Column("delay_steps", REAL, "Median delay of a decision; where nothing was run the least.", "control steps"),
        Column("delay_steps_max", REAL, "Longest delay of a decision.", "control steps"),
        Column("delay_ms", REAL, "Median delay of a decision.", "ms"),
        Column("completion_s", REAL, "Median simulated time of successes.", "s"),
        Column("stale_share", REAL, "Share of steps that executed an old chunk during a decision.", "fraction"),
        Column("control_hz", REAL, "Actions of the policy executed a second of simulated time.", "Hz"),
        Column("hold_s", REAL, "Mean time that the robot held in an episode.", "s"),
        Column("jerk_m_s3", REAL, "Median over episodes of the end effector's RMS jerk.", "m/s³"),
        Column("joules_per_success", REAL, "Energy of all decisions over the number of successes.", "J"),
        Column("joules_low", REAL, "95 % bound of `joules_per_success`, over episodes.", "J"),
        Column("joules_high", REAL, "95 % bound of `joules_per_success`, over episodes.", "J"),
    ),
    _devices,
)
WALL = Aggregate(
    (
        *_POLICY,
        Column("latency_source", TEXT, "What predicted the delays of decisions."),
        *_estimate("Share of episodes that ended as predicted in virtual time.", "fraction", "pairs"),
        Column("episodes", REAL, "Scored episodes on the wall clock.", "episodes"),
        Column("agree", REAL, "Pairs that ended alike.", "pairs"),
        Column("lost", REAL, "Pairs that only virtual time solved.", "pairs"),
        Column("gained", REAL, "Pairs that only the wall clock solved.", "pairs"),
        Column("difference", REAL, "Success on the wall clock less that in virtual time.", "fraction"),
        Column("difference_low", REAL, "Lower 95 % bound of `difference` (Tango, corrected).", "fraction"),
        Column("difference_high", REAL, "Upper 95 % bound of `difference`.", "fraction"),
        Column("same_trajectory", REAL, "Share of pairs with the same joint positions at every step.", "fraction"),
        Column("decisions", REAL, "Decisions of the pairs that both clocks had.", "decisions"),
        Column("same_delay", REAL, "Share of them that took as many control steps as predicted.", "fraction"),
        Column("shorter", REAL, "Share of them that took fewer.", "fraction"),
        Column("longer", REAL, "Share of them that took more.", "fraction"),
        Column("predicted_ms", REAL, "Median delay that was predicted.", "ms"),
        Column("delay_ms", REAL, "Median delay that was measured, over all decisions.", "ms"),
        Column("delay_ms_p99", REAL, "99th percentile of the measured delay.", "ms"),
        Column("delay_ms_max", REAL, "Longest measured delay.", "ms"),
        Column("steps", REAL, "Control steps.", "control steps"),
        Column("overruns", REAL, "Control steps that took longer than their period.", "control steps"),
        Column("overrun_share", REAL, "`overruns` / `steps`.", "fraction"),
    ),
    _wall,
)
TIME = Aggregate(
    (
        *_POLICY,
        Column("part", TEXT, "Where the time of an episode went.", None, PARTS),
        *_estimate("Share of the wall time.", "fraction", "episodes"),
        Column("seconds", REAL, "The time, summed over workers.", "s"),
        Column("episodes_per_worker_hour", REAL, "Episodes that one worker does in an hour.", "episodes / h"),
        *_TIMING,
    ),
    _time,
)

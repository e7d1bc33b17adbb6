"""A device's own samples, from the ledger of a probe: replayed launch by launch, in the order of measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.clocks import DelaySamples, DelaySource
from harness.delays.naming import digest, on_anothers_actions
from harness.errors import UsageError
from harness.ledger import read
from harness.ledger.identities import read_policy_records
from harness.spec.policy import PolicyAtNfe


def measured_sources(
    path: str, timing_of: str | None, policies: Sequence[str], nfe: Sequence[int]
) -> list[DelaySource]:
    """Read the samples of a probe.

    Args:
        path: The ledger.
        timing_of: Policy of the ledger whose timing is used for all; None: each policy's own.
        policies: Labels of the policies that are run.
        nfe: NFE values asked for; empty: whatever the policies' defaults are.

    Raises:
        UsageError: The ledger has no decisions of the policy, or not at this NFE or batch size, or of several devices.
    """
    ledger = read(path)
    whole = ledger.latency[ledger.latency["component"] == "e2e"]
    if whole.empty:
        raise UsageError(f"{path!r} holds no latency samples; it is no ledger of a probe. `harness probe` makes one.")
    found = []
    for policy in policies:
        timed = timing_of or policy
        rows = _configuration(path, whole, policy, timed)
        hardware = str(rows["hardware"].iloc[0]) if pd.notna(rows["hardware"].iloc[0]) else "unknown hardware"
        own = {value: _samples(path, group) for value, group in rows.groupby("nfe", dropna=False)}
        by_nfe = {None if pd.isna(value) else int(str(value)): samples for value, samples in own.items()}
        lacking = [value for value in nfe if value not in by_nfe and None not in by_nfe]
        if lacking:
            known = ", ".join(str(value) for value in by_nfe)
            raise UsageError(f"{path!r} has no samples of {timed} at NFE {lacking[0]}; it has NFE {known}.")
        name = f"measured:{hardware}#{digest(samples.sha256 for samples in by_nfe.values())}"
        facts = {"kind": "measured", "device": hardware, "ledger": path, "timing_of": timed}
        records = [read_policy_records(text) for text in ledger.runs["policies"].tolist() if isinstance(text, str)]
        lengths = {str(length) for each in records if (length := each.get(timed, {}).get("chunk_length")) is not None}
        if len(lengths) == 1 and timing_of is None:
            facts["chunk_length"] = lengths.pop()
        by_variant = {PolicyAtNfe(policy, value): samples for value, samples in by_nfe.items()}
        if timing_of is not None and len(by_nfe) == 1:
            # One NFE was timed, and a policy without a denoising loop borrows it.
            by_variant[PolicyAtNfe(policy, None)] = next(iter(by_nfe.values()))
        found.append(DelaySource(name + on_anothers_actions(timed, policy), by_variant, facts=facts))
    return _joined(found)


def _configuration(path: str, whole: pd.DataFrame, policy: str, timed: str) -> pd.DataFrame:
    """Rows of one policy at batch 1 on one device."""
    rows = whole[whole["policy_id"] == timed]
    if rows.empty:
        held = ", ".join(sorted(whole["policy_id"].dropna().unique()))
        raise UsageError(
            f"{path!r} has no samples of policy {timed!r}. It has: {held}. Say whose timing to use with --latency-as."
        )
    alone = rows[rows["batch_size"].fillna(1) == 1]
    if alone.empty:
        sizes = ", ".join(str(size) for size in sorted(rows["batch_size"].unique()))
        raise UsageError(
            f"{path!r} timed {timed} in batches of {sizes} only; a robot decides alone. Probe it at batch size 1."
        )
    for column, what in (("hardware", "devices"), ("dtype", "dtypes"), ("compile", "ways of compiling")):
        values = sorted(str(value) for value in alone[column].drop_duplicates())
        if len(values) > 1:
            raise UsageError(
                f"{path!r} timed {timed} on or with several {what} ({', '.join(values)}); name a ledger of one."
            )
    return alone


def _samples(path: str, rows: pd.DataFrame) -> DelaySamples:
    """Samples by launch, each in the order of measurement; rows that state no launch are one a run."""
    launches, joules = [], []
    for _, launch in rows.groupby(["run_id", rows["launch"].fillna(-1)], sort=True):
        ordered = launch.sort_values("sample", kind="stable")
        launches.append(ordered["latency_ms"].to_numpy(dtype=np.float64))
        joules.append(ordered["energy_j"].to_numpy(dtype=np.float64, na_value=np.nan))
    try:
        return DelaySamples(tuple(launches), tuple(joules))
    except UsageError as error:
        raise UsageError(f"{path!r}: {error}") from error


def _joined(sources: Sequence[DelaySource]) -> list[DelaySource]:
    """One source where several policies were timed on one device and nothing is borrowed."""
    names = {source.name for source in sources}
    if len(sources) < 2 or len(names) == len(sources):
        return list(sources)
    merged = []
    for name in dict.fromkeys(source.name for source in sources):
        same = [source for source in sources if source.name == name]
        by_variant = {key: value for source in same for key, value in source.by_variant.items()}
        merged.append(DelaySource(name, by_variant, facts=same[0].facts))
    return merged

"""Published latencies of a device: single figures, so that every decision takes the same."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.analysis.predict.published import STACK, load_published, model_of
from harness.clocks import DelaySamples, DelaySource
from harness.delays.naming import digest, on_anothers_actions
from harness.errors import UsageError, unknown_name
from harness.spec.policy import PolicyAtNfe


def published_sources(
    value: str, timing_of: str | None, policies: Sequence[str], nfe: Sequence[int]
) -> list[DelaySource]:
    """Look up published decisions at batch 1.

    Args:
        value: "PROFILE" (LeRobot's stack) or "PROFILE:STACK".
        timing_of: Model; None: the one that each policy's name speaks of.
        policies: Labels of the policies that are run.
        nfe: NFE values asked for; empty: those that were published.

    Raises:
        UsageError: Nothing is published of the device, model or NFE, or of several stacks and none is named.
    """
    profile, _, stack = value.partition(":")
    table = load_published()
    table = table[(table["component"] == "e2e") & (table["batch"].fillna(1) == 1) & (table["kind"] == "measured")]
    known = sorted(table["profile"].dropna().unique())
    if profile not in known:
        raise unknown_name("device with published latencies", profile, known)
    found = []
    for policy in policies:
        model = timing_of or model_of(policy)
        if model is None:
            raise UsageError(
                f"Nothing is published of {policy!r}; say whose timing to use with --latency-as, e.g. --latency-as "
                "pi05."
            )
        rows = table[(table["profile"] == profile) & (table["model"] == model)]
        chosen = rows[rows["stack"] == (stack or STACK)]
        if chosen.empty:
            here = table[table["profile"] == profile]
            held = ", ".join(sorted(set(here["model"] + " with " + here["stack"])))
            raise UsageError(
                f"Nothing is published of {model} with {stack or STACK} on {profile}. There is: {held}. Name a stack "
                f"as published:{profile}:STACK."
            )
        by_nfe = {int(str(key)): _median(group) for key, group in chosen.dropna(subset=["nfe"]).groupby("nfe")}
        lacking = [each for each in nfe if each not in by_nfe]
        if lacking:
            raise UsageError(
                f"Nothing is published of {model} with {stack or STACK} on {profile} at NFE {lacking[0]}; there is NFE "
                f"{', '.join(map(str, by_nfe))}."
            )
        stamp = digest(f"{key} {ms}" for key, ms in by_nfe.items())
        facts = {
            "kind": "published",
            "device": profile,
            "timing_of": model,
            "stack": stack or STACK,
            "source": "; ".join(sorted(chosen["source"].unique())),
        }
        same = model_of(policy) == model
        name = f"published:{value}#{stamp}" + ("" if same else on_anothers_actions(model, policy))
        by_variant = {PolicyAtNfe(policy, key): DelaySamples.constant(ms) for key, ms in by_nfe.items()}
        found.append(DelaySource(name, by_variant, facts=facts))
    return found


def _median(rows: pd.DataFrame) -> float:
    return float(rows["latency_ms"].median())

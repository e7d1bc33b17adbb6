"""From a suite's `latency` to sources of delays as data; everything that can be wrong with one is said here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.clocks import DelaySamples, DelaySource
from harness.delays.measured import measured_sources
from harness.delays.predicted import predicted_sources
from harness.delays.published import published_sources
from harness.errors import UsageError
from harness.spec import Suite
from harness.spec.timing import Latency, check_term, milliseconds


def sources_of_suite(suite: Suite, policies: Sequence[str] = (), nfe: Sequence[int] = ()) -> tuple[DelaySource, ...]:
    """Look up what a suite names.

    Args:
        suite: The suite.
        policies: Labels of the policies that are run, in place of the suite's.
        nfe: NFE values, in place of the suite's.

    Raises:
        UsageError: See `resolve_sources`.
    """
    labels = tuple(policies) or tuple(spec.label for spec in suite.policies)
    return resolve_sources(suite.latency, labels, tuple(nfe) or suite.nfe)


def resolve_sources(
    latencies: Sequence[Latency], policies: Sequence[str], nfe: Sequence[int] = ()
) -> tuple[DelaySource, ...]:
    """Look up sources of delays for policies.

    Args:
        latencies: What to look up.
        policies: Labels of the policies that are run.
        nfe: NFE values that they are run at; empty: their defaults.

    Returns:
        The sources, each under a name of its own: a device's band is three.

    Raises:
        UsageError: A source that is empty, foreign to a policy, NFE or batch size, or holds no durations; two that are
            one.
        LedgerError: A ledger that cannot be read.
    """
    found = [source for latency in latencies for source in _resolve(latency, policies, nfe)]
    names = [source.name for source in found]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(f"The source of latency {repeated!r} is given twice.")
    return tuple(found)


def _resolve(latency: Latency, policies: Sequence[str], nfe: Sequence[int]) -> list[DelaySource]:
    kind, value = latency.parts
    if kind == "constant":
        ms = milliseconds(value)
        label = f"constant:{ms:g}ms"
        found = [DelaySource(label, any_variant=DelaySamples.constant(ms), facts={"kind": kind, "device": label})]
    elif kind == "ledger":
        found = measured_sources(value, latency.timing_of, policies, nfe)
    elif kind == "device":
        found = predicted_sources(value, latency.predict_from, latency.timing_of, policies, nfe)
    else:
        found = published_sources(value, latency.timing_of, policies, nfe)
    return [_with_terms(source, latency) for source in found]


def _with_terms(source: DelaySource, latency: Latency) -> DelaySource:
    for name, text in (("network", latency.network), ("sensor", latency.sensor)):
        if text is None:
            continue
        samples, told = read_term(name, text)
        facts = {**source.facts, name: told, "device": f"{source.facts.get('device', '')} + {name} {told}"}
        known = f"{source.name}+{name}:{told}"
        network, sensor = (samples, source.sensor) if name == "network" else (source.network, samples)
        source = replace(source, name=known, network=network, sensor=sensor, facts=facts)
    return source


def read_term(name: str, text: str) -> tuple[DelaySamples, str]:
    """Read a term that is added to each delay.

    Args:
        name: network or sensor.
        text: "constant:20ms" or "samples:FILE", one number of milliseconds a line.

    Returns:
        (samples, what names them: files by their digest).

    Raises:
        UsageError: The file is missing, empty, or holds what is no duration (names file and line).
    """
    kind, value = check_term(name, text)
    if kind == "constant":
        ms = milliseconds(value)
        return DelaySamples.constant(ms), f"{ms:g}ms"
    path = Path(value).expanduser()
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The {name} samples {value!r} cannot be read: {error}.") from error
    numbers = []
    for place, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            numbers.append(float(line))
        except ValueError:
            numbers.append(math.nan)
        if not 0 <= numbers[-1] < math.inf:
            raise UsageError(
                f"{value}, line {place}: {line.strip()!r} is no number of milliseconds from 0 up. Leave out what was "
                "not measured."
            )
    try:
        samples = DelaySamples((np.array(numbers, dtype=np.float64),))
    except UsageError as error:
        raise UsageError(f"{value}: {error}") from error
    return samples, f"{path.name}#{hashlib.sha256(content.encode()).hexdigest()[:8]}"

"""The largest delay that a policy stands, in words and as a table."""

from __future__ import annotations

from harness.analysis.delay_limit import DelayLimit
from harness.report.format import percent, points
from harness.report.tables.table import Table


def delay_sentence(limit: DelayLimit, policy: str, suite: str, clock: str, margin: float, control_hz: int) -> str:
    """The answer: "flow on libero_spatial, asynchronous: ≤ 3 steps = 150 ms [2–4]"."""
    ms = limit.steps * 1000 / control_hz
    high = str(limit.high) if limit.high is not None else "…"
    stands = f"stands delays of ≤ {limit.steps} step{'s' * (limit.steps != 1)} = {ms:g} ms [{limit.low}–{high}]"
    if limit.steps == 0:
        stands = f"stands no delay of a step [0–{high}]"
    return (
        f"{policy} on {suite}, {clock}: {stands} within {100 * margin:g} points of its synchronous success; "
        f"{limit.episodes} episodes."
    )


def delay_table(limit: DelayLimit, margin: float, control_hz: int) -> Table:
    """Every delay that was probed."""
    rows = tuple(
        (
            str(probe.steps),
            f"{probe.steps * 1000 / control_hz:g} ms",
            str(probe.counts.n),
            percent((probe.counts.both + probe.counts.gained) / probe.counts.n) if probe.counts.n else "–",
            points(probe.counts.difference),
            f"{points(probe.low)} … {points(probe.high)}",
            "yes" if probe.stands(margin) else "no",
        )
        for probe in limit.probes
    )
    columns = ("steps", "delay", "pairs", "success", "to synchronous", "95 % interval", "stands")
    return Table("Delays that were probed", columns, rows, 0, NOTE)


NOTE = (
    "to synchronous: points of success more than in the synchronous run, same episodes, with Tango's score interval. "
    "A delay gets no more episodes once its interval lies on one side of the margin. [low–high]: the largest probed "
    "delay of which a drop beyond the margin is excluded, and the last before the shortest of which it is sure."
)

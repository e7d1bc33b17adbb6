"""Claims across devices, and hardware profiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.latency.launches import WITHIN
from harness.analysis.latency.scaling import PUBLISHED_SPREAD, DevicePoint, Measure, ScalingClaim, printed_figures
from harness.report.format import NONE, number, number_interval
from harness.report.tables.table import Table
from harness.spec.profile import HardwareProfile


def points_table(points: Sequence[DevicePoint]) -> Table:
    """Line of every point."""
    rows = tuple((point.name, point.device, *_cells(point.step), *_cells(point.once)) for point in points)
    return Table(
        "A step and what runs once, ms",
        ("configuration", "device", "a step", "95 %", "once", "95 %"),
        rows,
        2,
        f"Measured: the line over NFE; its interval is over launches, or {WITHIN} with one. Published: from two NFE "
        f"values of one source, each taken as known to {PUBLISHED_SPREAD:.0%}.",
    )


def scaling_table(claims: Sequence[ScalingClaim]) -> Table:
    """Time ratios beside the ratios of what devices can do."""
    rows = tuple(
        (
            claim.slow.name.rpartition(" on ")[0] if claim.slow.configuration else str(claim.slow.model),
            f"{claim.slow.device} / {claim.fast.device}",
            f"{claim.part} scales with {claim.resource}",
            claim.answer.upper() if claim.answer == "rejected" else claim.answer,
            claim.kind,
            *_cells(claim.time_ratio),
            *_cells(claim.resource_ratio),
            *_cells(claim.gap),
        )
        for claim in claims
    )
    columns = (
        "configuration",
        "devices",
        "claim",
        "the data say",
        "rates",
        "times as long",
        "95 %",
        "times less",
        "95 %",
    )
    return Table("Claims across devices", (*columns, "quotient", "95 %"), rows, 5, SCALING_NOTE)


SCALING_NOTE = (
    "times as long: time on the slower device over that on the faster. times less: what the faster can do over what "
    "the slower can, measured on both nodes or else printed, each figure as uncertain as its profile's source. A claim "
    "is rejected where the 95 % interval of the quotient leaves out 1. Consistent is no proof: stack, dtype, cameras "
    "and host may differ too, which published points mostly do not state; several claims may be consistent at once."
)


def profiles_table(profiles: Sequence[HardwareProfile]) -> Table:
    """Datasheet figures side by side, and the ratio of the first two."""
    figures = [printed_figures(profile) for profile in profiles]
    names = list(dict.fromkeys(name for found in figures for name in found))
    rows = []
    for name in names:
        held = [found.get(name) for found in figures]
        ratios = [held[0].over(other) if held[0] and other else None for other in held[1:]]
        cells = [number(value.value) if value else NONE for value in held]
        bounds = [cell for ratio in ratios for cell in (_cells(ratio) if ratio else (NONE, NONE))]
        rows.append((f"{name}, {'GB/s' if name == 'bandwidth' else 'TFLOP/s'}", *cells, *bounds))
    over = [cell for profile in profiles[1:] for cell in (f"{profiles[0].name} / {profile.name}", "range")]
    columns = ("printed", *(profile.name for profile in profiles), *over)
    note = "Dense peaks of the profiles; range: as far as the sources of both figures can be trusted."
    return Table("Hardware profiles", columns, tuple(rows), 1, note)


def profiles_json(profiles: Sequence[HardwareProfile]) -> list[dict[str, Any]]:
    """The same as flat objects: one a figure, with the ratio of the first profile to each other."""
    figures = [printed_figures(profile) for profile in profiles]
    found = []
    for name in dict.fromkeys(name for printed in figures for name in printed):
        row: dict[str, Any] = {"figure": name}
        first = figures[0].get(name)
        for profile, printed in zip(profiles, figures, strict=True):
            held = printed.get(name)
            row[profile.name] = held.value if held else None
            if held and first and profile is not profiles[0]:
                ratio = first.over(held)
                row |= {f"over {profile.name}": ratio.value, f"over {profile.name}, range": list(ratio.interval)}
        found.append(row)
    return found


def _cells(measure: Measure) -> tuple[str, str]:
    return number(measure.value), number_interval(*measure.interval)

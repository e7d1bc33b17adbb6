"""The table of success by device: names that tell sources apart, cells in the order of their delays."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

from harness.analysis.devices import COLUMNS
from harness.report.tables.devices import device_tables


def cell(source: str | None, steps: float, **more: object) -> dict[str, object]:
    return {
        "policy_id": "flow",
        "nfe": 1,
        "clock": "asynchronous" if source else "synchronous",
        "latency_source": source,
        "suite": "libero_spatial",
        "n": 2.0,
        "successes": 1.0,
        "delay_steps": steps,
        **more,
    }


def test_two_timings_of_one_device_are_told_apart_and_cells_stand_by_delay() -> None:
    pi05 = "lerobot:pi05?weights=random"
    rows = [
        cell("measured:h100#1", 2.0, device="h100", timing_of=pi05),
        cell("measured:h100#2", 1.0, device="h100", timing_of=f"{pi05}&graphs=true"),
        cell("published:a100#3", 3.0, device="a100"),
        cell(None, 0.0),
    ]
    table = device_tables(SimpleNamespace(devices=pd.DataFrame(rows, columns=COLUMNS)))[0]
    found = [(row[2], row[3]) for row in table.rows[:3]]
    assert found == [("h100, graphs=true", "1.00"), ("h100", "2.00"), ("a100", "3.00")]
    assert [line.split(": ")[0] for line in table.key] == ["h100, graphs=true", "h100", "a100"]

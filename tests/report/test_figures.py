"""Figures for papers: drawn, the same every time, with the numbers of the analysis beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.summary import Summary
from harness.errors import UsageError
from harness.ledger import read
from harness.report.figures import write_figures

BuildLedger = Callable[..., Path]


def test_each_figure_has_its_svg_png_and_csv(build_ledger: BuildLedger, tmp_path: Path) -> None:
    summary = Summary(read(build_ledger()))
    files = write_figures(summary, tmp_path / "a")
    assert {file.name for file in files} == {
        f"{name}.{ending}" for name in ("success", "latency-ecdf") for ending in ("svg", "png", "csv")
    }
    told = pd.read_csv(tmp_path / "a" / "success.csv")
    assert told["rate"].tolist() == pytest.approx(summary.success["rate"].astype(float).tolist())
    again = write_figures(summary, tmp_path / "b")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_a_ledger_without_anything_to_draw_is_named(build_ledger: BuildLedger, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ledger"):
        write_figures(Summary(read(build_ledger(tables=("runs",)))), tmp_path)

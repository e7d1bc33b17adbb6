"""The example notebooks run on the shipped ledgers, and say what they are there to say."""

from __future__ import annotations

from pathlib import Path

import notebooks
import pytest
from pages import ROOT

SAYS = {
    "compare_checkpoints": ("pairs:", "95 % interval", "H200"),
    "nightly_gate": ("success:", "INCONCLUSIVE exit code 2", "2000 pairs"),
    "capacity_planning": ("10 Hz", "jetson-agx-orin-64gb", "robots"),
}


def test_there_is_one_notebook_a_use_and_a_page_for_each() -> None:
    assert {path.stem for path in notebooks.FOLDER.glob("*.py")} == set(SAYS)
    assert {path.stem for path in (ROOT / "docs" / "notebooks").glob("*.md")} == set(SAYS)


@pytest.mark.parametrize("path", sorted(notebooks.FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    cells = notebooks.run_notebook(path)
    printed = "\n".join(cell.printed for cell in cells)
    for words in SAYS[path.stem]:
        assert words in printed
    assert all(figure.startswith("<svg") for cell in cells for figure in cell.figures)

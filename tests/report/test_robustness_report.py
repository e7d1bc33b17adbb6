"""The robustness table and its figure, from real ledgers of a suite and its perturbation."""

from __future__ import annotations

import pytest

from harness.analysis.summary import Summary
from harness.ledger import read
from harness.report import write_html
from harness.report.contents import contents

MANIFEST = {"max_steps": 300, "control_hz": 20}


@pytest.fixture
def summary(make_ledger) -> Summary:
    """libero_goal, 8 of 10 solved, and its swap, 3 of 10."""
    base = make_ledger("base", ["+++++", "+++--"], manifest={"suite": "libero_goal", **MANIFEST}, checkpoint_sha256="x")
    swap = make_ledger(
        "swap", ["+++--", "-----"], manifest={"suite": "libero_goal_swap", **MANIFEST}, checkpoint_sha256="x"
    )
    return Summary(read(base, swap))


def test_the_table_names_what_was_changed_and_gives_the_paired_drop(summary):
    whole, single = contents(summary, ["robustness"])["robustness"]
    (row,) = (dict(zip(whole.columns, cells, strict=True)) for cells in whole.rows)
    assert row["perturbation"] == "swap (objects have changed places)"
    assert (row["pairs"], row["lost / gained"], row["drop"]) == ("10", "5 / 0", "-50.0")
    assert [cells[3] for cells in single.rows] == ["put bowl 0 on the plate", "put bowl 1 on the plate"]


def test_the_page_draws_it(summary, tmp_path):
    write_html(summary, str(tmp_path / "page.html"), command="harness report")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    section = page.split('<section id="robustness">')[1].split("</section>")[0]
    assert "<svg" in section
    assert "Change of success under each perturbation of libero_goal" in section

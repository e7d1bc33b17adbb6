"""What a notebook shows: well-formed HTML with the verdict, and nothing of a ledger's text as markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.analysis.paired.matrix import compare_many
from harness.analysis.paired.pairing import read_sides
from harness.errors import UsageError
from harness.gate import gate
from harness.ledger.schema import COLUMNS

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
FOREIGN = "<script>alert(1)</script>&amp;"


class Page(HTMLParser):
    """Tags and text; refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:  # noqa: D107
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def shown(make_ledger: Any) -> dict[str, Any]:
    base = make_ledger("base", ["+" * 50] * 2, policy=FOREIGN)
    new = make_ledger("new", ["+" * 30 + "-" * 20] * 2, policy=FOREIGN)
    sides = [side for path in (base, new) for side in read_sides(str(path))]
    return {
        "ledger": (harness.read(base), "solves 100 % of libero_spatial."),
        "comparison": (harness.compare(base, new), "The base succeeds more often."),
        "matrix": (compare_many(sides), "every other checkpoint succeeds less often."),
        "gate": (gate(base, new), "FAIL: default: success: "),
    }


@pytest.mark.parametrize("kind", ["ledger", "comparison", "matrix", "gate"])
def test_a_result_shows_its_verdict_and_tables(kind: str, shown: dict[str, Any]) -> None:
    content, verdict = shown[kind]
    page = Page(content._repr_html_())
    assert verdict in page.text
    assert "table" in page.tags
    assert "script" not in page.tags
    assert FOREIGN in page.text


def test_a_plan_shows_its_sentence() -> None:
    page = Page(harness.plan("demo", like=str(EXAMPLES / "demo"))._repr_html_())
    assert "table" in page.tags


def test_a_probe_shows_its_latency() -> None:
    page = Page(harness.read(EXAMPLES / "h100-latency" / "pi05")._repr_html_())
    assert page.text.startswith("Fastest decision on h100-sxm-80gb")


def test_every_frame_documents_its_columns(make_ledger: Any) -> None:
    ledger = harness.read(make_ledger("one", ["+"]))
    for table, columns in COLUMNS.items():
        assert list(ledger.columns(table).index) == [column.name for column in columns]
    assert ledger.columns("episodes").loc["wall_s", "unit"] == "s"
    assert set(ledger.episodes.columns) <= set(ledger.columns("episodes").index)
    with pytest.raises(UsageError, match="Did you mean 'episodes'"):
        ledger.columns("episode")

"""Tables on a terminal of any width: every number whole, text folded, long names said once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from harness.analysis.summary import Summary
from harness.ledger import LedgerWriter, read
from harness.report.contents import SECTIONS, contents
from harness.report.layout import lay_out
from harness.report.names import LONGEST, configuration_names, identity_of
from harness.report.tables.table import Table
from harness.report.terminal import print_table, render_terminal
from harness.screen import Screen

BuildLedger = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"


def shown(table: Table, width: int) -> str:
    stream = io.StringIO()
    print_table(table, Screen(Console(file=stream, force_terminal=True, width=width, color_system=None)))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("ledger", ["demo", "h100-latency/pi05"])
def test_every_number_of_every_table_is_whole_and_inside_the_width(ledger: str, width: int) -> None:
    for tables in contents(Summary(read(EXAMPLES / ledger)), SECTIONS).values():
        for table in tables:
            if len(table.rows) > 60:
                continue
            text = shown(table, width)
            assert max(map(cell_len, text.splitlines())) <= width, table.title
            flat = " ".join(text.split())
            for row in table.rows:
                for cell in row[table.left :]:
                    assert re.search(rf"(?<!\S){re.escape(' '.join(cell.split()))}(?!\S)", flat) or not cell, (
                        f"{table.title}: {cell!r} at {width}"
                    )


@given(
    rows=st.lists(
        st.tuples(st.text("ab_ äß字", max_size=40), st.integers(0, 10**9).map("{:,}".format), st.just("12.3–45.6 %")),
        min_size=1,
        max_size=4,
    ),
    width=st.integers(30, 90),
)
def test_no_layout_breaks_a_number_or_leaves_the_width(rows: list[tuple[str, str, str]], width: int) -> None:
    table = Table("t", ("name", "episodes", "95 % interval"), tuple(rows), 1)
    lines = [line for block in lay_out(table, width) for line in block.lines]
    assert max(map(cell_len, lines)) <= width
    words = "\n".join(lines)
    for _, number, interval in rows:
        assert re.search(rf"(?<![\d,]){re.escape(number)}(?![\d,])", words)
        assert interval in words


def test_columns_that_do_not_fit_follow_in_a_second_block_with_the_names_again() -> None:
    table = Table("t", ("name", *"abcdef"), (("policy", *["123,456,789"] * 6),), 1)
    blocks = lay_out(table, 40)
    assert len(blocks) == 3
    assert all(block.lines[block.header].startswith("policy") for block in blocks)


def test_control_characters_in_a_cell_are_spelled() -> None:
    assert "\x1b" not in shown(Table("t", ("name", "n"), (("\x1b[31mred", "1"),), 1), 80)


def configuration(policy: str, **changes: object) -> dict[str, object]:
    base = {"hardware": "h100-sxm-80gb", "dtype": "bfloat16", "compile": "eager", "batch_size": 1}
    return {**base, "policy_id": policy, **changes}


def test_rows_show_what_differs_and_the_key_what_is_shared() -> None:
    path = "lerobot:pi05?weights=random&dtype=bfloat16"
    rows = [configuration(path), configuration(f"{path}&graphs=true", compile="eager+graphs")]
    short = configuration_names(rows)
    assert [short.names[identity_of(row)] for row in rows] == ["eager", "eager+graphs"]
    assert short.key == ("All rows: lerobot:pi05, weights=random, on h100-sxm-80gb, bfloat16, batch 1.",)


def test_what_differs_at_length_gets_a_letter_and_stays_apart() -> None:
    rows = [configuration(f"lerobot:/outputs/train/2026-11-0{day}/checkpoints/020000") for day in (1, 2)]
    short = configuration_names(rows)
    assert list(short.names.values()) == ["A", "B"]
    assert "A: lerobot:/outputs/train/2026-11-01/checkpoints/020000" in short.key


def test_an_option_that_a_column_repeats_still_tells_two_policies_apart() -> None:
    rows = [configuration("flow"), configuration("flow?dtype=bfloat16")]
    assert len(set(configuration_names(rows).names.values())) == 2


def test_no_table_of_latency_repeats_a_long_name_in_its_rows() -> None:
    sections = contents(Summary(read(EXAMPLES / "h100-latency" / "pi05")), ("sweep", "prefix", "roofline", "claims"))
    assert set(sections) == {"sweep", "prefix", "roofline", "claims"}
    for tables in sections.values():
        for table in tables:
            assert max(len(row[0]) for row in table.rows) <= LONGEST
            assert sum("lerobot:pi05" in line for line in table.key) == 1


@pytest.mark.parametrize("label", ["v2[/old]", "outputs/suite=[spatial,object]/x", ":smile: [bold]"])
@pytest.mark.parametrize("terminal", [False, True])
def test_labels_are_shown_verbatim(tmp_path: Path, label: str, terminal: bool) -> None:
    row = {"policy_id": label, "suite": "s", "task_id": 0, "task": "t [/b]", "episode_key": "k"}
    row |= {"outcome": "success", "success": True}
    LedgerWriter(tmp_path).append("episodes", [row])
    stream = io.StringIO()
    render_terminal(read(tmp_path), Screen(Console(file=stream, force_terminal=terminal, width=120)))
    assert label in re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert "t [/b]" in re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_policy_name_stands_in_a_key_not_in_every_row(tmp_path: Path, terminal: bool) -> None:
    policy = "lerobot:/outputs/train/2026-11-01/12-00-00_pi05/checkpoints/020000/pretrained_model"
    base = {"suite": "s", "task_id": 0, "task": "t", "outcome": "success", "success": True, "nfe": 10}
    LedgerWriter(tmp_path).append(
        "episodes", [base | {"policy_id": name, "episode_key": name} for name in (policy, "scripted")]
    )
    stream = io.StringIO()
    render_terminal(read(tmp_path), Screen(Console(file=stream, force_terminal=terminal, width=100)))
    lines = [line for line in stream.getvalue().splitlines() if policy in line]
    # The verdict and the sentence of what was run name it in full.
    assert len(lines) > 2
    assert all(line.startswith(("A: ", "All rows", "s:")) for line in lines[2:])
    assert any(re.match(r"(\x1b\[\d+m)?A +s +1/1", line) for line in stream.getvalue().splitlines())

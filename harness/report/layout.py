"""Tables on lines of a given width: text is folded, columns are stacked, and a number is never cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.cells import cell_len

from harness.report.tables.table import Table
from harness.screen import spelled

GAP = "  "
WORD = 24
"""A text column is not made narrower than its longest word, up to so many characters."""

SENTENCE = "task"
"""Column of sentences that are cropped, not folded: the id beside them tells them apart."""


class Block(NamedTuple):
    """Some columns of a table, one below the other block."""

    lines: list[str]
    header: int
    """How many of the lines are the header."""


def lay_out(table: Table, width: int | None = None) -> list[Block]:
    """Write a table as one or more blocks of lines.

    Where the width does not take every column, the leading text columns are folded; if that is not enough, the columns
    of numbers follow each other in several blocks, each beginning with the text columns; if even one of them does not
    fit beside the text, each row becomes a paragraph.

    Args:
        table: Columns, rows, key and note, as text.
        width: Columns of the terminal; None for as many as needed.
    """
    table = replace(table, rows=tuple(tuple(map(spelled, row)) for row in table.rows))
    lines = [table.columns, *table.rows]
    natural = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    if width is None or _total(natural) <= width:
        return [_block(lines, natural, table.left, range(len(natural)))]
    left, numbers = natural[: table.left], natural[table.left :]
    least = [_least(cells) for cells in list(zip(*lines, strict=True))[: table.left]]
    widest = max(numbers, default=0)
    if _total([*least, *([widest] if numbers else [])]) > width:
        return [Block(list(_paragraphs(table, width)), 0)]
    room = width - _total([*numbers, 0]) if numbers else width
    if _total(least) <= room:
        return [_block(lines, [*_share(left, least, room), *numbers], table.left, range(len(natural)))]
    text = _share(left, least, max(_total(least), min(width // 2, width - widest - len(GAP))))
    blocks = []
    for chosen in _chunks(numbers, width - _total(text)):
        columns = [*range(table.left), *(table.left + place for place in chosen)]
        widths = [*text, *(numbers[place] for place in chosen)]
        blocks.append(_block(lines, widths, table.left, columns))
    return blocks


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1) if widths else 0


def _least(cells: Sequence[str]) -> int:
    """Least width of a text column."""
    words = [cell_len(word) for cell in cells for word in cell.split()]
    return min(max(words, default=1), WORD)


def _share(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of text columns: what is left beyond the least goes to all that want more, evenly."""
    widths, spare = list(least), room - _total(least)
    while spare > 0 and any(width < wanted for width, wanted in zip(widths, natural, strict=True)):
        for place, wanted in enumerate(natural):
            if spare > 0 and widths[place] < wanted:
                widths[place], spare = widths[place] + 1, spare - 1
    return widths


def _chunks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Columns that stand side by side."""
    chosen: list[int] = []
    used = 0
    for place, width in enumerate(widths):
        if chosen and used + len(GAP) + width > room:
            yield chosen
            chosen, used = [], 0
        chosen.append(place)
        used += len(GAP) + width
    if chosen:
        yield chosen


def _block(lines: Sequence[Sequence[str]], widths: Sequence[int], left: int, columns: Sequence[int] | range) -> Block:
    written: list[str] = []
    header = 0
    for line in lines:
        cells = [line[column] for column in columns]
        folded = [
            _crop(cell, width) if lines[0][column] == SENTENCE else _fold(cell, width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        ]
        height = max(map(len, folded))
        for row in range(height):
            parts = [
                _pad(cell[row] if row < len(cell) else "", width, right=place >= left)
                for place, (cell, width) in enumerate(zip(folded, widths, strict=True))
            ]
            written.append(GAP.join(parts).rstrip())
        header = header or height
    return Block(written, header)


def _pad(cell: str, width: int, *, right: bool) -> str:
    space = " " * max(0, width - cell_len(cell))
    return space + cell if right else cell + space


def _fold(cell: str, width: int) -> list[str]:
    """Break a text at its spaces, and a word only where it is longer than a line."""
    if cell_len(cell) <= width:
        return [cell]
    lines = [""]
    for word in cell.split():
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while cell_len(lines[-1]) > width:
            head = _head(lines[-1], width)
            lines[-1:] = [lines[-1][:head], lines[-1][head:]]
    return lines


def _crop(cell: str, width: int) -> list[str]:
    """The beginning of a sentence, on one line."""
    return [cell if cell_len(cell) <= width else cell[: _head(cell, width - 1)].rstrip() + "…"]


def _head(word: str, width: int) -> int:
    """How many characters fill a line; wide ones take two cells."""
    used = 0
    for place, character in enumerate(word):
        used += cell_len(character)
        if used > width:
            return max(1, place)
    return len(word)


def _paragraphs(table: Table, width: int) -> Iterator[str]:
    """Each row as its text, then "name value" pairs that are never broken inside."""
    for row in table.rows:
        yield from _fold(", ".join(cell for cell in row[: table.left] if cell), width)
        line = ""
        for name, value in zip(table.columns[table.left :], row[table.left :], strict=True):
            pair = f"{name} {value}"
            if line and cell_len(line) + 3 + cell_len(pair) > width - 2:
                yield f"  {line}"
                line = ""
            line = f"{line}   {pair}" if line else pair
        if line:
            yield from (f"  {part}" for part in _fold(line, max(width - 2, 1)))

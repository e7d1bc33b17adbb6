"""The code blocks of the documentation: what they hold, and whether they are run or only parsed.

A fence may carry attributes after its language:

- `parse="REASON"`: the block is not run by the tests, for this reason; its commands are parsed all the same.
- `exit="N"`: the exit code with which the block ends.
- `title="PATH"`: the block is a file at PATH, relative to the working directory of the page's other blocks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
ATTRIBUTE = re.compile(r'\s*([a-z]+)="([^"]*)"')
OURS = re.compile(r'\s+(?:parse|exit)="[^"]*"')
KNOWN = frozenset({"parse", "exit", "title"})


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    """Line of the opening fence, from 1."""
    language: str
    body: str
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is only parsed; None when it is run."""
        return self.attributes.get("parse")


def blocks_of(text: str, page: str) -> list[Block]:
    """Every fenced block of a page.

    Raises:
        ValueError: A fence's info string is no language followed by known attributes.
    """
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        language, _, rest = match["info"].strip().partition(" ")
        attributes = dict(ATTRIBUTE.findall(rest))
        if ATTRIBUTE.sub("", rest).strip() or not set(attributes) <= KNOWN:
            raise ValueError(f"{page}:{line}: cannot read the fence {match['info']!r}; attributes are {sorted(KNOWN)}")
        indent = match["indent"]
        body = "".join(each.removeprefix(indent) for each in match["body"].splitlines(keepends=True))
        found.append(Block(page, line, language, body, attributes))
    return found


def without_attributes(text: str) -> str:
    """A page as the site shows it: fences without the attributes that only tests read."""
    return FENCE.sub(lambda match: match[0].replace(match["info"], OURS.sub("", match["info"]), 1), text)

"""What `--json` holds, from the table that tests hold the verbs to."""

from __future__ import annotations

from harness.cli.shapes import SHAPES


def render() -> str:
    """One table a verb: key, and what stands there."""
    return "\n\n".join(
        f"## harness {verb}\n\n| key | what stands there |\n| :--- | :--- |\n"
        + "\n".join(f"| `{key}` | {about} |" for key, about in shape.items())
        for verb, shape in SHAPES.items()
    )

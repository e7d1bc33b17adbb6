"""Count lines of code: no docstrings, no comments, no blank lines.

`python scripts/count_lines.py harness/cluster harness/report` counts this checkout; `--against COMMIT` counts another
commit beside it.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines of a Python source that hold code, docstrings of fields included among the docstrings."""
    prose = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    held: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            held.update(range(token.start[0], token.end[0] + 1))
    return len(held - prose)


def sources(places: Iterable[str], commit: str | None) -> Iterator[tuple[str, str]]:
    """(path, text) of every Python file under the places, of the working tree or of a commit."""
    for place in places:
        if commit is None:
            paths = [Path(place)] if place.endswith(".py") else sorted(Path(place).rglob("*.py"))
            yield from ((str(path), path.read_text(encoding="utf-8")) for path in paths)
            continue
        listed = subprocess.run(
            ["git", "ls-tree", "-r", "--name-only", commit, "--", place], capture_output=True, text=True, check=True
        )
        for path in listed.stdout.split():
            if path.endswith(".py"):
                shown = subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, text=True, check=True)
                yield path, shown.stdout


def per_package(places: Iterable[str], commit: str | None) -> dict[str, int]:
    """Package (`harness/cluster`) → lines of code."""
    totals: dict[str, int] = {}
    for path, text in sources(places, commit):
        package = "/".join(Path(path).parts[:2]) if len(Path(path).parts) > 2 else str(Path(path).parent)
        totals[package] = totals.get(package, 0) + code_lines(text)
    return totals


def main() -> None:
    """Print a table: package, lines, and lines at another commit when one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", default=["harness"], help="folders or files")
    parser.add_argument("--against", metavar="COMMIT", help="also count this commit")
    given = parser.parse_args()
    now = per_package(given.places, None)
    then = per_package(given.places, given.against) if given.against else {}
    for package in sorted({*now, *then}):
        before = f"{then.get(package, 0):>8}" if given.against else ""
        print(f"{package:<24}{before}{now.get(package, 0):>8}")
    print(f"{'all':<24}" + (f"{sum(then.values()):>8}" if given.against else "") + f"{sum(now.values()):>8}")


if __name__ == "__main__":
    main()

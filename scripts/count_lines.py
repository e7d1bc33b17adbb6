"""Count lines of code: no docstrings, no comments, no blank lines.

`python scripts/count_lines.py harness/cluster harness/report` counts this checkout; `--against COMMIT` counts another
commit beside it. `--rooms` counts the rooms that were refactored since `BEGINNING`: what refactoring changed, and what
features and mended defects added.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

BEGINNING = "dd520d3"
"""The commit before the rooms were refactored."""
ROOMS = {
    "cluster and its rules": r"cluster/|interrupts\.py|rollout/result\.py|"
    r"schedule/(balance|batching|failure|leases|placement|progress|result|state|status)\.py",
    "probe": r"latency/",
    "report and analysis": r"(report|analysis)/",
    "watch and nightly": r"(watch|nightly)/|notify\.py|evaluation\.py",
    "policies' options": r"policies/(\w+/)?(options|__init__|ability|importable|registry)\.py|policies/flow/policy\.py",
    "command line": r"(cli/|screen\.py)",
}
"""Room → its files under `harness/`, before and after."""
REFACTORINGS = {
    "0142550": "",
    "4cf42e4": "",
    "0d3a18b": "",
    "e89f56c": "",
    "4e43742": r"(?!screen)",
    "4f3b1bc": r"(cli|latency)/|policies/(\w+/)?options\.py|policies/flow/policy\.py",
    "23abb1c": "report/",
    "c3639ce": r"watch/|nightly/|notify\.py",
    "ad4cdee": r"(?!latency/(telemetry|nvml|sysfs|node|calibrate|inputs|kernels)\.py|cluster/nodes\.py)",
    "d0830a2": "",
    "acd07a1": r"(?!evaluation\.py|analysis/(aggregates|paired/within)\.py|report/(parquet|layout|names)\.py)",
    "3689431": r"(?!cluster/(earlier|identity|ray_start|ray_errors|ray_session|policy_server)\.py|interrupts\.py)",
    "c1ecbd6": "",
    "f0271c6": "",
    "192e354": r"(?!analysis/aggregates\.py|report/parquet\.py)",
    "45e9e12": "",
    "c128087": "",
    "ae0a749": "",
    "5445e4c": "",
    "df28338": "",
    "6c6c225": "",
}
"""Commits that refactored, with the files of theirs that did (all, when empty). What else they brought, and what other
commits did, are features and mended defects: docs/design-decisions.md names their modules."""


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


def git(*arguments: str) -> str:
    """What a git command prints."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def sources(places: Iterable[str], commit: str | None) -> Iterator[tuple[str, str]]:
    """(path, text) of every Python file under the places, of the working tree or of a commit."""
    for place in places:
        if commit is None:
            paths = [Path(place)] if place.endswith(".py") else sorted(Path(place).rglob("*.py"))
            yield from ((str(path), path.read_text(encoding="utf-8")) for path in paths)
            continue
        for path in git("ls-tree", "-r", "--name-only", commit, "--", place).split():
            if path.endswith(".py"):
                yield path, git("show", f"{commit}:{path}")


def room_of(path: str) -> str | None:
    """The room that a file belongs to."""
    inside = path.removeprefix("harness/")
    return next((room for room, files in ROOMS.items() if re.match(files, inside)), None)


def in_rooms(commit: str) -> Counter[str]:
    """Room → lines at a commit."""
    totals: Counter[str] = Counter()
    for path, text in sources(["harness"], commit):
        if room := room_of(path):
            totals[room] += code_lines(text)
    return totals


def changed_by(commit: str, chosen: str) -> Counter[str]:
    """Room → lines that a commit added less those that it removed, in files whose path under `harness/` matches."""
    lines = git("diff-tree", "-r", "--no-renames", f"{commit}^", commit, "--", "harness").splitlines()
    totals: Counter[str] = Counter()
    for line in lines:
        (_, _, old, new, _), path = line.split("\t")[0].split(), line.split("\t")[1]
        room = room_of(path)
        if room and path.endswith(".py") and re.match(chosen, path.removeprefix("harness/")):
            for blob, sign in ((old, -1), (new, 1)):
                totals[room] += sign * (code_lines(git("cat-file", "blob", blob)) if blob.strip("0") else 0)
    return totals


def print_rooms() -> None:
    """Print a table: room, lines at the beginning, what refactoring changed, what features added, lines now."""
    begun, now = in_rooms(BEGINNING), in_rooms("HEAD")
    changed: Counter[str] = Counter()
    for commit, chosen in REFACTORINGS.items():
        changed.update(changed_by(commit, chosen))
    print(f"{'room':<24}{'begun':>8}{'refactored':>12}{'features':>10}{'now':>8}")
    for room, lines in begun.items():
        added = now[room] - lines - changed[room]
        print(f"{room:<24}{lines:>8}{changed[room]:>+12}{added:>+10}{now[room]:>8}")


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
    parser.add_argument("--rooms", action="store_true", help="count the refactored rooms, features apart")
    given = parser.parse_args()
    if given.rooms:
        print_rooms()
        return
    now = per_package(given.places, None)
    then = per_package(given.places, given.against) if given.against else {}
    for package in sorted({*now, *then}):
        before = f"{then.get(package, 0):>8}" if given.against else ""
        print(f"{package:<24}{before}{now.get(package, 0):>8}")
    print(f"{'all':<24}" + (f"{sum(then.values()):>8}" if given.against else "") + f"{sum(now.values()):>8}")


if __name__ == "__main__":
    main()

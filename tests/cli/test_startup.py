"""What a person waits for before the first word: nothing is imported that a verb does not use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
WEIGHTY = ("numpy", "pandas", "scipy", "pyarrow", "torch", "ray", "mujoco", "robosuite", "libero", "lerobot",
           "transformers", "jinja2", "matplotlib", "scipy.stats", "scipy.optimize", "psutil")  # fmt: skip
LOADED = f"""
import os, sys
from harness.cli.app import invoke
for line in sys.argv[1].split(";"):
    child = os.fork()
    if not child:
        sys.stdout = open(os.devnull, "w")
        code = invoke(line.split())
        os.write(3, " ".join([str(code), *[name for name in {WEIGHTY!r} if name in sys.modules]]).encode() + b"\\n")
        os._exit(0)
    os.waitpid(child, 0)
"""
BARE = """
import typer
from typing import Annotated
from rich.console import Console

app = typer.Typer(help="bare", rich_markup_mode="rich")

@app.command()
def one(n: Annotated[int, typer.Option(help="n")] = 1) -> None:
    Console().print(n)

@app.command()
def two(n: Annotated[int, typer.Option(help="n")] = 1) -> None:
    Console().print(n)

app()
"""
ARROW = {"numpy", "pyarrow"}
FRAMES = {"numpy", "pandas", "pyarrow", "scipy"}
ALLOWED: dict[str, set[str]] = {
    **{
        f"{verb} --help": set()
        for verb in ("run", "probe", "predict", "report", "gate", "watch", "nightly", "plan", "doctor")
    },
    "list policies": set(),
    "list profiles": set(),
    "list gates": set(),
    "list checkpoints": set(),
    "list architectures": set(),
    "list suites": {"numpy"},
    "list columns": ARROW,
    "validate seed": ARROW | {"psutil"},
    f"report {EXAMPLES}/demo": FRAMES,
    f"report {EXAMPLES}/demo --html /dev/null": FRAMES | {"jinja2"},
}
"""Command line → what of `WEIGHTY` it may load."""
REPORT_IMPORTS = "import pandas, pyarrow.parquet, scipy.special"
MISTAKES = (
    "rnu",
    "run sed",
    "run seed --policy scriptd",
    "probe -p flo",
    "prefix /nowhere",
    "predict",
    "predict --architecture student-650 --to h200",
    "serve -p flo",
    "report /nowhere",
    f"report {EXAMPLES}/demo --history /nowhere",
    f"report {EXAMPLES}/demo --embed-videos 20MB",
    f"report {EXAMPLES}/demo --html /tmp/x --embed-videos many",
    "replay /nowhere 1",
    "agree flo flow",
    "delay flow seed --margin 3",
    "gate one",
    "gate /nowhere /neither",
    "baseline set /nowhere",
    "import /nowhere --out /tmp/x",
    "list suite",
    "validate sed",
    "watch",
    "nightly",
    "ledger merge /tmp/x /nowhere",
    "checkpoint pull /nowhere /tmp/x",
    "plan sed",
    "doctor --probe x",
)


def loaded(lines: list[str]) -> dict[str, list[str]]:
    """Command line → exit code and what it loaded, each in a process of its own."""
    read, write = os.pipe()
    # The child writes to descriptor 3, whatever this process has open.
    shell = ["bash", "-c", f'exec "$0" "$@" 3>&{write}', sys.executable, "-c", LOADED, ";".join(lines)]
    done = subprocess.Popen(shell, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read().splitlines()
    done.wait(120)
    return dict(zip(lines, map(str.split, said), strict=True))


def test_no_verb_loads_what_it_does_not_use() -> None:
    for line, (code, *found) in loaded(list(ALLOWED)).items():
        assert code in ("0", "64", "2"), line
        assert set(found) <= ALLOWED[line], line


def test_every_usage_error_comes_before_pandas_and_within_a_second() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = loaded(list(MISTAKES))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert {line: code for line, (code, *_) in found.items()} == dict.fromkeys(MISTAKES, "64")
    assert {line: set(names) - ARROW - {"psutil"} for line, (_, *names) in found.items()} == {
        line: set() for line in MISTAKES
    }
    assert (after.ru_utime - before.ru_utime) / len(MISTAKES) < 1.0


def seconds(argv: list[str]) -> float:
    """CPU seconds of a command, the least of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *argv], stdout=subprocess.DEVNULL, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def test_help_takes_at_most_three_times_what_a_bare_program_takes() -> None:
    ours = seconds(["-c", "from harness.cli import main; main()", "--help"])
    assert ours <= 3 * seconds(["-c", BARE, "--help"])


def test_a_report_of_500_episodes_takes_at_most_four_times_what_its_libraries_take_to_import() -> None:
    ledger = EXAMPLES / "scripted" / "libero_spatial"
    ours = seconds(["-c", "from harness.cli import main; main()", "report", str(ledger)])
    assert ours <= 4 * seconds(["-c", REPORT_IMPORTS])

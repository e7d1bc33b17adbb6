"""The documentation as tests see it: pages, blocks, and a folder in which a page's blocks can be run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "documentation"))

from fences import Block, blocks_of  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHARED = ("architectures", "checkpoints", "examples", "hardware_profiles", "tests", "Makefile", "docs")
"""What a page's blocks find in their working directory, as a reader who stands in a clone does."""
DIRECTIVES = ("{toctree}", "{eval-rst}")
FILES = ("yaml", "dockerfile")
"""Languages of files that a reader writes: nothing to run."""
RUN_LIMIT_S = 900
"""The whole tutorial takes about a minute on two idle cores."""


def name_of(page: Path) -> str:
    """A page's path from the root."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, without Sphinx's directives."""
    return [block for block in blocks_of(page.read_text(), name_of(page)) if block.language not in DIRECTIVES]


def make_folder(folder: Path, found: Iterable[Block]) -> Path:
    """Fill a folder with what a clone has and with the files that a page says to write."""
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    for name in ("reports", "suites", "gates"):
        (folder / name).mkdir()
    for name in ("examples", "published"):
        (folder / "reports" / name).symlink_to(ROOT / "reports" / name)
    for kind in ("suites", "gates"):
        for file in (ROOT / kind).glob("*.yaml"):
            (folder / kind / file.name).symlink_to(file)
    for block in found:
        if title := block.attributes.get("title"):
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(block.body)
    return folder


def environment() -> dict[str, str]:
    """Variables of a block's process: this tree's code, this environment's commands, no hub."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
    }


def run_shell(found: list[Block], folder: Path) -> None:
    """Run blocks in one shell, as a reader would type them one after the other."""
    script = "set -euo pipefail\n" + "".join(_shell(block) for block in found)
    _run(["bash", "-c", script], folder)


def run_python(found: list[Block], folder: Path) -> None:
    """Run blocks in one interpreter; a traceback names page and line."""
    sources = [(block.page, "\n" * block.line + block.body) for block in found]
    script = (
        "import json, os, sys\nsys.path.insert(0, os.getcwd())\nspace = {'__name__': '__main__'}\n"
        f"for page, source in json.loads({json.dumps(sources)!r}):\n    exec(compile(source, page, 'exec'), space)\n"
    )
    _run([sys.executable, "-c", script], folder)


def _shell(block: Block) -> str:
    mark = f'echo "::block {block.place}" >&2\n'
    codes = block.attributes.get("exit")
    if codes is None:
        return mark + block.body
    allowed = codes.replace(",", "|")
    return (
        f"{mark}set +e\n( set -e\n{block.body})\ncode=$?\nset -e\n"
        f'case $code in {allowed}) ;; *) echo "exit code $code, expected {codes}" >&2; exit 1 ;; esac\n'
    )


def _run(command: list[str], folder: Path) -> None:
    # A group of its own, so that a limit ends what the block started, too.
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = child.communicate(timeout=RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    place = [line.removeprefix("::block ") for line in said.splitlines() if line.startswith("::block ")][-1:]
    assert child.returncode == 0, f"{''.join(place)} exited with {child.returncode}\n{printed[-3000:]}\n{said[-3000:]}"

"""The acceptance of real Pi0.5 weights, on small ledgers: each line, the verdict, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from synthetic_probe import write_probe

from harness.ledger import read

EXAMPLE = Path(__file__).parents[2] / "examples" / "accept_pi05"
sys.path.insert(0, str(EXAMPLE))

import accept  # noqa: E402

POLICY = accept.POLICY
EPISODES = {"policy": POLICY, "checkpoint_sha256": "same", "checkpoint": "same"}


def test_the_first_line_says_that_it_has_not_been_run() -> None:
    first = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert "has not been run here" in first
    assert "weights cannot be downloaded" in first


@pytest.mark.parametrize(
    ("few", "many", "answers"),
    [
        (["+" * 50] * 10, ["+" * 49 + "-"] * 10, {"holds"}),
        (["++"] * 10, ["++"] * 9 + ["+-"], {"open", "holds"}),
        (["+-"] * 10, ["++"] * 10, {"FAILS", "open", "holds"}),
    ],
)
def test_success_is_held_against_the_rows_of_these_weights(
    make_ledger: Any, few: list[str], many: list[str], answers: set[str]
) -> None:
    ledgers = [make_ledger(name, tasks, nfe=nfe, **EPISODES) for name, tasks, nfe in (("a", few, 1), ("b", many, 10))]
    lines = list(accept.success_lines(read(*ledgers)))
    assert {line.what for line in lines} == {f"success at NFE {nfe}, libero_spatial" for nfe in (1, 10)}
    found = {line.answer for line in lines}
    assert found <= answers
    assert ("FAILS" in found) == ("FAILS" in answers)


def test_an_nfe_that_was_not_run_leaves_its_line_open(make_ledger: Any) -> None:
    lines = list(accept.success_lines(read(make_ledger("a", ["+" * 10] * 10, nfe=10, **EPISODES))))
    assert lines[-1].got == "not run"
    assert lines[-1].answer == "open"


def test_the_script_writes_its_page_and_exits_by_it(make_ledger: Any, tmp_path: Path) -> None:
    run = make_ledger("a", ["+----"] * 10, nfe=10, **EPISODES)
    probe = write_probe(tmp_path / "probe", policy=POLICY)
    ledgers = ["--from-ledgers", str(run), str(probe), "--out", str(tmp_path)]
    command = [sys.executable, str(EXAMPLE / "accept.py"), *ledgers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    page = (tmp_path / "accept.md").read_text(encoding="utf-8")
    assert page.startswith("# Acceptance of Pi0.5: FAILS")
    assert "10/50" in page
    assert "T(10) / T(1) on h100-sxm-80gb" in page
    timed = subprocess.run([*command, "--skip-run"], capture_output=True, text=True, timeout=120, check=False)
    assert timed.returncode == 0
    assert "ACCEPTED" in timed.stdout

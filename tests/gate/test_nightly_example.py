"""The cron example, run for real on the stub world."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "gate" / "nightly.sh"
SUITE = """
name: stubs
description: stub world
world: stub
protocol: {max_steps: {stub: 30}, settle_steps: 0}
tasks: [{suite: stub, tasks: [0, 1, 2], init_states: 50}]
"""
RULES = """
name: stubs
success: {margin: 0.03}
"""


@pytest.mark.slow
def test_the_first_night_becomes_the_baseline_and_the_next_is_judged_against_it(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "rules.yaml").write_text(RULES)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "POLICY": "python:rerun_policies:good",
        "SUITE": str(tmp_path / "suite.yaml"),
        "RULES": str(tmp_path / "rules.yaml"),
        "REPORTS": str(tmp_path / "reports"),
    }
    for night in (1, 2):
        done = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "reports" / "baselines").iterdir())) == 1
        assert ("PASS: stubs" in done.stdout) == (night == 2)
    assert (tmp_path / "reports" / "history.svg").exists()
    assert len(list((tmp_path / "reports").glob("*/gate.md"))) == 1

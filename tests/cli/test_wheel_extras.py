"""The wheel in fresh environments, with each extra alone: what docs/install.md says it can do, it can do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUB = (
    "name: mine\ndescription: none\nworld: stub\nprotocol: stub\n"
    "tasks: [{suite: stub, tasks: [0], init_states: 1}]\npolicies: [random]\n"
)
QUICK = "--launches 1 --min-seconds 0.1 --min-samples 5 --warmup-seconds 0.1"
EXAMPLES = ROOT / "reports" / "examples"
DEMO = EXAMPLES / "demo"
EXTRAS: dict[str, list[tuple[str, int]]] = {
    "": [
        ("list suites", 0),
        (f"report {DEMO} --html report.html", 0),
        (f"gate {EXAMPLES}/scripted/libero_spatial {EXAMPLES}/h100-run/scripted-warm", 0),
        (f"ledger merge merged {DEMO}", 0),
        (f"probe -p random {QUICK} --out probed", 0),
        ("run mine.yaml --out run", 3),
    ],
    "cluster": [("cluster status --address 127.0.0.1:1", 3), ("run mine.yaml --out run --workers 1", 0)],
    "sim": [("doctor", 0), ("run smoke -p noop --episodes 1 --workers 1 --out run", 0)],
}
"""Extra → command lines with their exit codes; `policies` is in test_edge.py."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True, timeout=600)
    (built,) = folder.glob("*.whl")
    return built


def uv() -> str:
    return subprocess.run([ROOT / "scripts" / "uv"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", EXTRAS)
def test_a_fresh_environment_with_one_extra_does_what_the_table_says(extra: str, wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True)
    wanted = f"vla-harness[{extra}] @ file://{wheel}" if extra else f"vla-harness @ file://{wheel}"
    install = [uv(), "pip", "install", "--quiet", "--python", python, "-c", ROOT / "requirements.lock", wanted]
    subprocess.run(install, check=True, timeout=1200)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # A busy machine takes longer than Ray's own minute to start its processes.
    environment = {"RAY_raylet_start_wait_time_s": "600", **kept}
    (tmp_path / "mine.yaml").write_text(STUB)
    for line, code in EXTRAS[extra]:
        done = subprocess.run(
            [python.parent / "harness", *line.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}"
        assert "Traceback" not in done.stdout
    (package,) = python.parents[1].glob("lib/*/site-packages/harness")
    assert (package / "py.typed").exists(), "type checkers read the annotations"

"""A Ray cluster that is up is written down as a nodes file, and planned on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cluster.ray_session import open_session
from harness.planning.nodes_file import load_nodes
from harness.planning.suite_plan import plan

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"


def harness(*argv: str) -> str:
    """What another process prints, which joins the cluster by its address."""
    code = "import sys; from harness.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_live_cluster_is_described_and_planned_on(tmp_path: Path) -> None:
    import ray

    ray.shutdown()
    evidence = str(EXAMPLES / "planning" / "scripted-w2")
    with open_session(None, n_cpus=2):
        address = ray.get_runtime_context().gcs_address
        (tmp_path / "nodes.yaml").write_text(harness("plan", "--describe", address))
        there = harness("plan", "seed", "-p", "scripted", "--address", address, "--from", evidence, "--json", "-")
    (kind,) = load_nodes(tmp_path / "nodes.yaml").nodes
    assert (kind.profile, kind.count, kind.cores, kind.gpus) == ("cpu", 1, 2, 0)
    told = json.loads(there)
    assert (told["episodes"], told["workers"]) == (20, 2)
    # The same from its file, when the cluster is gone.
    later = plan("seed", policies=["scripted"], nodes=tmp_path / "nodes.yaml", ledgers=[evidence])
    assert later.forecast.workers == told["workers"]
    assert later.forecast.finish_s == pytest.approx(told["finish_s"], rel=0.2)

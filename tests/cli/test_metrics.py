"""A run that goes on, for Prometheus; and a dashboard whose queries name metrics that there are."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from harness.cli.metrics import METRICS, PREFIX, MetricsServer
from harness.errors import UsageError
from harness.schedule.progress import PolicyProgress, Progress
from harness.spec.policy import PolicyAtNfe

MONITORING = Path(__file__).parents[2] / "examples" / "monitoring"
FOREIGN = 'pi "quoted" \\ ✓'
HALF = Progress(
    planned=100,
    skipped=10,
    done=40,
    successes=30,
    errors=2,
    per_policy={PolicyAtNfe(FOREIGN, 10): PolicyProgress(100, 40, 30, 2)},
    workers=4,
    started=datetime(2026, 3, 1, tzinfo=UTC),
    elapsed_s=3600.0,
    rate=40 / 3600,
    eta_s=4500.0,
    eta_band_s=(3900.0, 5200.0),
    limit=("policy", 0.62),
)


def scraped(server: MetricsServer) -> dict[str, dict[str, float]]:
    """Metric → labels, as text → value, read by Prometheus's own parser."""
    with urllib.request.urlopen(server.address, timeout=10) as answer:  # noqa: S310
        text = answer.read().decode()
    return {
        family.name: {",".join(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def test_what_is_scraped_is_the_progress_and_every_metric_is_there() -> None:
    shown: list[Progress] = []
    with MetricsServer(0, shown.append) as server:
        server(HALF)
        found = scraped(server)
        server(replace(HALF, limit=("rendering", 0.5), workers=3))
        later = scraped(server)
    assert shown == [HALF, replace(HALF, limit=("rendering", 0.5), workers=3)]
    assert set(found) == set(METRICS)
    label = PolicyAtNfe(FOREIGN, 10).label
    assert found[f"{PREFIX}_episodes_done"] == {label: 40}
    assert found[f"{PREFIX}_success_ratio"] == {label: pytest.approx(30 / 38)}
    assert found[f"{PREFIX}_success_ratio_low"][label] < 30 / 38 < found[f"{PREFIX}_success_ratio_high"][label]
    assert found[f"{PREFIX}_left_high_seconds"] == {"": 5200}
    assert found[f"{PREFIX}_limit_ratio"] == {"policy": 0.62}
    assert later[f"{PREFIX}_limit_ratio"] == {"rendering": 0.5}, "what no longer limits is gone"
    assert later[f"{PREFIX}_workers"] == {"": 3}


def test_it_ends_with_the_run_and_a_taken_port_is_told() -> None:
    with MetricsServer(0, lambda progress: None) as server:
        port = int(server.address.split(":")[2].split("/")[0])
        with pytest.raises(UsageError, match="Take another port"):
            MetricsServer(port, lambda progress: None)
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", port)) != 0


def test_the_dashboard_asks_for_every_metric_and_for_no_other() -> None:
    board = json.loads((MONITORING / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    named = {name.removeprefix("ray_") for expr in asked for name in re.findall(rf"(?:ray_)?{PREFIX}_\w+", expr)}
    assert named == set(METRICS)
    assert all(expr.count(f"ray_{PREFIX}") == len(re.findall(rf"(?<!ray_){PREFIX}", expr)) for expr in asked)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_page_beside_it_lists_every_metric_and_the_scrape_configuration_is_one() -> None:
    page = (MONITORING / "README.md").read_text()
    assert all(f"`{name}`" in page and about.help in page for name, about in METRICS.items())
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["vla-harness", "ray"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rays_own_exporter_has_them_too() -> None:
    """In a process of its own: a Ray cluster with its exporter and the dashboard's agent, which feeds it."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        exporter, dashboard = one.getsockname()[1], two.getsockname()[1]
    script = f"""
import sys, time, urllib.request
sys.path.insert(0, {str(Path(__file__).parent)!r})
import ray
from test_metrics import HALF, METRICS, MetricsServer

ray.init(num_cpus=1, include_dashboard=True, dashboard_port={dashboard}, _metrics_export_port={exporter})
with MetricsServer(0, lambda progress: None) as server:
    for _ in range(60):
        server(HALF)
        time.sleep(2)
        try:
            text = urllib.request.urlopen("http://127.0.0.1:{exporter}/metrics", timeout=5).read().decode()
        except OSError:
            continue
        if all(f"ray_{{name}}{{{{" in text for name in METRICS):
            print("all there")
            break
"""
    environment = {**os.environ, "RAY_TMPDIR": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert "all there" in done.stdout, done.stderr

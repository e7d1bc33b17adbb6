"""Checkpoints of the driver's disk on nodes that do not have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cluster.parcel import Parcel, build_here, is_here, require_within_limit, wrap
from harness.errors import PolicyError, UsageError
from harness.spec import parse_policy
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicySpec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(os.urandom(100_000))
    return made


class Built:
    """A policy that says where it was loaded from."""

    def __init__(self, spec: PolicySpec) -> None:  # noqa: D107
        self.contents = Path(spec.path or "", "model.safetensors").read_bytes()
        self.info = PolicyInfo(f"flow:{spec.path}", checkpoint=spec.path)


def sent(folder: Path) -> tuple[Parcel, dict[int, bytes]]:
    store: dict[int, bytes] = {}

    def put(block: bytes) -> int:
        store[len(store)] = block
        return len(store) - 1

    parcel = wrap(parse_policy(f"flow:{folder}"))
    assert parcel is not None
    return parcel.filled(put), store


def test_a_node_that_lacks_a_checkpoint_loads_what_was_sent_and_names_it_as_the_driver_does(folder: Path) -> None:
    parcel, store = sent(folder)
    weights = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    assert not is_here(parcel)
    spec = parse_policy(f"flow:{folder}")
    built: Any = build_here(spec, parcel, Built, store.__getitem__)
    assert built.contents == weights
    assert built.info.policy_id == f"flow:{folder}"
    assert built.info.checkpoint == str(folder)
    assert is_here(parcel), "it is kept"
    again: Any = build_here(spec, parcel, Built, lambda ref: pytest.fail("sent twice"))
    assert again.contents == weights


def test_a_folder_of_the_same_name_with_other_contents_is_not_taken_for_it(folder: Path) -> None:
    parcel, store = sent(folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(b"another night's")
    built: Any = build_here(parse_policy(f"flow:{folder}"), parcel, Built, store.__getitem__)
    assert built.contents == weights


def test_what_arrives_damaged_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_HARNESS_CACHE", "")
    parcel, _ = sent(folder)
    shutil.rmtree(folder)
    with pytest.raises(PolicyError, match="did not arrive as it was sent"):
        build_here(parse_policy(f"flow:{folder}"), parcel, Built, lambda ref: b"half")


def test_more_than_the_limit_is_refused_with_size_node_and_remedy(folder: Path) -> None:
    parcel, _ = sent(folder)
    require_within_limit(parcel, "spark", {})
    with pytest.raises(PolicyError, match=r"Node spark has no .*weights, which has 0\.0001 GB; at most 1e-05 GB"):
        require_within_limit(parcel, "spark", {"VLA_HARNESS_CHECKPOINT_GB": "0.00001"})
    with pytest.raises(UsageError, match="VLA_HARNESS_CHECKPOINT_GB is 'much'"):
        require_within_limit(parcel, "spark", {"VLA_HARNESS_CHECKPOINT_GB": "much"})


@pytest.mark.parametrize("text", ["flow?weights=random", "lerobot:owner/name", "scripted", "flow:/not/here"])
def test_what_is_not_on_the_drivers_disk_is_not_sent(text: str) -> None:
    assert wrap(parse_policy(text)) is None


@pytest.mark.parametrize(("text", "name"), [("flow", "teacher"), ("flow:student", "student")])
def test_a_shipped_checkpoint_is_sent_from_a_clone_and_keeps_its_name(text: str, name: str, monkeypatch) -> None:
    """Nodes get the package alone; from a wheel the checkpoints lie inside it."""
    spec = parse_policy(text)
    parcel = wrap(spec)
    assert parcel is not None
    assert (parcel.path, parcel.shipped) == (str(ROOT / "checkpoints" / "flow" / name), True)
    built = build_here(spec, parcel, Built, lambda ref: pytest.fail("it is here"))
    assert (built.info.policy_id, built.info.checkpoint) == (text, f"vla-harness/flow-{name}")
    monkeypatch.setattr("harness.cluster.parcel.PACKAGE", ROOT)
    assert wrap(spec) is None


SUITE = """
name: apart
description: A stub suite for a policy whose weights only the driver has.
world: stub
protocol: stub
tasks: [{suite: stub, tasks: [0], init_states: 2}]
probe: {launches: 1, min_seconds: 0.5, min_samples: 5, warmup_seconds: 1}
"""


def start_without(folder: Path, start: Callable[[], Any]) -> None:
    """Have what is started see an empty file system at a folder: mounts of its own belong to a thread."""
    os.unshare(os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    start()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a node with mounts of its own")
def test_a_node_of_a_real_cluster_that_does_not_have_the_folder_serves_it_and_times_it(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    shutil.copytree(ROOT / "checkpoints" / "flow" / "teacher", tmp_path / "own" / "weights")
    (tmp_path / "apart.yaml").write_text(SUITE)
    here = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # Ray sets handlers for signals where it starts a node, which a thread cannot.
        patch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)
        patch.setenv("VLA_HARNESS_CACHE", str(tmp_path / "cache"))
        cluster = Cluster(initialize_head=True, head_node_args={**here, "labels": {"hardware": "a100-sxm-80gb"}})
        command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "apart.yaml", "--out", "led"]
        command += [
            "-p",
            "flow:own/weights",
            "-p",
            "flow",
            "--on",
            "dgx-spark-gb10",
            "--nfe",
            "1",
            "--address",
            cluster.address,
        ]
        # The node ends with the thread that started it.
        with ThreadPoolExecutor(1) as thread:
            try:
                add = partial(cluster.add_node, **here, labels={"hardware": "dgx-spark-gb10"})
                thread.submit(start_without, tmp_path / "own", add).result()
                done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            finally:
                cluster.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = harness.read(tmp_path / "led")
    assert set(ledger.episodes["checkpoint"]) == {str(tmp_path / "own" / "weights"), "vla-harness/flow-teacher"}
    assert set(ledger.decisions["hardware"]) == {"dgx-spark-gb10"}
    assert set(ledger.latency["hardware"]) == {"dgx-spark-gb10"}
    assert list((tmp_path / "cache" / "checkpoints").iterdir())

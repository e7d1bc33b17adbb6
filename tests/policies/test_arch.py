"""Specification of `arch:NAME`: the work of an architecture file, as a policy that runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.cli.app import invoke
from harness.errors import HarnessError, PolicyError, SpecError, UsageError
from harness.latency.inputs import synthetic_observations
from harness.latency.operators import OperatorCounter
from harness.ledger import read
from harness.ledger.identities import read_policy_records
from harness.policies.base import TimedPolicy
from harness.policies.registry import POLICIES, make_policy
from harness.spec.architecture import load_architecture
from harness.spec.observation import CAMERAS
from harness.spec.policy import parse_policy

torch = pytest.importorskip("torch")

from harness.policies.arch import network, policy  # noqa: E402
from harness.policies.quantize import weight_bytes  # noqa: E402

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "A student of a size for tests",
    "source": "made up here",
    "precision": {"weights": "fp32", "compute": "fp32"},
    "cache": "fp32",
    "nfe": [1, 4],
    "towers": [
        {
            "name": "eye",
            "component": "vision",
            **{"layers": 1, "width": 16, "heads": 2, "mlp": 32, "bias": True, "tokens": 4, "sequences": 2},
            "dense": [
                {"name": "patch embedding", "inputs": 192, "outputs": 16, "tokens": 8},
                {"name": "projector", "inputs": 16, "outputs": 24, "tokens": 8},
            ],
        },
        {
            "name": "language",
            "component": "prefix",
            **{"layers": 2, "width": 24, "heads": 4, "kv_heads": 1, "head_dim": 8, "mlp": 32, "gated": True},
            **{"tokens": 32, "caches": True},
        },
        {
            "name": "expert",
            "component": "denoise_step",
            **{"layers": 2, "width": 16, "heads": 4, "kv_heads": 1, "head_dim": 8, "mlp": 32, "gated": True},
            **{"tokens": 12, "context": 32, "norms": False},
            "dense": [
                {"name": "time", "inputs": 16, "outputs": 16, "count": 2},
                {"name": "adaptive norms", "inputs": 16, "outputs": 48, "count": 5},
                {"name": "action in", "inputs": 8, "outputs": 16, "tokens": 12},
                {"name": "action out", "inputs": 16, "outputs": 8, "tokens": 12},
            ],
        },
    ],
    "resident": [
        {"name": "token embedding", "parameters": 24 * 512, "weights": "fp32"},
        {"name": "a head that nobody reads", "parameters": 1000, "weights": "fp32"},
    ],
    "variants": {
        "int8": {"title": "int8 products", "precision": {"weights": "int8", "compute": "int8"}},
        "int8-weights": {"title": "int8 weights", "precision": {"weights": "int8", "compute": "fp32"}},
    },
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory in which `arch:tiny` is known."""
    write(tmp_path, TINY)
    monkeypatch.chdir(tmp_path)


def write(folder: Path, architecture: dict[str, Any]) -> None:
    (folder / "architectures").mkdir(exist_ok=True)
    (folder / "architectures" / "tiny.yaml").write_text(yaml.safe_dump(architecture))


def changed(tower: int, **values: Any) -> dict[str, Any]:
    towers = [{**each, **(values if number == tower else {})} for number, each in enumerate(TINY["towers"])]
    return {**TINY, "towers": towers}


def noise(n: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 12, 8)).astype(np.float32)


@pytest.mark.parametrize("name", ["tiny", "tiny-int8", "tiny-int8-weights"])
def test_its_work_is_the_file_s(name: str) -> None:
    built = make_policy(parse_policy(f"arch:{name}?device=cpu"))
    assert isinstance(built, TimedPolicy)
    parts = [*built.network.parameters(), *built.network.buffers()]
    counter = OperatorCounter(parts)
    built.span = counter.span
    with counter:
        built.act(synthetic_observations(1), noise(), nfe=1)
    for work in load_architecture(name).work():
        (call,) = [call for call in counter.calls if call.component == work.component]
        assert call.flops_by_format == work.flops_by_format, work.component
    weights = load_architecture(name).memory_bytes - sum(
        work.kv_bytes for work in load_architecture(name).work() if work.component == "prefix"
    )
    held = weight_bytes(built.network) + sum(each.numel() * each.element_size() for each in built.network.buffers())
    # Scales, biases and norms of quantised layers stay in float: of layers as small as these, a good part.
    assert held == pytest.approx(weights, rel=0.15 if "int8" in name else 1e-3)


@pytest.mark.parametrize("name", ["pi05", "student-650m", "student-650m-int8"])
def test_shipped_architectures_are_built_whole(name: str) -> None:
    described = load_architecture(name)
    with torch.device("meta"):
        built = network.ArchNetwork(described.model_copy(update={"precision": load_architecture("pi05").precision}))
    count = sum(each.numel() for each in (*built.parameters(), *built.buffers()))
    assert count == pytest.approx(described.parameters, rel=2e-4)


def test_every_input_reaches_the_actions_and_the_seed_decides_the_weights() -> None:
    built, again, other = (make_policy(parse_policy(f"arch:tiny?device=cpu&seed={seed}")) for seed in (0, 0, 1))
    (seen,) = synthetic_observations(1)
    answer = built.act([seen], noise(), nfe=2).actions
    assert answer.shape == (1, 12, 7)
    assert np.array_equal(answer, again.act([seen], noise(), nfe=2).actions)
    assert not np.array_equal(answer, other.act([seen], noise(), nfe=2).actions)
    dark = [replace(seen, images={**seen.images, camera: 0 * seen.images[camera]}) for camera in CAMERAS]
    for unlike in (*dark, replace(seen, state=seen.state + 1), replace(seen, instruction="open the drawer")):
        assert not np.array_equal(answer, built.act([unlike], noise(), nfe=2).actions)
    assert not np.array_equal(answer, built.act([seen], noise(seed=1), nfe=2).actions)
    assert not np.array_equal(answer, built.act([seen], noise(), nfe=1).actions)
    assert built.info.default_nfe == 4
    assert "success is not" in built.warnings[0]


def test_what_does_not_fit_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "ArchNetwork", lambda _: pytest.fail("was built"))
    monkeypatch.setattr(policy.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    with pytest.raises(PolicyError, match=r"needs 0\.00 GB on cpu .*nothing was built.*tiny-int8"):
        make_policy(parse_policy("arch:tiny?device=cpu"))


def test_the_student_of_650m_parameters_fits_an_orin_nano() -> None:
    assert policy.HEADROOM * load_architecture("student-650m-int8").memory_bytes < 8e9 - 1.5e9


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (changed(2, context=31), "reads a cache"),
        (changed(1, tokens=8), "leaves none for the text"),
        (changed(0, tokens=5), "no square"),
        (changed(1, width=32), "gives tokens of width 24"),
        ({**TINY, "towers": TINY["towers"][:2]}, "has 0 towers of denoise_step"),
        ({**TINY, "precision": {"weights": "int4", "compute": "bf16"}}, "int4"),
    ],
)
def test_what_cannot_be_wired_is_refused_by_name(tmp_path: Path, architecture: dict[str, Any], said: str) -> None:
    write(tmp_path, architecture)
    with pytest.raises(SpecError, match=said):
        make_policy(parse_policy("arch:tiny?device=cpu"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("arch", "needs an architecture"), ("arch:tinny", "tiny"), ("arch:tiny?dtype=float32", "dtype")],
)
def test_a_wrong_request_is_refused_without_torch(text: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        POLICIES.check(parse_policy(text))


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without CUDA")
@pytest.mark.parametrize("option", ["device=cuda", "graphs=true"])
def test_a_device_that_is_not_here_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="CUDA"):
        make_policy(parse_policy(f"arch:tiny?{option}"))


CPU = """
name: cpu
title: This machine, at made-up rates
kind: cpu
labels: {accelerator: none}
bandwidth_gb_s: {value: 20, source: made up, confidence: inferred}
tflops: {fp32: {value: 0.05, source: made up, confidence: inferred}}
"""


def test_a_prediction_from_the_file_is_scored_by_a_probe_of_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hardware_profiles").mkdir()
    (tmp_path / "hardware_profiles" / "cpu.yaml").write_text(CPU)
    argv = ["probe", "-p", "arch:tiny?device=cpu", "--nfe", "1", "--launches", "1", "--min-seconds", "0.1"]
    assert invoke([*argv, "--min-samples", "3", "--warmup-seconds", "0.1", "--out", "ledger"]) == 0
    (record,) = read_policy_records(read("ledger").runs["policies"].dropna().iloc[-1]).values()
    assert set(record["identity"]) == {"weights", "configuration", "processors", "statistics"}
    capsys.readouterr()
    predicted = ["predict", "--architecture", "tiny", "--to", "cpu", "--nfe", "1,4", "--measured", "ledger"]
    assert invoke([*predicted, "--json", "-"]) == 0
    rows = yaml.safe_load(capsys.readouterr().out)["predictions"]
    assert [row["nfe"] for row in rows] == [1, 4]
    assert rows[0]["measured_ms"] > 0
    assert rows[1]["measured_ms"] is None

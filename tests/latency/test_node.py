"""Specification of the description of a node, its ceilings and its profile."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.errors import UsageError
from harness.latency import describe_node, synthetic_observations
from harness.latency.calibrate import (
    CPU_SIDES,
    LIMIT_S,
    Calibration,
    calibrate,
    copy_bytes,
    last_cache_bytes,
    matmul_rate,
)
from harness.latency.node import cpu_model, find_accelerator, hardware_of_node, instruction_set, versions
from harness.ledger.conform import to_table
from harness.spec.observation import CAMERAS


def test_a_description_is_a_row_of_the_ledger_and_names_this_machine() -> None:
    row = describe_node(run_id="r")
    assert to_table("nodes", [row]).num_rows == 1
    assert (row["run_id"], row["memory_bytes"]) == ("r", psutil.virtual_memory().total)
    assert row["cpu"]
    assert row["cores"] >= 1
    assert row["copy_gb_s"] is None
    assert row["node_id"] == describe_node()["node_id"]


def test_measured_ceilings_stand_in_the_row() -> None:
    row = describe_node(calibration=Calibration("cpu", 10.0, 0.2, 1.5))
    assert (row["copy_gb_s"], row["matmul_tflop_s"], row["launch_us"]) == (10.0, 0.2, 1.5)


def test_versions_are_read_without_importing_what_they_are_of() -> None:
    code = (
        "import sys; from harness.latency.node import describe_node; v = describe_node()['versions'];"
        "print(sorted(v), [m for m in ('torch', 'ray', 'mujoco', 'lerobot', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "'ray'" in done.stdout
    assert {"python", "harness"} <= set(versions(()))


def test_a_jetson_is_named_by_its_board_and_release(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    assert find_accelerator(root=tmp_path) == ("NVIDIA Jetson AGX Orin Developer Kit", "R36.4.3")
    assert find_accelerator("cpu", root=tmp_path) == (None, None)


def test_a_cpu_without_a_model_name_is_its_architecture(tmp_path: Path) -> None:
    assert cpu_model(tmp_path)


def test_a_copy_moves_several_caches_but_never_more_than_the_memory_allows() -> None:
    assert copy_bytes(None, 10**11) == 256 * 10**6
    assert copy_bytes(200 * 10**6, 10**11) == 400 * 10**6
    assert copy_bytes(900 * 10**6, 10**11) == 10**9
    assert copy_bytes(200 * 10**6, 16 * 10**8) == 200 * 10**6


def test_the_last_cache_is_the_largest_the_kernel_reports(tmp_path: Path) -> None:
    for n, size in enumerate(("48K", "2048K", "32M")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{n}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert last_cache_bytes(tmp_path) == 32 * 2**20
    assert last_cache_bytes(tmp_path / "nowhere") is None


def test_ceilings_of_this_cpu_are_measured_in_a_plausible_range() -> None:
    # The processor's own time: beside a neighbour, wall-clock seconds may all be gone before a product was timed.
    found = calibrate("cpu", time.process_time)
    assert found.device == "cpu"
    assert found.copy_gb_s is not None
    assert 0.1 < found.copy_gb_s < 2000
    assert found.matmul_tflop_s is not None
    assert 1e-4 < found.matmul_tflop_s < 100
    assert found.launch_us is not None
    assert 0.05 < found.launch_us < 10_000


@pytest.mark.parametrize("flop_s", [5e8, 5e9, 1e13], ids=["emulated format", "slow", "fast"])
def test_a_rate_is_found_in_bounded_time_however_slow_the_device(flop_s: float) -> None:
    elapsed = 0.0
    sides: list[int] = []

    def product_of(side: int) -> Callable[[], object]:
        def product() -> None:
            nonlocal elapsed
            sides.append(side)
            elapsed += 2 * side**3 / flop_s

        return product

    rate = matmul_rate(product_of, CPU_SIDES, lambda: None, lambda: elapsed)
    assert rate == pytest.approx(flop_s / 1e12)
    # One that has begun is finished.
    assert elapsed < 2 * LIMIT_S
    assert (sides[-1] == CPU_SIDES[-1]) == (flop_s > 1e12)


@pytest.mark.parametrize(
    ("tick_s", "said"),
    [(0.1, "fp32 products crawl here, at"), (3.0, "bf16 products are left out: the ceilings before them took 5 s")],
)
def test_products_that_crawl_or_for_which_no_time_is_left_are_named(tick_s: float, said: str) -> None:
    pytest.importorskip("torch")
    elapsed = itertools.count()
    found = calibrate("cpu", lambda: tick_s * next(elapsed))
    assert any(note.startswith(said) for note in found.notes), found.notes
    assert ("fp32" in found.matmul_by_format) == ("crawl" in said)


@pytest.mark.parametrize(
    ("cpuinfo", "isa"),
    [
        ("flags\t\t: fpu sse4_2 avx avx2 avx512f avx512_vnni\n", "avx512"),
        ("flags\t\t: fpu sse4_2 avx avx2\n", "avx2"),
        ("Features\t: fp asimd evtstrm aes\n", "neon"),
        ("Features\t: fp asimd sve sve2\n", "sve2"),
        ("processor\t: 0\n", None),
    ],
)
def test_the_widest_instruction_set_of_the_cpu_is_named(tmp_path: Path, cpuinfo: str, isa: str | None) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert instruction_set(tmp_path) == isa


@pytest.mark.gpu
def test_ceilings_of_a_gpu_are_measured_on_it() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    found = calibrate("cuda", time.perf_counter)
    assert found.device.startswith("cuda:")
    assert found.copy_gb_s is not None
    assert 30 < found.copy_gb_s < 10_000
    assert found.matmul_tflop_s is not None
    assert found.matmul_tflop_s > 1


def test_the_node_in_hand_has_the_hardware_it_matches_unless_another_is_named() -> None:
    node = {"node_id": "n", "accelerator": "NVIDIA L4", "memory_bytes": 64 * 10**9}
    assert hardware_of_node(None, node) == "l4"
    assert hardware_of_node("cpu", node) == "cpu"
    # Runs and probes say the same of a device without a profile.
    assert hardware_of_node(None, {**node, "accelerator": "Unheard Of"}) == "Unheard Of"
    with pytest.raises(UsageError, match="l40s"):
        hardware_of_node("l40s", node)


def test_synthetic_observations_have_liberos_shapes_and_come_from_their_seed() -> None:
    one, other = synthetic_observations(9)[8], synthetic_observations(9)[8]
    assert set(one.images) == set(CAMERAS)
    for camera in CAMERAS:
        assert one.images[camera].shape == (256, 256, 3)
        assert one.images[camera].std() > 10
        assert (one.images[camera] == other.images[camera]).all()
    assert one.state.shape == (8,)
    assert one.state.dtype == "float32"
    assert (synthetic_observations(1, seed=1)[0].images["agentview"] != one.images["agentview"]).any()

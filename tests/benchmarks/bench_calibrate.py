"""Are the ceilings that a probe records the device's? Against the best of hand-written loops, interleaved.

    python tests/benchmarks/bench_calibrate.py [--device cuda]

Prints, for copy bandwidth and every matmul format, what the calibration found, the best that a loop over sizes and
repetitions reaches in the same process, and their ratio; asked: at least 0.9.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

from harness.latency.calibrate import calibrate

ROUNDS = 3


def best_rate(action: Callable[[], object], work: float, device: torch.device, repeats: int = 10) -> float:
    """Most work a second over a few runs."""
    rates = []
    for calls in (1, 4, 16) if device.type == "cuda" else (1,):
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(calls):
                action()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            rates.append(calls * work / (time.perf_counter() - start))
    return max(rates)


def best_copy(device: torch.device) -> float:
    """Best copy over sizes that no cache holds, GB/s read plus written."""
    rates = []
    for megabytes in (256, 512, 1024):
        source = torch.ones(megabytes * 250_000, device=device)
        target = torch.zeros_like(source)
        rates.append(best_rate(lambda s=source, t=target: t.copy_(s), 2 * source.nbytes / 1e9, device))  # type: ignore[misc]
    return max(rates)


def best_matmul(device: torch.device, name: str) -> float:
    """Best square product over sides, TFLOP/s."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    rates = []
    for side in (4096, 6144, 8192, 12288) if device.type == "cuda" else (1024, 1536, 2048):
        left = torch.randn(side, side, device=device).to(dtype)
        out = torch.empty_like(left)
        repeats = 4 if device.type == "cuda" else 8
        rates.append(
            best_rate(lambda a=left, o=out: torch.mm(a, a, out=o), 2 * side**3 / 1e12, device, repeats)  # type: ignore[misc]
        )
    return max(rates)


def main() -> None:
    """Compare and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    formats = ("bf16", "fp16", "tf32", "fp32") if device.type == "cuda" else ("fp32", "bf16")
    found: dict[str, float] = {}
    best: dict[str, float] = {}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            ceilings = calibrate(str(device), time.perf_counter)
            now = {"copy_gb_s": ceilings.copy_gb_s or 0.0, **ceilings.matmul_by_format}
            loop = {"copy_gb_s": best_copy(device)} | {name: best_matmul(device, name) for name in formats}
            found = {name: max(now.get(name, 0.0), found.get(name, 0.0)) for name in loop}
            best = {name: max(value, best.get(name, 0.0)) for name, value in loop.items()}
    rows = {name: {"calibrated": found[name], "loop": best[name], "ratio": found[name] / best[name]} for name in best}
    print(json.dumps({"device": str(device), "ceilings": rows}, indent=2))


if __name__ == "__main__":
    main()

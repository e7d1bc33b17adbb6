"""Two sittings of one policy on one machine, and a planted slow-down: what `compare` and `gate` say of real launches.

    python tests/benchmarks/bench_latency_sittings.py --out reports/sittings [--policy flow] [--nfe 10] [--launches 5]

Probes the policy twice and, slowed by 10 %, once more; then asks that no rule FAILs between the two sittings and that
the interval of the median's ratio contains 1, and that the slowed one's excludes 1 and fails `max_ratio: 1.03`. Parts
can be run on different days: `--only first`, then `--only second,slowed,judge` with the same `--out`. Exit code 1 when
anything is otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gate import Verdict, gate
from harness.ledger import read
from harness.policies.registry import PolicyRequest, make_policy
from harness.spec.observation import ActionChunks, Observation, PolicyInfo
from harness.spec.policy import parse_policy
from harness.spec.rules import GateRules, LatencyRule

PARTS = ("first", "second", "slowed", "judge")
SLOWER = 0.10
LIMIT = 1.03


class Resting:
    """A policy that rests 20 ms: what a launch costs on a machine that others use is then known all the same."""

    def __init__(self, spec: PolicyRequest) -> None:
        """Nothing to build."""
        self.info = PolicyInfo(policy_id=spec.label, chunk_length=2)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Rest, then answer zeros."""
        time.sleep(0.02)
        return ActionChunks(np.zeros((len(observations), self.info.chunk_length, 7), dtype=np.float32))


class Slowed:
    """A policy whose every decision takes a tenth longer, and answers as before."""

    def __init__(self, spec: PolicyRequest) -> None:
        """Build the policy that the option `of` names."""
        self._policy: Any = make_policy(parse_policy(str(dict(spec.options)["of"])))
        self.info = self._policy.info
        self.device = getattr(self._policy, "device", None)
        self.provenance = getattr(self._policy, "provenance", {})

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide, then work on for a tenth of the time that it took."""
        began = time.perf_counter()
        answer: ActionChunks = self._policy.act(observations, noise, nfe=nfe)
        end = time.perf_counter()
        while time.perf_counter() < end + SLOWER * (end - began):
            pass
        return answer


def probe(part: str, options: argparse.Namespace) -> None:
    """One sitting, into a ledger of its own."""
    slowed = f"python:{Path(__file__).stem}:Slowed?of={options.policy}"
    command = [
        *(sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())"),
        *("probe", "--out", str(options.out / part)),
        *("--policy", slowed if part == "slowed" else options.policy, "--no-compare"),
        *(("--nfe", str(options.nfe)) if options.nfe else ()),
        *("--launches", str(options.launches), "--min-seconds", str(options.min_seconds)),
        *("--min-samples", "30", "--warmup-seconds", str(options.warmup_seconds)),
    ]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    print("$ harness", " ".join(command[3:]), flush=True)
    subprocess.run(command, check=True, env=environment)


def judge(out: Path) -> bool:
    """Print what is said of the pairs; whether all of it is as it should be."""
    rules = GateRules(latency=(LatencyRule(max_ratio=LIMIT),))
    for row in read(out / "first").nodes.to_dict("records"):
        print(f"machine: {row['cpu']}, {row['cores']} cores, {row['accelerator'] or 'no accelerator'}")
    as_asked = True
    for candidate in ("second", "slowed"):
        result = gate(out / "first", out / candidate, rules)
        (item,) = [one for one in result.comparison.latency if one.candidate.component == "e2e"]
        interval = item.median.interval
        told = interval and tuple(round(float(end), 4) for end in interval)
        print(f"first → {candidate}: median ratio {item.median.ratio:.4f} {told}")
        print(f"  {result.verdict}: {result.results[0].reason}")
        told = interval is not None and not item.median.within
        same = candidate == "second"
        good = result.verdict is not Verdict.FAIL if same else result.verdict is Verdict.FAIL
        as_asked &= told and good and interval is not None and interval.contains(1.0) is same
    return as_asked


def main() -> int:
    """Probe and judge; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", default="flow")
    parser.add_argument("--nfe", type=int, default=10, help="0: the policy's own, or none")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--min-seconds", type=float, default=3.0)
    parser.add_argument("--warmup-seconds", type=float, default=60.0)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    parts = options.only.split(",")
    for part in parts:
        if part != "judge":
            probe(part, options)
    return 0 if "judge" not in parts or judge(options.out) else 1


if __name__ == "__main__":
    sys.exit(main())

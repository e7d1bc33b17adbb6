"""How far students act from `flow`, and what each lost: the calibration of `harness agree`: table, JSON and figure.

    PYTHONPATH=examples python reports/examples/agree/calibrate.py

Two teachers play one episode of each of the first four tasks of libero_spatial: `flow` at NFE 10, and at NFE 1. Every
student is asked at each of their decisions, with the same noise. Success is that of ledgers, on libero_spatial:
`reports/examples/learned` for other NFE and the student, `ledger` beside this file for noise on actions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.agreement import collect
from harness.analysis.agreement import Decisions, distance_overall
from harness.analysis.paired.statistics import PairCounts, difference_bounds
from harness.latency.node import cpu_model
from harness.ledger import read
from harness.policies.base import Policy
from harness.policies.registry import make_policy
from harness.spec.observation import ActionChunks, Observation
from harness.spec.policy import parse_policy
from harness.spec.protocol import Protocol

HERE = Path(__file__).parent
LEARNED, NOISE = HERE.parent / "learned" / "ledger", HERE / "ledger"
SUITE, TASKS = "libero_spatial", 4


def students(noise: Path) -> list[tuple[int, str, int, Path]]:
    """(NFE of the teacher `flow`, student, its NFE, ledger of both)."""
    noisy = sorted(set(read(str(noise)).episodes["policy_id"]) - {"flow"})
    return [
        *((10, "flow", nfe, LEARNED) for nfe in (5, 2, 1)),
        *((10, "flow:student", nfe, LEARNED) for nfe in (10, 5, 2, 1)),
        *((1, policy, 1, noise) for policy in noisy),
    ]


class Watched:
    """A policy whose decisions are kept: what it saw, its noise, its chunks."""

    def __init__(self, inner: Policy) -> None:
        """Wrap it."""
        self.info, self._inner = inner.info, inner
        self.seen: list[tuple[Sequence[Observation], NDArray[np.float32] | None, NDArray[np.float32]]] = []

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Its own answer."""
        chunks = self._inner.act(observations, noise, nfe=nfe)
        self.seen.append((list(observations), None if noise is None else noise.copy(), np.array(chunks.actions)))
        return chunks


def play(nfe: int) -> Watched:
    """The teacher's episodes."""
    watched = Watched(make_policy(parse_policy("flow")))
    protocol = Protocol.model_validate({"preset": "lerobot"})
    idle = make_policy(parse_policy("flow"))
    collect(watched, idle, suite=SUITE, tasks=range(TASKS), init_states=1, protocol=protocol, nfe=(nfe, 1))
    return watched


def distance(watched: Watched, student: str, nfe: int) -> dict[str, float]:
    """Motion RMS over all chunk steps, and share of gripper commands of another sign."""
    policy = make_policy(parse_policy(student))
    answers = [np.array(policy.act(seen, noise, nfe=nfe).actions) for seen, noise, _ in watched.seen]
    found = Decisions(np.concatenate([own for _, _, own in watched.seen]), np.concatenate(answers))
    motion, gripper = distance_overall(found)
    return {"decisions": len(found.teacher), "motion": motion, "gripper": gripper}


def cost(ledger: Path, nfe: int, student: str, student_nfe: int) -> dict[str, Any]:
    """Success of both on the same episodes, and the difference with its 95 % bounds."""
    rows = read(str(ledger)).episodes
    rows = rows[(rows["suite"] == SUITE) & (rows["outcome"] != "error")]
    rows = rows.assign(solved=rows["outcome"] == "success")
    sides = [
        rows[(rows["policy_id"] == policy) & (rows["nfe"] == at)][["episode_key", "solved"]]
        for policy, at in (("flow", nfe), (student, student_nfe))
    ]
    both = sides[0].merge(sides[1], on="episode_key", suffixes=("_teacher", "_student"))
    counts = PairCounts.of(both["solved_teacher"].to_numpy(dtype=bool), both["solved_student"].to_numpy(dtype=bool))
    low, high = difference_bounds(counts.lost, counts.gained, counts.n)
    return {
        **{"pairs": counts.n, "lost": counts.lost, "gained": counts.gained},
        **{"teacher_rate": float(both["solved_teacher"].mean()), "student_rate": float(both["solved_student"].mean())},
        **{"difference": counts.difference, "low": float(low), "high": float(high)},
    }


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Success lost over distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="0.6", linewidth=0.8)
    for noisy, mark, label in ((False, "o", "other NFE, or the student"), (True, "s", "noise on actions")):
        chosen = [point for point in points if ("noisy" in point["student"]) == noisy]
        x, y = ([point[name] for point in chosen] for name in ("motion", "difference"))
        spread = [[p["difference"] - p["low"] for p in chosen], [p["high"] - p["difference"] for p in chosen]]
        axes.errorbar(x, 100 * np.array(y), 100 * np.array(spread), fmt=mark, capsize=3, label=label)
    axes.set(xlabel="motion RMS to the teacher (action units)", ylabel="success, points (95 %)")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", type=Path, default=NOISE, help="ledger of flow and its noisy variants at NFE 1")
    parser.add_argument("--out", type=Path, default=HERE / "calibration.json", help="the points")
    parser.add_argument("--figure", type=Path, default=HERE.parents[2] / "docs" / "images" / "agree.png")
    asked = parser.parse_args()
    teachers = {nfe: play(nfe) for nfe in (10, 1)}
    points = [
        {"teacher": f"flow @ NFE {nfe}", "student": f"{student} @ NFE {at}"}
        | distance(teachers[nfe], student, at)
        | cost(ledger, nfe, student, at)
        for nfe, student, at, ledger in students(asked.noise)
    ]
    points.sort(key=lambda point: point["motion"])
    for p in points:
        print(
            f"| {p['student']} | {p['teacher']} | {p['motion']:.3f} | {100 * p['gripper']:.1f} % | "
            f"{100 * p['teacher_rate']:.1f} → {100 * p['student_rate']:.1f} % | "
            f"{100 * p['difference']:+.1f} [{100 * p['low']:+.1f}, {100 * p['high']:+.1f}] | {p['pairs']} |"
        )
    told = {"suite": SUITE, "tasks": TASKS, "cpu": cpu_model(), "points": points}
    asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draw(points, asked.figure)


if __name__ == "__main__":
    main()

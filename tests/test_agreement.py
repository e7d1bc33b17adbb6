"""Teacher and student on the same observations and noise: distances, refusals, and a real student on real LIBERO."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.agreement import Shadowed, collect
from harness.analysis.agreement import Decisions, distance_by_dimension, distance_by_step
from harness.cli.app import invoke
from harness.errors import UsageError
from harness.policies.base import PolicyInfo
from harness.policies.registry import make_policy
from harness.spec.observation import ActionChunks, Observation
from harness.spec.policy import parse_policy
from harness.spec.protocol import Protocol


def test_distances_are_those_that_were_added() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.normal(0, 2, (400, 10, 7)).astype(np.float32)
    student = teacher.copy()
    student[..., 2] += 0.5
    student[:, 4, 6] *= -1
    by_dimension = distance_by_dimension(Decisions(teacher, student)).set_index("dimension")
    assert by_dimension.loc["z", "rms"] == pytest.approx(0.5, rel=1e-5)
    assert by_dimension.loc["z", "share"] == pytest.approx(0.25, rel=0.05)
    assert by_dimension.loc["x", "rms"] == 0
    by_step = distance_by_step(Decisions(teacher, student))
    assert by_step["motion"].to_numpy() == pytest.approx(np.full(10, 0.5 / np.sqrt(6)), rel=1e-5)
    assert by_step["gripper"].tolist() == [0.0] * 4 + [1.0] + [0.0] * 5


def test_a_dimension_in_which_the_teacher_never_moves_has_no_share() -> None:
    still = np.zeros((3, 2, 7), dtype=np.float32)
    assert distance_by_dimension(Decisions(still, still + 1))["share"].isna().all()


class Echo:
    """Acts the noise it was given, plus a constant; remembers what it saw."""

    def __init__(self, add: float, info: PolicyInfo) -> None:
        """Add `add` to each action."""
        self.add, self.info = add, info
        self.seen: list[tuple[str, int, float]] = []

    def act(self, observations: Sequence[Observation], noise: Any, *, nfe: int | None = None) -> ActionChunks:
        self.seen += [
            (seen.episode_key, seen.decision, float(row.sum())) for seen, row in zip(observations, noise, strict=True)
        ]
        return ActionChunks(np.clip(noise[..., :7] * 0.1 + self.add, -1, 1).astype(np.float32))


def echo(add: float) -> Echo:
    info = make_policy(parse_policy("flow?weights=random")).info
    return Echo(add, info)


def test_both_see_the_same_observations_with_the_same_noise_and_the_teacher_is_obeyed() -> None:
    teacher, student = echo(0.0), echo(0.2)
    protocol = Protocol.model_validate({"preset": "stub"})
    found = collect(teacher, student, suite="stub", tasks=[0], init_states=2, protocol=protocol, world="stub")
    assert teacher.seen == student.seen
    assert len({key for key, _, _ in teacher.seen}) == 2
    assert found.student - found.teacher == pytest.approx(0.2, abs=1e-5)


def test_policies_that_look_at_other_things_are_refused() -> None:
    flow, blind = make_policy(parse_policy("flow?weights=random")), make_policy(parse_policy("noop"))
    with pytest.raises(UsageError, match="cannot be compared decision by decision"):
        Shadowed(flow, blind, None)


def test_a_teacher_agrees_with_itself_and_a_student_does_not_quite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "agree.json"
    argv = ["agree", "flow", "flow:student", "--tasks", "1", "--nfe", "10", "--student-nfe", "1", "--json", str(out)]
    assert invoke(argv) == 0
    assert "No other policy is calibrated" in " ".join(capsys.readouterr().out.split())
    found = json.loads(out.read_text())
    moves = {row["dimension"]: row["share"] for row in found["dimensions"]}
    assert 0 < moves["x"] < 0.5
    assert 0 < moves["z"] < 0.5
    same = collect(
        *(make_policy(parse_policy("flow")) for _ in range(2)),
        suite="libero_spatial",
        tasks=[0],
        init_states=1,
        protocol=Protocol.model_validate({"preset": "lerobot"}),
        nfe=(1, 1),
    )
    assert np.array_equal(same.teacher, same.student)

"""Distances between two policies' actions."""

from __future__ import annotations

from typing import Any

from harness.analysis.agreement import Decisions, distance_by_dimension, distance_by_step, distance_overall
from harness.report.format import count, number, percent
from harness.report.tables.table import Table, records


def agreement_tables(found: Decisions, teacher: str, student: str) -> list[Table]:
    """By dimension, and by step of the chunk."""
    decisions, steps, _ = found.teacher.shape
    shown = sorted({round(place) for place in (0, *(k * (steps - 1) / 5 for k in range(1, 6)))})
    by_step = records(distance_by_step(found))
    motion, gripper = distance_overall(found)
    return [
        Table(
            f"{student} against {teacher}: by dimension",
            ("dimension", "RMS", "of spread", "95 % below"),
            tuple(
                (row["dimension"], number(row["rms"]), percent(row["share"]), number(row["p95"]))
                for row in records(distance_by_dimension(found))
            ),
            1,
            f"{count(decisions)} decisions of the teacher's episodes, {steps} steps of each chunk; action units (1.0 "
            "commands 5 cm or 0.5 rad). of spread: RMS over the standard deviation of the teacher's own actions.",
        ),
        Table(
            "By step of the chunk",
            ("step", "motion RMS", "gripper differs"),
            (
                *(
                    (count(by_step[k]["step"]), number(by_step[k]["motion"]), percent(by_step[k]["gripper"]))
                    for k in shown
                ),
                ("all", number(motion), percent(gripper)),
            ),
            1,
            "What a distance costs in success depends on policy and task. On flow a motion RMS of up to 0.08 over all "
            "steps cost nothing in 500 episodes, 0.46 most of them (reports/examples/agree). No other policy is "
            "calibrated.",
        ),
    ]


def agreement_json(found: Decisions, teacher: str, student: str) -> dict[str, Any]:
    """Both tables whole."""
    return {
        "teacher": teacher,
        "student": student,
        "decisions": len(found.teacher),
        "motion": distance_overall(found)[0],
        "gripper": distance_overall(found)[1],
        "dimensions": distance_by_dimension(found).to_dict("records"),
        "steps": distance_by_step(found).to_dict("records"),
    }

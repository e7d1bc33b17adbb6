"""The list of episodes as compact data of the page: one array a column, text spelled once."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis.episode_list import MOTION, TIMES, episode_decisions, episode_motion
from harness.analysis.summary import Summary
from harness.report.films import Films
from harness.report.format import known, task_name, text
from harness.report.names import VariantNames
from harness.report.tables.table import records

KEY_LENGTH = 16
"""Digits of an episode key in the page: `harness replay` takes the beginning of one."""


def episode_data(summary: Summary, names: VariantNames, films: Films) -> dict[str, Any]:
    """What the page's script reads: columns of the list, decisions and motion of what failed, and how to replay.

    Args:
        summary: Of the ledger.
        names: Names of the policies.
        films: Where videos lie, seen from the page.
    """
    listed = summary.episode_list
    rows = records(listed)
    texts = {
        "policy": [names.of(row) for row in rows],
        "suite": [text(row["suite"]) for row in rows],
        "task": [f"{row['task_id'] if known(row['task_id']) else ''} {task_name(row['task'])}".strip() for row in rows],
        "outcome": [text(row["outcome"]) for row in rows],
        "error": [
            ": ".join(str(row[name]) for name in ("error_type", "error_message") if known(row[name])) for row in rows
        ],
        "held": [_held(row) for row in rows],
        "timing": [
            f"{text(row['clock'])}|{row['latency_source'] if known(row['latency_source']) else ''}" for row in rows
        ],
        "replay": [_replay(summary, row) for row in rows],
    }
    numbers = {name: _whole(listed[name]) for name in ("init_state_id", "trial", "steps", "decisions")}
    return {
        "texts": {name: _coded(values) for name, values in texts.items()},
        "numbers": numbers,
        "key": _short_keys([str(row["episode_key"]) if known(row["episode_key"]) else "" for row in rows]),
        "flipped": [int(row["flipped"]) for row in rows],
        "control": [int(row["control"]) for row in rows],
        "video": [films.addresses.get(str(row["video"])) for row in rows],
        "motion": {
            place: [[round(value, 3) for value in motion[name]] for name in MOTION]
            for place, motion in episode_motion(summary.ledger, listed).items()
        },
        "flights": {
            place: _decision_columns(rows) for place, rows in episode_decisions(summary.ledger, listed).items()
        },
    }


def _short_keys(keys: Sequence[str]) -> list[str]:
    """Keys as far as they tell episodes apart: digests do in their first digits, keys of other tools may not."""
    short = [key[:KEY_LENGTH] for key in keys]
    return short if len(set(short)) == len(set(keys)) else list(keys)


def _held(row: Mapping[str, Any]) -> str:
    """Which predicates of the goal held, as far as the world tells."""
    if not known(row["goals"]):
        return ""
    best = f"{int(row['goals_held_best'])} of {int(row['goals'])} goals held" if known(row["goals_held_best"]) else ""
    end = f"{int(row['goals_held_end'])} at the end" if known(row["goals_held_end"]) else ""
    stage = str(row["stage"]).replace("_", " ") if known(row["stage"]) else ""
    return ", ".join(filter(None, (best, end, f"stage {stage}" if stage else "")))


def _replay(summary: Summary, row: Mapping[str, Any]) -> str:
    """The command without the episode's key, which the page's script adds."""
    nfe = ["--nfe", str(int(row["nfe"]))] if known(row["nfe"]) else []
    policy = ["--policy", str(row["policy_id"])] if known(row["policy_id"]) else []
    return shlex.join(["harness", "replay", summary.ledger.paths[0], "KEY", *policy, *nfe])


def _coded(values: Sequence[str]) -> dict[str, Any]:
    distinct = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return {"values": list(distinct), "codes": [distinct[value] for value in values]}


def _whole(values: Iterable[Any]) -> list[int | None]:
    return [int(value) if known(value) else None for value in values]


def _decision_columns(rows: pd.DataFrame) -> list[list[float | None]]:
    """Queue, inference and transport in ms, and delay steps."""
    times: list[list[float | None]] = [
        [round(float(value), 2) if known(value) else None for value in rows[name]] for name in TIMES
    ]
    return [*times, list(_whole(rows["delay_steps"]))]

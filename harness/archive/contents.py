"""What an archive says in its `record.json`: read without Parquet, and all that a rerun is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import yaml

from harness.errors import HarnessError, UsageError
from harness.ledger.reader import Ledger
from harness.spec import Suite
from harness.spec.identity import digest_of
from harness.spec.resolve import parse
from harness.worlds.registry import get_world

FORMAT = 1
"""Version of the archive: 1, the first."""
IDENTITY = ("suite", "task_id", "init_state_id", "trial", "policy_id", "nfe", "clock", "latency_source")
"""What an episode is, whatever protocol it was played under."""
OUTCOME = ("episode_key", "outcome", "steps", "decisions", "trajectory_sha256", "checkpoint_sha256", "hardware")
RUN = ("run_id", "suite", "protocol", "protocol_sha256", "git_revision", "versions", "started_at", "ended_at", "status",
       "policies", "timing")  # fmt: skip
NODE = (
    "run_id",
    "hardware",
    "cpu",
    "cores",
    "memory_bytes",
    "accelerator",
    "driver",
    "isa",
    "threads",
    "gl",
    "versions",
)
"""What is said of machines; their host names stay in the tables."""


def record_of(ledger: Ledger, *, harness_version: str, exported_at: datetime) -> dict[str, Any]:
    """Gather what a stranger needs to run a ledger again and to hold the result against it.

    Args:
        ledger: The ledger.
        harness_version: Of this installation.
        exported_at: Time of day, UTC.

    Raises:
        UsageError: It does not say how it was run (an import), or holds several suites.
    """
    suite = suite_of(ledger)
    return {
        "format": FORMAT,
        "harness": harness_version,
        "exported_at": exported_at.isoformat(),
        "suite": suite.to_yaml(),
        "runs": _plain(ledger.runs, RUN),
        "nodes": _plain(ledger.nodes, NODE),
        "fixtures": fixtures_of(suite),
        "episodes": episodes_of(ledger),
    }


def episodes_of(ledger: Ledger) -> list[dict[str, Any]]:
    """Every episode that counts, with how it ended."""
    return _plain(ledger.episodes, (*IDENTITY, *OUTCOME))


def suite_of(ledger: Ledger) -> Suite:
    """The suite of a ledger, as its runs recorded it.

    Raises:
        UsageError: It holds none that can be run again, or several.
    """
    texts = {str(text) for text in ledger.runs["suite"].dropna() if _runs(str(text))}
    if len(texts) != 1:
        told = "several suites" if texts else "no suite that can be run again (an import, or probes alone)"
        raise UsageError(f"{ledger.path!r} holds {told}; an archive is of one suite.")
    return parse(Suite, yaml.safe_load(texts.pop()), ledger.path)


def _runs(text: str) -> bool:
    data = yaml.safe_load(text or "")
    return isinstance(data, dict) and bool(data.get("policies")) and bool(data.get("tasks"))


def fixtures_of(suite: Suite) -> dict[str, str | None]:
    """Digest of what each task suite gives an episode: tasks, instructions and the values of all init states.

    Returns:
        Task suite → 64 hex digits; None where this installation does not have it.
    """
    found: dict[str, str | None] = {}
    for name in dict.fromkeys(tasks.suite for tasks in suite.tasks):
        try:
            described = get_world(suite.world).describe(name)
        except HarnessError:
            found[name] = None
            continue
        parts = [described.tasks, described.instructions, described.n_init_states, described.init_states_sha256]
        found[name] = digest_of([list(part) if isinstance(part, tuple) else part for part in parts])
    return found


def _plain(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    held = [name for name in columns if name in frame.columns]
    return [{name: _value(row[name]) for name in held} for row in frame[held].astype(object).to_dict("records")]


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        # pyarrow gives maps as lists of pairs.
        return {str(name): _value(each) for name, each in value} if _pairs(value) else [_value(each) for each in value]
    if isinstance(value, pd.Timestamp):
        return None if value is pd.NaT else value.isoformat()
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") else value


def _pairs(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(each, tuple) and len(each) == 2 for each in value)

"""LeRobot's `eval_info.json`, written from a ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError
from harness.ledger.reader import Ledger
from harness.spec.policy import PolicyAtNfe


def export_eval_info(ledger: Ledger, *, policy: str | None = None, nfe: int | None = None) -> dict[str, Any]:
    """Build the content of an `eval_info.json` in LeRobot 0.6's form.

    Rewards are LIBERO's: 1 at the step that succeeds, where the episode ends, and 0 before. Infrastructure errors are
    left out, since the form cannot tell them from failures; `eval_s` is NaN where the ledger has no times.

    Args:
        ledger: From `harness.read`.
        policy: Which policy, if the ledger has several.
        nfe: Which NFE, if the policy ran at several.

    Raises:
        UsageError: The ledger has no such episodes, or those of several policies or NFE.
    """
    episodes = ledger.episodes[ledger.episodes["outcome"] != "error"]
    if policy is not None:
        episodes = episodes[episodes["policy_id"] == policy]
    if nfe is not None:
        episodes = episodes[episodes["nfe"] == nfe]
    variants = episodes[["policy_id", "nfe"]].drop_duplicates()
    if len(variants) != 1:
        pairs = variants.astype(object).where(variants.notna(), None).itertuples(index=False)
        found = ", ".join(PolicyAtNfe(name, value and int(value)).label for name, value in pairs) or "none"
        raise UsageError(f"eval_info.json holds one policy at one NFE; {ledger.path!r} has {found}. Choose one.")
    ordered = episodes.sort_values(["suite", "task_id", "init_state_id", "trial"], kind="stable")
    per_task = [
        {
            "task_group": str(suite),
            "task_id": int(task_id),
            "metrics": _metrics(group["outcome"].tolist(), group["video"].tolist()),
        }
        for (suite, task_id), group in _by_task(ordered)
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in per_task:
        groups.setdefault(str(entry["task_group"]), []).append(entry)
    begun, ended = ordered["started_at"].min(), ordered["started_at"] + _seconds(ordered["wall_s"])
    elapsed = (ended.max() - begun).total_seconds()
    overall = _aggregate(per_task)
    return {
        "per_task": per_task,
        "per_group": {group: _aggregate(entries) for group, entries in groups.items()},
        "overall": {**overall, "eval_s": elapsed, "eval_ep_s": elapsed / len(ordered)},
    }


def render_eval_info(content: Mapping[str, Any]) -> str:
    """Serialise as LeRobot does: indented by 2, NaN allowed."""
    return json.dumps(content, indent=2) + "\n"


def _metrics(outcomes: Sequence[str], videos: Sequence[Any]) -> dict[str, list[Any]]:
    successes = [outcome == "success" for outcome in outcomes]
    rewards = [float(success) for success in successes]
    return {
        "sum_rewards": rewards,
        "max_rewards": list(rewards),
        "successes": successes,
        "video_paths": [video for video in videos if isinstance(video, str)],
        "predicted_video_paths": [],
    }


def _aggregate(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metrics = [entry["metrics"] for entry in entries]
    rewards = [reward for one in metrics for reward in one["sum_rewards"]]
    mean = sum(rewards) / len(rewards) if rewards else math.nan
    return {
        "avg_sum_reward": mean,
        "avg_max_reward": mean,
        "pc_success": 100 * mean,
        "n_episodes": len(rewards),
        "video_paths": [video for one in metrics for video in one["video_paths"]],
        "predicted_video_paths": [],
    }


def _by_task(episodes: Any) -> Any:
    return episodes.groupby(["suite", "task_id"], sort=True)


def _seconds(values: Any) -> Any:
    import pandas as pd

    return pd.to_timedelta(values.astype(float), unit="s")

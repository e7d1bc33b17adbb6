"""LeRobot's `eval_info.json`: read into a ledger, and written from one.

Two forms are read: `per_task` (LeRobot 0.4 to 0.6, one entry per suite and task) and the older `per_episode` with
`aggregated` (one environment, no suite). Neither states protocol, init states, episode lengths, versions or hardware:
those stay null. Rewards have no place in a ledger; the file's `overall` block is kept with the run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError
from harness.ledger.reader import Ledger
from harness.ledger.writer import LedgerWriter
from harness.spec.manifest import canonical_json, manifest_sha256

SOURCE = "lerobot eval_info.json"
"""`source` in the protocol manifest of what was imported. Such ledgers pair with each other, never with the harness's
own runs: what decided their scores is not known."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    run_id: str
    episodes: int
    successes: int
    unknown: int
    """Episodes whose success the file does not state (null or NaN): they became errors."""


def import_eval_info(source: str | Path, out: str | Path, *, policy: str | None = None) -> Imported:
    """Write an `eval_info.json` as a ledger.

    Args:
        source: The file. NaN and Infinity, which Python writes, are accepted.
        out: Directory or URI of the new ledger.
        policy: What to call the policy; the file does not say. Null when not given.

    Raises:
        UsageError: The file is missing, is no JSON, or has neither of the two forms.
        LedgerError: `out` holds another ledger or cannot be written.
    """
    text = _read(Path(source))
    episodes = list(_episodes(text.data, str(source)))
    digest = hashlib.sha256(text.raw).hexdigest()
    suites = sorted({str(row["suite"]) for row in episodes if row["suite"] is not None})
    manifests = {suite: {"suite": suite, "source": SOURCE} for suite in suites}
    protocol_sha256 = manifest_sha256({"manifests": manifests})
    run_id = f"import-{digest[:12]}"
    aggregated = text.data.get("overall") or text.data.get("aggregated") or {}
    description = {"name": "eval_info", "source": SOURCE, "sha256": digest, "overall": _plain(aggregated)}
    suite_yaml = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    protocol = canonical_json(manifests)
    writer = LedgerWriter(out)
    writer.claim(suite_yaml, protocol, protocol_sha256)
    run = {"run_id": run_id, "suite": suite_yaml, "protocol": protocol, "protocol_sha256": protocol_sha256}
    writer.append("episodes", [{**row, "run_id": run_id, "policy_id": policy} for row in episodes])
    writer.append("runs", [{**run, "status": "imported"}])
    outcomes = [row["outcome"] for row in episodes]
    return Imported(run_id, len(episodes), outcomes.count("success"), outcomes.count("error"))


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
        found = ", ".join(f"{row.policy_id} at NFE {row.nfe}" for row in variants.itertuples()) or "none"
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


@dataclass(frozen=True)
class _Text:
    raw: bytes
    data: dict[str, Any]


def _read(source: Path) -> _Text:
    try:
        raw = source.read_bytes()
        data = json.loads(raw)
    except OSError as error:
        raise UsageError(f"Cannot read {source}: {error.strerror}. Give the path of an eval_info.json.") from error
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}. Give the eval_info.json that lerobot-eval wrote.") from error
    if not isinstance(data, dict):
        raise UsageError(f"{source} holds a {type(data).__name__}, where eval_info.json holds an object.")
    return _Text(raw, data)


def _episodes(data: Mapping[str, Any], source: str) -> Iterator[dict[str, Any]]:
    if isinstance(data.get("per_task"), list):
        for entry in data["per_task"]:
            yield from _of_task(entry, source)
    elif isinstance(data.get("per_episode"), list):
        videos = _videos(data.get("video_paths"))
        for place, episode in enumerate(data["per_episode"]):
            if not isinstance(episode, dict):
                raise UsageError(f"{source}: per_episode[{place}] is {episode!r}, where an object is expected.")
            index = episode.get("episode_ix", place)
            yield _row(None, None, index, episode.get("success"), videos.get(index), seed=episode.get("seed"))
    else:
        raise UsageError(
            f"{source} has neither `per_task` nor `per_episode`, so its episodes are not known. "
            f"It has: {', '.join(map(str, data)) or 'nothing'}."
        )


def _of_task(entry: Any, source: str) -> Iterator[dict[str, Any]]:
    metrics = entry.get("metrics") if isinstance(entry, dict) else None
    successes = metrics.get("successes") if isinstance(metrics, dict) else None
    if not isinstance(successes, list) or not isinstance(metrics, dict):
        raise UsageError(f"{source}: an entry of per_task has no metrics.successes: {str(entry)[:120]!r}.")
    videos = _videos(metrics.get("video_paths"))
    for index, success in enumerate(successes):
        yield _row(entry.get("task_group"), entry.get("task_id"), index, success, videos.get(index))


def _row(
    suite: str | None, task_id: int | None, index: int, success: Any, video: str | None, seed: int | None = None
) -> dict[str, Any]:
    """One episode. The key says what the file says about the episode, so that two files pair by position."""
    known = isinstance(success, bool | int | float) and not math.isnan(success)
    place = {"source": SOURCE, "task_group": suite, "task_id": task_id, "episode": index, "seed": seed}
    row = {
        "episode_key": manifest_sha256(place),
        "suite": suite,
        "task_id": task_id,
        "trial": index,
        "outcome": ("success" if success else "timeout") if known else "error",
        "success": bool(success) if known else None,
        "video": video,
    }
    if not known:
        row |= {"error_type": "UnknownOutcome", "error_message": f"eval_info.json states success as {success!r}."}
    return row


def _videos(paths: Any) -> dict[int, str]:
    """Episode index → video: LeRobot films the first few episodes of a task as eval_episode_INDEX.mp4."""
    found = {}
    for path in paths if isinstance(paths, list) else []:
        match = re.search(r"eval_episode_(\d+)\.\w+$", str(path))
        if match:
            found[int(match.group(1))] = str(path)
    return found


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


def _plain(value: Any) -> Any:
    """The aggregated block without its long lists, and with null for NaN: what YAML and every reader can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if not isinstance(inner, list)}
    return None if isinstance(value, float) and not math.isfinite(value) else value

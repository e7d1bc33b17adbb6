"""LeRobot's `eval_info.json`, read into a ledger.

Two forms are read: `per_task` (LeRobot 0.4 to 0.6, one entry per suite and task) and the older `per_episode` with
`aggregated` (one environment, no suite). Neither states protocol, init states, episode lengths, versions or hardware:
those stay null. Rewards have no place in a ledger; the file's `overall` block is kept with the run.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError
from harness.ledger.writer import LedgerWriter
from harness.spec.manifest import canonical_json, manifest_sha256
from harness.spec.policy import holds_control
from harness.strict_json import RepeatedKey, unique_keys

SOURCE = "lerobot eval_info.json"
"""`source` in the protocol manifest of what was imported. Such ledgers pair with each other, never with the harness's
own runs: what decided their scores is not known."""

UNKNOWN_OUTCOME = "UnknownOutcome"
"""`error_type` of an episode whose success the file does not state: it counts in no rate, and nothing broke."""

MAX_BYTES = 256 * 2**20
"""Largest file that is read; a million episodes take some 50 MB."""

ROUNDING = 0.06
"""Percentage points by which a file's own rate may differ from its episodes': they are written with one decimal."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote."""

    run_id: str
    episodes: int
    successes: int
    unknown: int
    """Episodes whose success the file does not state (null): they became errors of type `UNKNOWN_OUTCOME`."""
    warnings: tuple[str, ...] = ()
    """Where a file contradicts itself, or repeats a task."""


@dataclass
class _Found:
    """What one or several files hold."""

    success_at: float | None = None
    """Score from which an episode is a success; None where the files hold truth values."""
    episodes: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """Episodes so far of each (suite, task, seed)."""


def import_eval_info(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    policy: str | None = None,
    success_at: float | None = None,
) -> Imported:
    """Write one or several `eval_info.json` as one ledger.

    A task that is listed more than once (merged seeds, shards) is numbered on: every episode of the files is a row.

    Args:
        source: The file, or several (one per suite, say). NaN and Infinity, which Python writes, are
            accepted outside of successes.
        out: Directory or URI of the new ledger.
        policy: What to call the policy; the file does not say. Null when not given.
        success_at: Read what stands for success as a score, which is a success from here on. It becomes part of the
            manifests and of the episode keys: ledgers of another threshold, or of truth values, do not pair with it.
            None takes truth values only.

    Raises:
        UsageError: `success_at` is not finite; `policy` holds a control character; a file is missing, is given twice,
            is no JSON, has a key twice, has neither of the two forms, holds no episode, or states something that is no
            success or no task; names the place in the file.
        LedgerError: `out` holds another ledger or cannot be written.
    """
    sources = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if success_at is not None and not math.isfinite(success_at):
        raise UsageError(f"--success-at is {success_at}, where a finite score is expected.")
    if policy is not None and holds_control(policy):
        raise UsageError(f"--policy {policy!r} holds a line break or another control character; leave it out.")
    found, overall = _Found(success_at), {}
    read: dict[str, Path] = {}
    for path in sources:
        raw = _read(path)
        digest = hashlib.sha256(raw).hexdigest()
        if digest in read:
            raise UsageError(
                f"{path} and {read[digest]} are the same file, byte for byte: each of its episodes would count twice. "
                "Name it once."
            )
        read[digest] = path
        data = _unwrapped(_parse(raw, path), path)
        _collect(data, path, found)
        overall[str(path)] = _plain(data.get("overall") or data.get("aggregated") or {})
    suites = sorted({str(row["suite"]) for row in found.episodes if row["suite"] is not None})
    scored = {} if success_at is None else {"success_at": success_at}
    manifests = {suite: {"suite": suite, "source": SOURCE, **scored} for suite in suites}
    digest = next(iter(read)) if len(read) == 1 else hashlib.sha256("".join(read).encode()).hexdigest()
    described: Any = next(iter(overall.values())) if len(overall) == 1 else overall
    description = {"name": "eval_info", "source": SOURCE, "sha256": digest, "overall": described, **scored}
    run = {
        "run_id": f"import-{digest[:12]}" + (f"-at-{success_at:g}" if scored else ""),
        "suite": yaml.safe_dump(description, sort_keys=False, allow_unicode=True),
        "protocol": canonical_json(manifests),
        "protocol_sha256": manifest_sha256({"manifests": manifests, **scored}),
    }
    writer = LedgerWriter(out)
    if warning := writer.location.partition_warning:
        found.warnings.append(warning)
    writer.claim(run["suite"], run["protocol"], run["protocol_sha256"])
    writer.append("episodes", [{**row, "run_id": run["run_id"], "policy_id": policy} for row in found.episodes])
    writer.append("runs", [{**run, "status": "imported"}])
    outcomes = [row["outcome"] for row in found.episodes]
    return Imported(
        run["run_id"], len(outcomes), outcomes.count("success"), outcomes.count("error"), tuple(found.warnings)
    )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} has more than {MAX_BYTES // 2**20} MiB: it is no eval_info.json.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}. Give the path of an eval_info.json.") from error


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(raw, object_pairs_hook=unique_keys)
    except RepeatedKey as error:
        raise UsageError(f"{path} contradicts itself: {error}. Leave one of them out.") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply: it is no eval_info.json.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}. Give the eval_info.json that lerobot-eval wrote.") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds a {type(data).__name__}, where eval_info.json holds an object.")
    return data


def _unwrapped(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """The results themselves, also where they are the only ones under a key of their own."""
    if _is_result(data):
        return data
    wrapped = {key: value for key, value in data.items() if isinstance(value, dict) and _is_result(value)}
    if len(wrapped) == 1:
        return next(iter(wrapped.values()))
    if wrapped:
        raise UsageError(
            f"{path} holds {len(wrapped)} results, under {_listed(wrapped)}. Write each to a file of its own and "
            "import those that belong to one policy together."
        )
    raise UsageError(
        f"{path} has neither `per_task` nor `per_episode`, so its episodes are not known. "
        f"It has: {_listed(data) or 'nothing'}."
    )


def _is_result(data: Mapping[str, Any]) -> bool:
    return "per_task" in data or "per_episode" in data


def _listed(names: Mapping[str, Any]) -> str:
    shown = [_shown(name).strip("'\"") for name in list(names)[:10]]
    return ", ".join(shown) + (", …" if len(names) > 10 else "")


def _collect(data: Mapping[str, Any], path: Path, found: _Found) -> None:
    before = len(found.episodes)
    for form, reader in (("per_task", _of_tasks), ("per_episode", _of_episodes)):
        entries = data.get(form)
        if entries is not None and not isinstance(entries, list):
            raise UsageError(
                f"{path}: {form} is {_kind(entries)}, where a list is expected: one entry per "
                f"{'task, with task_group, task_id and metrics.successes' if form == 'per_task' else 'episode'}."
            )
        if entries and len(found.episodes) > before:
            raise UsageError(f"{path} has both `per_task` and `per_episode`; leave one of them out.")
        for row in reader(entries or [], data, path, found):
            found.episodes.append(row)
    episodes = found.episodes[before:]
    if not episodes:
        raise UsageError(f"{path} holds no episodes. Give a file whose evaluation has run.")
    _check_overall(data, episodes, path, found)


def _of_tasks(entries: Sequence[Any], data: Mapping[str, Any], path: Path, found: _Found) -> Iterator[dict[str, Any]]:
    del data
    for place, entry in enumerate(entries):
        where = f"{path}: per_task[{place}]"
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        successes = metrics.get("successes") if isinstance(metrics, dict) else None
        if not isinstance(entry, dict) or not isinstance(metrics, dict) or not isinstance(successes, list):
            raise UsageError(f"{where} has no metrics.successes, a list with one value per episode: {_shown(entry)}.")
        suite, task_id = _suite(entry.get("task_group"), where), _task_id(entry.get("task_id"), where)
        videos = _videos(metrics.get("video_paths"))
        first = found.seen[suite, task_id, None]
        if first:
            found.warnings.append(f"{where} repeats {suite} task {task_id}: its episodes are numbered on from {first}.")
        found.seen[suite, task_id, None] += len(successes)
        for index, success in enumerate(successes):
            truth = _truth(success, f"{where}.metrics.successes[{index}]", found.success_at)
            told = _place(suite, task_id, first + index, success_at=found.success_at)
            yield _row(told, truth, videos.get(index))


def _of_episodes(
    entries: Sequence[Any], data: Mapping[str, Any], path: Path, found: _Found
) -> Iterator[dict[str, Any]]:
    videos = _videos(data.get("video_paths"))
    for place, episode in enumerate(entries):
        where = f"{path}: per_episode[{place}]"
        if not isinstance(episode, dict):
            raise UsageError(f"{where} is {_shown(episode)}, where an object is expected.")
        if "success" not in episode:
            raise UsageError(f"{where} has no success. It has: {_listed(episode) or 'nothing'}.")
        index = _whole(episode.get("episode_ix", place), f"{where}.episode_ix")
        seed = None if episode.get("seed") is None else _whole(episode["seed"], f"{where}.seed")
        again = found.seen[None, index, seed]
        found.seen[None, index, seed] += 1
        if again:
            found.warnings.append(f"{where} repeats episode {index}: it is counted as another trial of it.")
        truth = _truth(episode["success"], f"{where}.success", found.success_at)
        at = _place(None, None, index, seed=seed, again=again, success_at=found.success_at)
        yield _row(at, truth, videos.get(index))


def _place(
    suite: str | None,
    task_id: int | None,
    index: int,
    *,
    seed: int | None = None,
    again: int = 0,
    success_at: float | None,
) -> dict[str, Any]:
    """What a file says about an episode, of which its key is made: two files pair by position."""
    place = {"source": SOURCE, "task_group": suite, "task_id": task_id, "episode": index, "seed": seed}
    scored = {} if success_at is None else {"success_at": success_at}
    return place | ({"repetition": again} if again else {}) | scored


def _row(place: Mapping[str, Any], success: bool | None, video: str | None) -> dict[str, Any]:
    """One episode."""
    row = {
        "episode_key": manifest_sha256(place),
        "suite": place["task_group"],
        "task_id": place["task_id"],
        "trial": place["episode"],
        "outcome": "error" if success is None else "success" if success else "timeout",
        "success": success,
        "video": video,
    }
    if success is None:
        row |= {"error_type": UNKNOWN_OUTCOME, "error_message": "eval_info.json does not state its success."}
    return row


def _truth(value: Any, where: str, success_at: float | None) -> bool | None:
    """A success as a truth value; None where the file states none (null)."""
    if value is None:
        return None
    if success_at is not None:
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return bool(value >= success_at)
        raise UsageError(f"{where} is {_shown(value)}, which is no finite score (null: unknown).")
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise UsageError(
        f"{where} is {_shown(value)}, which is no success: only true, false, 0 and 1 are (null: unknown). "
        "If it is a score, say from where on it is a success: --success-at 1.0."
    )


def _suite(value: Any, where: str) -> str:
    if isinstance(value, str) and value and value == _printable(value):
        return value
    raise UsageError(f"{where}.task_group is {_shown(value)}, where the name of a suite is expected.")


def _task_id(value: Any, where: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    return _whole(value, f"{where}.task_id")


def _whole(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    raise UsageError(f"{where} is {_shown(value)}, where a whole number from 0 is expected.")


def _check_overall(data: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]], path: Path, found: _Found) -> None:
    """Compare what the file says of all episodes with its episodes; of scores, it says a mean and no rate."""
    name = "overall" if isinstance(data.get("overall"), dict) else "aggregated"
    overall = data.get(name)
    if not isinstance(overall, dict):
        return
    n, rate = overall.get("n_episodes"), overall.get("pc_success")
    solved = sum(row["outcome"] == "success" for row in episodes)
    counted = 100 * solved / len(episodes)
    if isinstance(n, int) and n != len(episodes):
        found.warnings.append(f"{path}: {name}.n_episodes is {_shown(n)}, but the file lists {len(episodes)} episodes.")
    if found.success_at is None and isinstance(rate, int | float) and not _is_near(rate, counted):
        found.warnings.append(
            f"{path}: {name}.pc_success is {_shown(rate)}, but {solved} of its {len(episodes)} episodes succeeded "
            f"({counted:.4g} %)."
        )


def _is_near(rate: float, counted: float) -> bool:
    try:
        return abs(rate - counted) <= ROUNDING
    except OverflowError:  # JSON's integers may have any number of digits
        return False


def _videos(paths: Any) -> dict[int, str]:
    """Episode index → video: LeRobot films the first few episodes of a task as eval_episode_INDEX.mp4."""
    found = {}
    for path in paths if isinstance(paths, list) else []:
        match = re.search(r"eval_episode_(\d{1,9})\.\w+$", str(path)) if isinstance(path, str) else None
        if match:
            found[int(match.group(1))] = _printable(path)
    return found


def _plain(value: Any, depth: int = 8) -> Any:
    """The aggregated block without its long lists, and with null for NaN: what YAML and every reader can hold."""
    if isinstance(value, dict):
        inner = {_printable(key): part for key, part in value.items() if not isinstance(part, list)}
        return {key: _plain(part, depth - 1) for key, part in inner.items()} if depth else {}
    if isinstance(value, str):
        return _printable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(text: str) -> str:
    """Text that UTF-8 can hold: JSON may escape half of a character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _kind(value: Any) -> str:
    return {"dict": "an object", "str": "text"}.get(type(value).__name__, _shown(value))


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 120 else text[:120] + "…"

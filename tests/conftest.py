"""Real ledgers with chosen outcomes, for everything that compares two of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness.ledger import LedgerWriter
from harness.schedule.keys import episode_key
from harness.spec.manifest import manifest_sha256

# A shell that starts tests in the background has them ignore SIGINT, and with them everything that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANIFEST = {
    "suite": "libero_spatial",
    "max_steps": 280,
    "settle_steps": 10,
    "resolution": 256,
    "version.mujoco": "3.3.2",
}
OUTCOMES = {"+": "success", "-": "timeout", "!": "error"}


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep built tasks where no run of the user's finds them, for the length of the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VLA_HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class MakeLedger(Protocol):
    """Writes a ledger and returns its path."""

    def __call__(
        self,
        name: str,
        tasks: Mapping[int, str] | Sequence[str],
        *,
        policy: str = ...,
        nfe: int | None = ...,
        manifest: Mapping[str, Any] = ...,
        status: str = ...,
        latency: Iterable[Mapping[str, Any]] = ...,
        start: datetime = ...,
        **columns: Any,
    ) -> Path: ...


@pytest.fixture
def make_ledger(tmp_path: Path) -> MakeLedger:
    """Build ledgers from outcomes: task id → a string of "+" success, "-" timeout, "!" error, " " not run."""

    def build(
        name: str,
        tasks: Mapping[int, str] | Sequence[str],
        *,
        policy: str = "pi",
        nfe: int | None = None,
        manifest: Mapping[str, Any] = MANIFEST,
        status: str = "finished",
        latency: Iterable[Mapping[str, Any]] = (),
        start: datetime = START,
        **columns: Any,
    ) -> Path:
        suite, digest, run = str(manifest["suite"]), manifest_sha256(manifest), f"run-{name}"
        by_task = tasks if isinstance(tasks, Mapping) else dict(enumerate(tasks))
        rows = [
            {
                "run_id": run,
                "episode_key": episode_key(digest, suite, task, init, 0),
                "protocol_sha256": digest,
                "suite": suite,
                "task_id": task,
                "task": f"put bowl {task} on the plate",
                "init_state_id": init,
                "trial": 0,
                "policy_id": policy,
                "nfe": nfe,
                "checkpoint": f"{name}@1",
                "checkpoint_sha256": f"sha-{name}",
                "outcome": OUTCOMES[letter],
                "success": None if letter == "!" else letter == "+",
                "attempt": 0,
                "hardware": "h100",
                "video": f"videos/{task}-{init}.mp4" if letter == "-" else None,
                "started_at": start,
                **columns,
            }
            for task, outcomes in by_task.items()
            for init, letter in enumerate(outcomes)
            if letter != " "
        ]
        path = tmp_path / name
        writer = LedgerWriter(path)
        run_row = {"run_id": run, "suite": f"name: {suite}", "protocol": json.dumps({suite: dict(manifest)})}
        writer.append("runs", [{**run_row, "protocol_sha256": digest, "status": status, "started_at": start}])
        writer.append("episodes", rows)
        writer.append("latency", [{"run_id": run, "policy_id": policy, **sample} for sample in latency])
        return path

    return build

"""Real ledgers with chosen outcomes, for everything that compares two of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from harness.ledger import LedgerWriter
from harness.schedule.keys import episode_key
from harness.spec.manifest import manifest_sha256

# A shell that starts tests in the background has them ignore SIGINT, and with them everything that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# One thread, as a run's workers have. What torch splits over two waits for the slower one at every step, and that is
# long where another process holds the second core: a test of 0.5 s of CPU took 200 s.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# xdist tells its processes how wide its own terminal is; what the tests print goes to no terminal.
os.environ.pop("COLUMNS", None)

# How long an example takes is the machine's business: busy with something else it takes more than a fifth of a second.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANIFEST = {
    "suite": "libero_spatial",
    "max_steps": 280,
    "settle_steps": 10,
    "resolution": 256,
    "version.mujoco": "3.3.2",
}
OUTCOMES = {"+": "success", "-": "timeout", "!": "error"}
LONG_FILES = (
    "docs/test_documentation.py",
    "sim/test_exactness.py",
    "cluster/test_run.py",
    "cluster/test_driver.py",
    "policies/lerobot/test_parity.py",
    "latency/test_isolated.py",
    "policies/test_flow.py",
    "serve/test_closed_loop.py",
    "sim/test_libero.py",
    "gate/test_gated_run.py",
    "watch/test_training_hooks.py",
    "cli/test_app.py",
    "cli/test_printing.py",
    "cluster/test_identity.py",
    "cluster/test_recording.py",
    "cluster/test_libero_run.py",
)
"""Files that start Ray, LIBERO or torch again and again: they begin first, so that none of them is left to one process
at the end while the other has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; within a file the order stays."""
    tests = Path(__file__).parent
    order = {tests / name: place for place, name in enumerate(LONG_FILES)}
    if missing := [str(path) for path in order if not path.exists()]:
        raise pytest.UsageError(f"LONG_FILES names files that do not exist: {missing}")
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep built tasks where no run of the user's finds them, for the length of the tests, for all their processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VLA_HARNESS_CACHE", str(folder))
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

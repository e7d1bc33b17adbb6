"""The watcher's side of an evaluation: start the process, look at it, tell it to give way, end it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from harness.strict_json import read_object
from harness.watch.evaluation.evaluate import MARK, token_of
from harness.watch.evaluation.request import End, EvaluationRequest, EvaluationResult, read_outcome
from harness.watch.training.outbox import write_json

STOP_S = 60.0
"""How long an evaluation may take to finish its running episodes after Ctrl-C, seconds."""


class Evaluator(Protocol):
    """Evaluates one checkpoint at a time."""

    def start(self, request: EvaluationRequest) -> None:
        """Begin."""
        ...

    def poll(self) -> EvaluationResult | None:
        """How it ended; None while it goes on."""
        ...

    def cancel(self) -> None:
        """Have it drop its queued episodes; it ends when the running ones have."""
        ...

    def stop(self) -> EvaluationResult:
        """End it soon, keeping what is finished."""
        ...


class ProcessEvaluator:
    """Runs each evaluation as `python -m harness.watch`, in a session of its own."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def start(self, request: EvaluationRequest) -> None:
        """Begin; see `Evaluator.start`."""
        self._folder = Path(tempfile.mkdtemp(prefix="vla-harness-watch-"))
        given = replace(
            request,
            cancel_file=str(self._folder / "cancel"),
            result_file=str(self._folder / "result.json"),
            scratch=request.scratch or str(self._folder),
        )
        write_json(self._folder / "request.json", asdict(given))
        # A session of its own: a terminal's Ctrl-C reaches the watcher alone, which then ends this one properly.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.watch", str(self._folder / "request.json")],
            env={**os.environ, MARK: token_of(request.options.out)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def poll(self) -> EvaluationResult | None:
        """How it ended; see `Evaluator.poll`."""
        assert self._process is not None  # noqa: S101
        code = self._process.poll()
        return None if code is None else self._conclude(code)

    def cancel(self) -> None:
        """Have it drop its queued episodes."""
        assert self._folder is not None  # noqa: S101
        (self._folder / "cancel").touch()

    def stop(self) -> EvaluationResult:
        """Interrupt it, and kill it when it does not end."""
        assert self._process is not None  # noqa: S101
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return self._conclude(code)

    def _conclude(self, code: int) -> EvaluationResult:
        assert self._folder is not None  # noqa: S101
        try:
            outcome = read_outcome(read_object((self._folder / "result.json").read_bytes(), finite=False))
        except (OSError, ValueError, KeyError, TypeError):
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            message = f"Its process died ({how}): Ray's head node, memory, or somebody who killed it."
            outcome = EvaluationResult(End.FAILED, error_type="EvaluationDied", message=message)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._folder = None
        return outcome

"""One evaluation: the right policy, only these contents, one at a time, nothing left running."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from checkpoints import safetensors, write_checkpoint
from harness.errors import NodeError
from harness.watch.checkpoints.discovery import digest_place
from harness.watch.evaluation.evaluate import (
    MARK,
    GiveWay,
    compare_contents,
    end_leftovers,
    lock_path,
    policy_for,
    sole_evaluation,
    suite_for,
    token_of,
)
from harness.watch.evaluation.process import ProcessEvaluator
from harness.watch.evaluation.request import End, EvaluationOptions, EvaluationRequest
from harness.watch.training.outbox import write_json

SUITE = """
name: stubs
description: stub world
world: stub
protocol: {max_steps: {stub: 20}, settle_steps: 0}
tasks: [{suite: stub, tasks: [0], init_states: 2}]
"""


def request(place: Path, out: Path, **changes) -> EvaluationRequest:
    digest, gpus = digest_place(str(place))[0], changes.pop("gpus", None)
    options = EvaluationOptions(str(out), SUITE, "python:checkpoints:Stepper", **changes)
    return EvaluationRequest("step-000001", str(place), digest, options, gpus)


def test_a_request_survives_its_file(tmp_path: Path) -> None:
    wanted = request(write_checkpoint(tmp_path, 1), tmp_path, cpus=(0, 1), gpus="")
    write_json(tmp_path / "request.json", asdict(wanted))
    assert EvaluationRequest.read(tmp_path / "request.json") == wanted


@pytest.mark.parametrize(
    ("kind", "path", "options"),
    [
        ("lerobot", "/c", {}),
        ("lerobot?dtype=bfloat16", "/c", {"dtype": "bfloat16"}),
        ("flow", "/c", {}),
        ("python:mine:Policy?k=3", "mine:Policy", {"k": 3, "checkpoint": "/c"}),
    ],
)
def test_the_policy_loads_the_checkpoint_under_the_checkpoints_name(kind: str, path: str, options: dict) -> None:
    spec = policy_for(kind, "/c", "step-000001")
    assert (spec.kind, spec.path, spec.options, spec.label) == (kind[: len(spec.kind)], path, options, "step-000001")


def test_a_suites_probe_times_the_checkpoint_and_not_what_the_file_names() -> None:
    spec = policy_for("flow", "/c", "step-000001")
    suite = suite_for(SUITE + "probe: {policies: [flow]}", spec)
    assert suite.probe is not None
    assert suite.probe.policies == suite.policies == (spec,)


def test_only_the_contents_that_got_the_name_are_evaluated_under_it(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path, 1)
    wanted = request(model, tmp_path)
    assert compare_contents(wanted) is None
    (model / "model.safetensors").write_bytes(safetensors(2.0))
    assert str(compare_contents(wanted)).count("training overwrote it")
    (model / "model.safetensors").write_bytes(safetensors(2.0)[:-1])
    outcome = compare_contents(wanted)
    assert outcome is not None
    assert (outcome.end, "truncated" in outcome.message) == (End.CHANGED, True)
    shutil.rmtree(model)
    outcome = compare_contents(wanted)
    assert outcome is not None
    assert outcome.end is End.VANISHED


def test_queued_episodes_are_dropped_once_the_file_is_there_and_the_ledger_keeps_no_stop_record(tmp_path: Path) -> None:
    watch = pickle.loads(pickle.dumps(GiveWay(str(tmp_path / "cancel"))))  # noqa: S301 - its own
    assert watch.take([]) is None
    (tmp_path / "cancel").touch()
    note = watch.take([])
    assert (note.status, dict(note.record)) == ("superseded", {})


def test_only_one_evaluation_of_a_ledger_runs_at_a_time(tmp_path: Path) -> None:
    hold = "import sys, time\nfrom harness.watch.evaluation.evaluate import sole_evaluation\n"
    hold += "with sole_evaluation(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(NodeError, match="Another evaluation writes to"), sole_evaluation(str(tmp_path), timeout_s=0.5):
        pass
    other.kill()
    other.wait()
    with sole_evaluation(str(tmp_path), timeout_s=5):
        pass
    lock_path(str(tmp_path)).unlink()


def test_what_a_killed_evaluation_left_running_is_ended_and_nothing_else(tmp_path: Path) -> None:
    def sleeper(out: Path) -> subprocess.Popen[bytes]:
        mark = {**os.environ, MARK: token_of(str(out))}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=mark)

    own, others = sleeper(tmp_path / "a"), sleeper(tmp_path / "b")
    try:
        # Until it has started its program, a process still shows its parent's environment.
        for process in (own, others):
            while psutil.Process(process.pid).environ().get(MARK) is None:
                time.sleep(0.01)
        assert end_leftovers(str(tmp_path / "a")) == 1
        assert not psutil.pid_exists(own.pid)
        assert others.poll() is None
    finally:
        for process in (own, others):
            process.kill()
            process.wait()


def test_a_process_that_dies_without_a_word_is_an_outcome(tmp_path: Path) -> None:
    evaluator = ProcessEvaluator()
    evaluator.start(request(write_checkpoint(tmp_path, 1), tmp_path / "ledger"))
    process = evaluator._process
    assert process is not None
    process.kill()
    process.wait()
    outcome = evaluator.poll()
    assert outcome is not None
    assert (outcome.end, outcome.error_type) == (End.FAILED, "EvaluationDied")
    assert "SIGKILL" in outcome.message


def test_an_evaluation_that_cannot_begin_says_why(tmp_path: Path) -> None:
    evaluator = ProcessEvaluator()
    evaluator.start(request(write_checkpoint(tmp_path, 1), tmp_path / "ledger", address="127.0.0.1:1"))
    while (outcome := evaluator.poll()) is None:
        time.sleep(0.1)
    assert (outcome.end, outcome.error_type) == (End.FAILED, "NodeError")
    assert "127.0.0.1:1" in outcome.message
    assert not list(tmp_path.glob("ledger/episodes/*"))

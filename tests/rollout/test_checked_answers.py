"""A policy that answers what is no answer is told so in one sentence, wherever it is asked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from harness.cli.app import invoke
from harness.latency.inputs import synthetic_observations
from harness.latency.probe import probe
from harness.policies.registry import POLICIES
from harness.rollout.actions import check_answer
from harness.rollout.faults import PolicyActionError
from harness.spec import parse_policy
from harness.spec.budget import Budget
from harness.spec.observation import ActionChunks, PolicyInfo
from harness.time_source import WallTime

INFO = PolicyInfo(policy_id="mine", chunk_length=10)
GOOD = np.zeros((2, 10, 7), np.float32)
WANTED = r"return ActionChunks\(actions\) with float32 actions of shape \(2, 10, 7\)"
NAN = GOOD.copy()
NAN[1, 3, 2] = np.nan


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (GOOD, rf"mine returned a ndarray of shape \(2, 10, 7\) from act; {WANTED}"),
        ([[0.0] * 7], rf"mine returned a list of shape \(1, 7\) from act; {WANTED}"),
        (None, rf"mine returned a NoneType from act; {WANTED}"),
        (ActionChunks(GOOD[0]), rf"returned actions of shape \(10, 7\); {WANTED}"),
        (ActionChunks(GOOD[:, :, :6]), rf"returned actions of shape \(2, 10, 6\); {WANTED}"),
        (ActionChunks("left"), "a str and no array of numbers"),  # type: ignore[arg-type]
        (ActionChunks(NAN), r"returned 1 values that are NaN or infinite, the first at \(1, 3, 2\)"),
    ],
)
def test_what_is_no_answer_is_said_in_one_sentence(answer: object, said: str) -> None:
    with pytest.raises(PolicyActionError, match=said):
        check_answer(INFO, answer, 2)


def test_an_answer_comes_back_as_it_is() -> None:
    assert check_answer(INFO, ActionChunks(GOOD), 2) is GOOD


POLICY = """
import numpy as np
from harness.spec.observation import ActionChunks, PolicyInfo

class Bare:
    info = PolicyInfo(policy_id="bare", chunk_length=2, replan_interval=2)
    def act(self, observations, noise, *, nfe=None):
        return np.zeros((len(observations), 2, 7), np.float32)

class Nan(Bare):
    info = PolicyInfo(policy_id="nan", chunk_length=2, replan_interval=2)
    def act(self, observations, noise, *, nfe=None):
        return ActionChunks(np.full((len(observations), 2, 7), np.nan, np.float32))

class Shy(Bare):
    info = {"policy_id": "shy"}

def bare(spec): return Bare()
def nan(spec): return Nan()
def shy(spec): return Shy()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "no_answers.py").write_text(POLICY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("no_answers", None)
    return "python:no_answers"


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("bare", "bare returned a ndarray of shape (1, 2, 7) from act; return ActionChunks(actions)"),
        ("nan", "NaN or infinite actions"),
        ("shy", "has an `info` that is a dict; make it a harness.spec.observation.PolicyInfo"),
    ],
)
def test_the_doctor_says_so(factory: str, said: str, module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "-p", f"{module}:{factory}"]) not in (0, 130)
    shown = capsys.readouterr()
    assert said in " ".join((shown.out + shown.err).split())
    assert "AttributeError" not in shown.out + shown.err


def test_the_probe_says_so(module: str) -> None:
    policy = POLICIES.make(parse_policy(f"{module}:bare"))
    budget = Budget(min_seconds=0.01, min_samples=1, warmup_seconds=0.01)
    found = probe(policy, observations=synthetic_observations(1), clock=WallTime(), budget=budget)
    assert "bare returned a ndarray of shape (1, 2, 7) from act" in str(found.failures)

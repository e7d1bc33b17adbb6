"""Experiment trackers take results when they are installed; here in their place modules that write down their calls."""

from __future__ import annotations

import sys
import types

import pytest

from harness.errors import UsageError
from harness.watch.learning_curve.curve import Point
from harness.watch.learning_curve.sinks import figures, open_sink

POINT = Point("step-000100", 100, 1, "evaluated", successes=3, n=4, low=0.2, high=0.99, decision_ms=5.0)


class Recorder:
    """Any object with any methods; keeps every call."""

    def __init__(self, calls: list, name: str = "") -> None:  # noqa: D107
        self._calls, self._name = calls, name
        self.info = types.SimpleNamespace(run_id="id7")

    def __getattr__(self, name: str):  # noqa: D105
        def call(*args: object, **options: object) -> Recorder:
            self._calls.append((name, args, options))
            return Recorder(self._calls, name)

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the trackers were told."""
    made: list = []
    for name in ("wandb", "mlflow", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, Recorder(made))  # type: ignore[arg-type]
    return made


def test_figures_leave_out_what_is_not_known() -> None:
    assert figures(POINT) == {
        "eval/success": 0.75,
        "eval/success_low": 0.2,
        "eval/success_high": 0.99,
        "eval/episodes": 4.0,
        "eval/errors": 0.0,
        "eval/decision_ms": 5.0,
    }


def test_wandb_gets_the_training_step_as_its_own_axis_because_results_come_in_any_order(calls: list) -> None:
    open_sink("wandb:robots", "run7").log(100, {"eval/success": 0.75})
    assert calls[0] == ("init", (), {"project": "robots", "name": "run7", "id": "run7", "resume": "allow"})
    assert ("define_metric", ("eval/*",), {"step_metric": "eval/step"}) in calls
    assert calls[-1] == ("log", ({"eval/success": 0.75, "eval/step": 100},), {})


def test_mlflow_and_tensorboard_get_the_training_step(calls: list) -> None:
    open_sink("mlflow", "run7").log(100, {"eval/success": 0.75})
    assert calls[-1] == ("log_metrics", ({"eval/success": 0.75},), {"step": 100, "run_id": "id7"})
    open_sink("tensorboard:/logs", "run7").log(100, {"eval/success": 0.75})
    assert ("add_scalar", ("eval/success", 0.75, 100), {}) in calls


def test_a_tracker_that_is_unknown_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"Unknown tracker 'wandv'.*wandb"):
        open_sink("wandv", "run7")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="needs the package 'mlflow'"):
        open_sink("mlflow", "run7")

"""Results for experiment trackers, when those are installed: Weights & Biases, MLflow, TensorBoard."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from harness.errors import UsageError, unknown_name
from harness.watch.learning_curve.curve import Point


class Sink(Protocol):
    """Takes figures of a training step. Steps may come in any order."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take them."""
        ...


def open_sink(text: str, run: str) -> Sink:
    """Open "wandb[:PROJECT]", "mlflow[:EXPERIMENT]" or "tensorboard[:DIR]".

    Args:
        text: Which, and where.
        run: Name of the run there.

    Raises:
        UsageError: An unknown tracker, or one that is not installed.
    """
    kind, _, where = text.partition(":")
    if kind not in _SINKS:
        raise unknown_name("tracker", kind, _SINKS)
    module, make = _SINKS[kind]
    try:
        return make(importlib.import_module(module), where, run)
    except ModuleNotFoundError as error:
        raise UsageError(f"--log-to {kind} needs the package {error.name!r}, which is not installed here.") from error


def figures(point: Point) -> dict[str, float]:
    """A point of the learning curve as figures."""
    values = {
        "eval/success": point.rate,
        "eval/success_low": point.low,
        "eval/success_high": point.high,
        "eval/episodes": float(point.n),
        "eval/errors": float(point.errors),
        "eval/decision_ms": point.decision_ms,
        "eval/e2e_ms": point.e2e_ms,
    }
    return {name: value for name, value in values.items() if value is not None}


class _Wandb:
    def __init__(self, module: Any, where: str, run: str) -> None:
        self._run = module.init(project=where or "vla-harness", name=run, id=run, resume="allow")
        # The tracker's own step only goes up, but a backlog is evaluated in any order.
        self._run.define_metric("eval/step")
        self._run.define_metric("eval/*", step_metric="eval/step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "eval/step": step})


class _Mlflow:
    def __init__(self, module: Any, where: str, run: str) -> None:
        module.set_experiment(where or "vla-harness")
        self._client = module
        self._id = module.start_run(run_name=run).info.run_id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._client.log_metrics(dict(figures), step=step, run_id=self._id)


class _TensorBoard:
    def __init__(self, module: Any, where: str, run: str) -> None:
        self._writer = module.SummaryWriter(log_dir=where or f"runs/{run}")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


_SINKS: Mapping[str, tuple[str, Callable[[Any, str, str], Sink]]] = {
    "wandb": ("wandb", _Wandb),
    "mlflow": ("mlflow", _Mlflow),
    "tensorboard": ("torch.utils.tensorboard", _TensorBoard),
}

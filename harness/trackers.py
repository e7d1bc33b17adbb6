"""Results for experiment trackers, where those are installed: Weights & Biases, MLflow, TensorBoard, trackio."""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.errors import UsageError, unknown_name

HELP = "Also log to wandb[:PROJECT], mlflow[:EXPERIMENT], tensorboard[:DIR] or trackio[:PROJECT]; repeatable."
GIF_FRAMES = 60
"""Frames of a video in TensorBoard, which shows moving pictures as GIF only."""


class TrackedTable(NamedTuple):
    """A table of text, as a report shows it."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> list[str]:
        """Columns, told apart by their place where two have one name: some trackers keep a row as a mapping."""
        return [
            f"{name} ({place})" if self.columns.count(name) > 1 else name for place, name in enumerate(self.columns)
        ]


class Sink(Protocol):
    """Takes results of a step. Steps may come in any order."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures."""
        ...

    def table(self, step: int, table: TrackedTable) -> None:
        """Take a table."""
        ...

    def video(self, step: int, name: str, path: Path) -> None:
        """Take a video: an MP4 file."""
        ...

    def close(self) -> None:
        """Everything was given."""
        ...


def open_sink(text: str, run: str) -> Sink:
    """Open "wandb[:PROJECT]", "mlflow[:EXPERIMENT]", "tensorboard[:DIR]" or "trackio[:PROJECT]".

    Args:
        text: Which, and where.
        run: Name of the run there.

    Raises:
        UsageError: An unknown tracker, or one that is not installed.
    """
    kind, _, where = text.partition(":")
    _require_known(kind)
    module, make = _SINKS[kind]
    try:
        return make(importlib.import_module(module), where, run)
    except ModuleNotFoundError as error:
        raise UsageError(f"--log-to {kind} needs the package {error.name!r}, which is not installed here.") from error


def require_trackers(texts: Sequence[str]) -> None:
    """Refuse trackers that cannot be opened, before a run begins.

    Raises:
        UsageError: An unknown tracker, or one that is not installed.
    """
    for text in texts:
        kind = text.partition(":")[0]
        _require_known(kind)
        try:
            importlib.import_module(_SINKS[kind][0])
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--log-to {kind} needs the package {error.name!r}, which is not installed here."
            ) from error


def _require_known(kind: str) -> None:
    if kind not in _SINKS:
        raise unknown_name("tracker", kind, _SINKS)


class _Wandb:
    def __init__(self, module: Any, where: str, run: str) -> None:
        self._module = module
        self._run = module.init(project=where or "vla-harness", name=run, id=_plain(run), resume="allow")
        # The tracker's own step only goes up, but a backlog is evaluated in any order.
        self._run.define_metric("eval/step")
        self._run.define_metric("eval/*", step_metric="eval/step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "eval/step": step})

    def table(self, step: int, table: TrackedTable) -> None:
        made = self._module.Table(columns=table.names, data=[list(row) for row in table.rows])
        self._run.log({f"tables/{table.name}": made, "eval/step": step})

    def video(self, step: int, name: str, path: Path) -> None:
        self._run.log({f"videos/{name}": self._module.Video(str(path), format="mp4"), "eval/step": step})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, module: Any, where: str, run: str) -> None:
        self._module = module
        module.init(
            project=where or "vla-harness",
            name=run,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._module.log(dict(figures), step=step)

    def table(self, step: int, table: TrackedTable) -> None:
        made = self._module.Table(columns=table.names, data=[list(row) for row in table.rows])
        self._module.log({f"tables/{table.name}": made}, step=step)

    def video(self, step: int, name: str, path: Path) -> None:
        self._module.log({f"videos/{name}": self._module.Video(str(path), format="mp4")}, step=step)

    def close(self) -> None:
        self._module.finish()


class _Mlflow:
    def __init__(self, module: Any, where: str, run: str) -> None:
        module.set_experiment(where or "vla-harness")
        self._client = module
        self._id = module.start_run(run_name=run).info.run_id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        named = {_plain(name): value for name, value in figures.items()}
        self._client.log_metrics(named, step=step, run_id=self._id)

    def table(self, step: int, table: TrackedTable) -> None:
        data = {name: [row[place] for row in table.rows] for place, name in enumerate(table.names)}
        self._client.log_table(data, artifact_file=f"tables/{_plain(table.name)}-{step}.json", run_id=self._id)

    def video(self, step: int, name: str, path: Path) -> None:
        self._client.log_artifact(str(path), artifact_path=f"videos/{_plain(name)}-{step}", run_id=self._id)

    def close(self) -> None:
        self._client.end_run()


class _TensorBoard:
    def __init__(self, module: Any, where: str, run: str) -> None:
        self._writer = module.SummaryWriter(log_dir=where or f"runs/{run}")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def table(self, step: int, table: TrackedTable) -> None:
        lines = (table.columns, ("---",) * len(table.columns), *table.rows)
        text = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        self._writer.add_text(f"tables/{table.name}", text, step)
        self._writer.flush()

    def video(self, step: int, name: str, path: Path) -> None:
        picture, (width, height) = as_gif(path)
        summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
        image = summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
        value = summary.Value(tag=f"videos/{name}", image=image)
        self._writer._get_file_writer().add_summary(summary(value=[value]), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def as_gif(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A video as GIF, thinned to `GIF_FRAMES` frames, and its (width, height)."""
    import imageio.v3 as imageio
    from PIL import Image

    frames = list(imageio.imiter(path))
    stride = -(-len(frames) // GIF_FRAMES)
    pictures = [Image.fromarray(frame) for frame in frames[::stride]]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=50 * stride, loop=0)
    return buffer.getvalue(), pictures[0].size


def _plain(name: str) -> str:
    """A name of letters, digits and what every tracker takes beside them."""
    return re.sub(r"[^\w\-./ ]+", "_", name)


_SINKS: Mapping[str, tuple[str, Callable[[Any, str, str], Sink]]] = {
    "wandb": ("wandb", _Wandb),
    "mlflow": ("mlflow", _Mlflow),
    "tensorboard": ("torch.utils.tensorboard", _TensorBoard),
    "trackio": ("trackio", _Trackio),
}
"""Tracker → its module, and what makes a sink of it."""

"""Experiment trackers take results when they are installed: by their calls, and in the real packages, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from harness.analysis.summary import Summary
from harness.cli.app import invoke
from harness.errors import UsageError
from harness.ledger import read
from harness.report.tracking import track
from harness.trackers import TrackedTable, open_sink
from harness.watch.learning_curve.curve import Point
from harness.watch.learning_curve.publish import figures

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


# -- the real packages, offline; each is skipped where it is not installed ---------------------------------------------

TABLE = TrackedTable("Success", ("policy", "rate", "rate"), (("pi", "75 %", "1"), ("a|b", "–", "2")))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = np.zeros((10, 32, 48, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(0, 250, 25, dtype=np.uint8)[:, None, None]
    path = tmp_path / "0-1.mp4"
    imageio.mimwrite(path, list(frames), fps=20, macro_block_size=1)
    return path


def give(text: str, video: Path) -> None:
    sink = open_sink(text, "night [1]")
    for step in (100, 50):
        sink.log(step, {"eval/success": 0.75, "e2e_ms/cpu/flow @ NFE 1/median": 11.5})
    sink.table(100, TABLE)
    sink.video(100, "pi/task 3 timeout", video)
    sink.close()


def test_tensorboard_holds_figures_table_and_moving_picture(video: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", exc_type=ImportError)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    give(f"tensorboard:{tmp_path}/events", video)
    read = EventAccumulator(str(tmp_path / "events"), size_guidance={"images": 0, "tensors": 0})
    read.Reload()
    assert sorted(event.step for event in read.Scalars("eval/success")) == [50, 100]
    (text,) = read.Tensors("tables/Success/text_summary")
    assert "| pi | 75 % | 1 |" in text.tensor_proto.string_val[0].decode()
    (image,) = read.Images("videos/pi/task 3 timeout")
    assert (image.encoded_image_string[:6], image.width, image.height) == (b"GIF89a", 48, 32)


def test_mlflow_holds_figures_table_and_video(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    give("mlflow:robots", video)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("robots")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["eval/success"] == 0.75
    assert [one.step for one in client.get_metric_history(run.info.run_id, "eval/success")] == [100, 50]
    (table,) = client.list_artifacts(run.info.run_id, "tables")
    held = json.loads(Path(client.download_artifacts(run.info.run_id, table.path)).read_text())
    assert held == {"columns": ["policy", "rate (1)", "rate (2)"], "data": [["pi", "75 %", "1"], ["a|b", "–", "2"]]}
    (folder,) = client.list_artifacts(run.info.run_id, "videos/pi")
    (film,) = client.list_artifacts(run.info.run_id, folder.path)
    assert Path(client.download_artifacts(run.info.run_id, film.path)).read_bytes() == video.read_bytes()


def test_wandb_offline_holds_figures_table_and_video(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    give("wandb:robots", video)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (table,) = run.glob("files/media/table/**/*.table.json")
    assert json.loads(table.read_text())["data"][0] == ["pi", "75 %", "1"]
    (film,) = run.glob("files/media/videos/**/*.mp4")
    assert film.read_bytes() == video.read_bytes()
    (log,) = run.glob("*.wandb")
    assert b"eval/success" in log.read_bytes()


def test_trackio_holds_figures_table_and_video(video: Path, tmp_path: Path) -> None:
    """In a process of its own: where it keeps things is decided when it is imported."""
    pytest.importorskip("trackio")
    script = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_trackers import give
give("trackio:robots", Path({str(video)!r}))
import trackio
rows = trackio.SQLiteStorage.get_logs("robots", "night [1]")
print("@@" + json.dumps(rows, default=str, ensure_ascii=False))
"""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = done.stdout.partition("@@")[2]
    assert '"eval/success": 0.75' in rows
    assert "75 %" in rows
    assert [path.read_bytes() for path in (tmp_path / "trackio").rglob("*.mp4")] == [video.read_bytes()]


def test_a_ledger_gives_figures_tables_and_videos_of_failures_first(make_ledger: Any) -> None:
    path = make_ledger("one", ["+-", "++"])
    for name in ("0-1", "1-0"):
        (path / "videos").mkdir(exist_ok=True)
        (path / "videos" / f"{name}.mp4").write_bytes(b"film")
    taken: list[tuple[str, Any]] = []

    class Taking:
        def log(self, step: int, figures: Any) -> None:
            taken.append(("figures", figures))

        def table(self, step: int, table: TrackedTable) -> None:
            taken.append(("table", table.name))

        def video(self, step: int, name: str, video: Path) -> None:
            taken.append(("video", name))

        def close(self) -> None:
            taken.append(("closed", None))

    class Refusing(Taking):
        def log(self, step: int, figures: Any) -> None:
            raise RuntimeError("no network")

    said: list[str] = []
    track(Summary(read(path)), [Refusing(), Taking()], said.append)
    assert said == ["Refusing did not take the result: RuntimeError: no network"]
    assert taken[0][1]["success/pi/libero_spatial/rate"] == 0.75
    assert ("table", "Success") in taken
    assert [name for kind, name in taken if kind == "video"] == ["pi/libero_spatial task 0 init 1 timeout"]
    assert taken[-1] == ("closed", None)


@pytest.mark.parametrize("argv", [["run", "seed", "-p", "noop"], ["probe", "-p", "random"], ["nightly", "-p", "noop"]])
def test_an_unknown_tracker_is_refused_before_anything_begins(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke([*argv, "--log-to", "wandv"]) == 64
    assert "Did you mean 'wandb'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

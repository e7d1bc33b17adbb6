"""The training examples: which actions count, a loss that falls, a resume to the bit, a student like its teacher."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import distill_snapflow  # noqa: E402
import record_flow  # noqa: E402
import train_flow  # noqa: E402

from harness.policies.flow import FlowConfig, load_network, random_network  # noqa: E402

SMALL = FlowConfig(
    image_size=32, channels=(16, 16, 16, 16), width=24, heads=2, layers=1, prefix_mlp=32, expert_mlp=32, text_tokens=8
)
TASKS = ["pick up the bowl", "pick up the soup"]


def write_dataset(folder: Path, lengths: list[int], perturbed: tuple[int, ...] = ()) -> Path:
    """A dataset of the recorder's layout: episode k has `lengths[k]` frames; of episode 0 some steps were perturbed."""
    rng = np.random.default_rng(0)
    (folder / "meta").mkdir(parents=True)
    pd.DataFrame({"task_index": range(2)}, index=pd.Index(TASKS, name="task")).to_parquet(
        folder / "meta" / "tasks.parquet"
    )
    columns: dict[str, list[Any]] = {name: [] for name in record_flow.SCHEMA.names}
    for episode, length in enumerate(lengths):
        for step in range(length):
            for name in train_flow.IMAGES:
                frame = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                columns[name].append({"bytes": record_flow.png(frame), "path": None})
            columns["observation.state"].append(rng.standard_normal(8).astype(np.float32))
            columns["action"].append(np.full(7, step / 100, dtype=np.float32))
            columns["perturbed"].append(episode == 0 and step in perturbed)
            columns["timestamp"].append(step / 20)
            columns["frame_index"].append(step)
            columns["episode_index"].append(episode)
            columns["index"].append(len(columns["index"]))
            columns["task_index"].append(episode % 2)
    schema = record_flow.SCHEMA
    table = pa.table([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(table, file)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> train_flow.Demonstrations:
    folder = write_dataset(tmp_path / "demos", [12, 9])
    found = train_flow.Demonstrations([folder], SMALL, device=torch.device("cpu"), cache=tmp_path / "cache")
    found.read(wait=True)
    return found


def training(steps: int = 6, **changes: Any) -> train_flow.Training:
    values = {"device": "cpu", "ema": 0.9, "weight_decay": 0.05, "lr": 3e-3, "seed": 0, "steps": steps}
    options = Namespace(**{**values, "seconds": None, "batch": 8, "warmup": 1, **changes})
    return train_flow.Training(random_network(SMALL, 0), teacher_loss, options)


def teacher_loss(network: Any, batch: Any, chunks: Any, valid: Any, generator: Any) -> Any:
    return train_flow.flow_loss(network, batch, train_flow.draw(network, chunks, valid, 2, generator), 2)


def test_a_chunk_counts_up_to_the_end_of_its_episode_or_to_a_push(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "demos", [6, 4], perturbed=(3,))
    table = pq.read_table(folder / "data" / "chunk-000" / "file-000.parquet")
    _, chunks, valid, task = train_flow.chunks_of(table, 5)
    assert valid[0].tolist() == [True, True, True, True, False], "the action of the pushed step itself is the expert's"
    assert valid[4].tolist() == [True, True, False, False, False]
    assert chunks[4, :, 0] == pytest.approx([0.04, 0.05, 0.05, 0.05, 0.05])
    assert valid[9].tolist() == [True, False, False, False, False]
    assert task.tolist() == [0] * 6 + [1] * 4


def test_the_loss_falls(data: train_flow.Demonstrations) -> None:
    run = training(steps=60)
    losses = [float(run.step(data)) for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_resumed_training_is_the_same_to_the_bit(data: train_flow.Demonstrations, tmp_path: Path) -> None:
    whole, first = training(), training()
    for _ in range(6):
        whole.step(data)
    for _ in range(3):
        first.step(data)
    first.save(tmp_path / "state.pt")
    second = training()
    second.load(tmp_path / "state.pt")
    for _ in range(3):
        second.step(data)
    for name, value in whole.average.network.state_dict().items():
        assert torch.equal(value, second.average.network.state_dict()[name]), name


def test_a_student_begins_as_its_teacher_and_its_prefix_stays_frozen(data: train_flow.Demonstrations) -> None:
    teacher = random_network(SMALL, 0)
    student = distill_snapflow.student_of(teacher, 1)
    assert (student.config.target_time, student.config.default_nfe) == (True, 1)
    batch, _, _ = data.sample(4, torch.Generator().manual_seed(0))
    cache = teacher.encode_prefix(teacher.encode_vision(batch), batch)
    noise, time = torch.randn(4, 10, 7), torch.full((4,), 0.7)
    assert torch.equal(student.expert(noise, time, cache), teacher.expert(noise, time, cache))
    assert torch.equal(student.expert(noise, time, cache, torch.zeros(4)), teacher.expert(noise, time, cache))

    def loss(network: Any, batch: Any, chunks: Any, valid: Any, generator: Any) -> Any:
        return distill_snapflow.snapflow_loss(network, batch, train_flow.draw(network, chunks, valid, 2, generator), 2)

    run = train_flow.Training(student, loss, training().options)
    for _ in range(3):
        run.step(data)
    moved = {name for name, value in run.network.named_parameters() if not torch.equal(value, _initial(teacher, name))}
    assert any(name.startswith("expert.target_out") for name in moved)
    assert not any(name.startswith(("vision", "prefix")) for name in moved)


def _initial(teacher: Any, name: str) -> Any:
    known = dict(teacher.named_parameters())
    return known[name] if name in known else torch.zeros(())


def test_the_command_writes_a_checkpoint_that_loads_whole_with_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_flow, "FlowConfig", lambda: SMALL)
    folder = write_dataset(tmp_path / "demos", [12])
    command = ["--data", str(folder), "--out", str(tmp_path / "run"), "--steps", "2", "--batch", "4", "--decoders", "0"]
    train_flow.main([*command, "--device", "cpu"])
    network, _ = load_network(tmp_path / "run" / "final")
    assert network.config == SMALL
    card = (tmp_path / "run" / "final" / "README.md").read_text()
    assert "6 frames of 2 tasks" in card
    assert "2 of batch 4" in card
    distill_snapflow.main(
        [*command, "--teacher", str(tmp_path / "run" / "final"), "--out", str(tmp_path / "student"), "--device", "cpu"]
    )
    assert load_network(tmp_path / "student" / "final")[0].config.target_time


def test_neither_steps_nor_seconds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--steps or --seconds"):
        train_flow.main(["--data", str(tmp_path), "--out", str(tmp_path / "run")])


def test_longer_chunks_begin_with_the_weights_of_shorter_ones(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "demos", [12, 9])
    source = random_network(SMALL, 3)
    train_flow.save_network(source, tmp_path / "source")
    out = tmp_path / "long"
    arguments = ["--data", folder, "--out", out, "--steps", 2, "--batch", 4, "--draws", 2, "--decoders", 0]
    train_flow.main([*map(str, arguments), "--chunk", "15", "--start-from", str(tmp_path / "source"), "--lr", "0"])
    network, _ = load_network(out / "final")
    assert (network.config.chunk_length, network.config.replan_interval) == (15, 10)
    before, after = source.state_dict(), network.state_dict()
    stored = {name: tensor.half().float() for name, tensor in before.items() if not name.startswith("normalization")}
    positions = stored.pop("expert.position")
    assert torch.equal(after["expert.position"], torch.cat([positions, positions[-1:].expand(5, -1)]))
    assert all(torch.allclose(after[name], tensor, atol=1e-3) for name, tensor in stored.items())
    assert "to 15 actions of LIBERO" in (out / "final" / "README.md").read_text()

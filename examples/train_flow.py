"""Train `flow` from a LeRobot v3 dataset of demonstrations: plain torch, one file, seeded, resumable.

    python examples/train_flow.py --data DIR --out runs/teacher --steps 20000
    python examples/train_flow.py --data DIR --out runs/teacher --steps 20000 --resume
    python examples/train_flow.py --data DIR --out runs/long --steps 20000 --chunk 50 --start-from CHECKPOINT

Conditional flow matching (Lipman et al. 2023) as in Pi0: x_t = (1 - t) * actions + t * noise, v = noise - actions, with
t from Beta(1.5, 1). Vision encoder and prefix run once per observation, the expert on `--draws` noisy chunks of it. A
chunk counts up to the step at which the demonstration was perturbed or ended (column `perturbed`, if the dataset has
one). Checkpoints hold the exponential average of the weights.

`--start-from` begins with the weights and statistics of another checkpoint; where its chunk is shorter, the positions
beyond its end begin as its last.

`--seconds` in place of `--steps` trains for a time; `--follow` reads files that a recorder adds meanwhile. Neither is
reproducible to the bit; `--steps` without `--follow` is, on the same machine.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness.ledger.provenance import git_revision
from harness.policies.flow import FlowConfig, FlowNetwork, load_network, random_network, save_network, tokenize
from harness.policies.flow.network import Batch, Cache

IMAGES = ("observation.images.image", "observation.images.image2")
SHIFT = 3
"""Largest shift of a frame by augmentation, pixels."""
JITTER = 0.15
"""Largest relative change of brightness and contrast by augmentation."""


def decode(file: Path, size: int, chunk: int, every: int, cache: Path) -> Path:
    """Decode one data file into arrays under `cache`; a file that is there already is taken as it is.

    Args:
        file: Of a LeRobot v3 dataset; holds whole episodes.
        size: Height and width that frames are averaged down to, pixels.
        chunk: Actions per row.
        every: Keep every how-manieth frame: neighbours are nearly alike.
        cache: Folder.

    Returns:
        A folder with images (n, 2, size, size, 3) uint8, state (n, 8), chunks (n, chunk, 7), valid (n, chunk)
        and task (n,).
    """
    target = cache / file.stem
    if target.exists():
        return target
    table = pq.read_table(file)
    kept = np.arange(0, table.num_rows, every)
    arrays = dict(zip(("state", "chunks", "valid", "task"), (a[kept] for a in chunks_of(table, chunk)), strict=True))
    table = table.select(IMAGES).take(kept)
    images = np.empty((table.num_rows, len(IMAGES), size, size, 3), dtype=np.uint8)
    for camera, name in enumerate(IMAGES):
        for row, stored in enumerate(table.column(name).to_pylist()):
            picture = Image.open(io.BytesIO(stored["bytes"]))
            images[row, camera] = np.asarray(
                picture if picture.size[0] == size else picture.reduce(picture.size[0] // size)
            )
    partial = target.with_suffix(f".{os.getpid()}")
    partial.mkdir(parents=True, exist_ok=True)
    np.save(partial / "images.npy", images)
    for key, array in arrays.items():
        np.save(partial / f"{key}.npy", array)
    os.replace(partial, target)
    return target


def chunks_of(table: Any, length: int) -> tuple[NDArray[Any], ...]:
    """States, the chunk of actions that follows each row, which of them count, and the tasks."""
    column = {name: table.column(name).to_numpy() for name in ("episode_index", "task_index")}
    state = np.stack(table.column("observation.state").to_numpy()).astype(np.float32)
    actions = np.stack(table.column("action").to_numpy()).astype(np.float32)
    n = len(actions)
    perturbed = np.zeros(n, dtype=bool)
    if "perturbed" in table.column_names:
        perturbed = table.column("perturbed").to_numpy().astype(bool)
    episode = column["episode_index"]
    ends = np.searchsorted(episode, episode, side="right") if (np.diff(episode) >= 0).all() else _ends(episode)
    ahead = np.arange(n)[:, None] + np.arange(length)
    inside = ahead < ends[:, None]
    ahead = np.minimum(ahead, ends[:, None] - 1)
    # An action counts if nothing but the expert's own actions was executed between the frame and it.
    pushed = np.cumsum(perturbed[ahead], axis=1)
    undisturbed = np.concatenate([np.ones((n, 1), dtype=bool), pushed[:, :-1] == 0], axis=1)
    return state, actions[ahead], inside & undisturbed, column["task_index"].astype(np.int64)


def _ends(episode: NDArray[Any]) -> NDArray[np.int64]:
    """For each row the end of its run of equal episode numbers."""
    last = np.append(np.flatnonzero(np.diff(episode)), len(episode) - 1) + 1
    return last[np.searchsorted(last, np.arange(len(episode)), side="right")]


class Demonstrations:
    """Everything in device memory; grows while a recorder adds files."""

    def __init__(
        self,
        folders: Iterable[Path],
        config: FlowConfig,
        *,
        device: torch.device,
        cache: Path,
        every: int = 1,
        decoders: int = 0,
    ) -> None:
        """Bind to datasets; `read` reads them.

        Args:
            folders: LeRobot v3 datasets with the same tasks.
            config: Sizes of the network.
            device: Where batches are made.
            cache: Folder for decoded files.
            every: Keep every how-manieth frame.
            decoders: Processes that decode; 0: this one.
        """
        self.folders, self.config, self.device, self.cache = list(folders), config, device, cache
        self.every = every
        self.seen: set[Path] = set()
        self.pending: list[Future[Path]] = []
        self.pool = ProcessPoolExecutor(decoders, mp_context=get_context("spawn")) if decoders else None
        self.parts: dict[str, list[Tensor]] = {name: [] for name in ("images", "state", "chunks", "valid", "task")}
        self.block: list[Tensor] = []
        self.words = self._read_words()

    def _read_words(self) -> Tensor:
        frame = pd.read_parquet(self.folders[0] / "meta" / "tasks.parquet").sort_values("task_index")
        rows = [tokenize(str(text), self.config.text_tokens, self.config.text_buckets) for text in frame.index]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def read(self, *, wait: bool) -> int:
        """Take in what is there; returns the number of rows.

        Args:
            wait: For everything found to be decoded.
        """
        for folder in self.folders:
            for file in sorted(folder.glob("data/*/*.parquet")):
                if file not in self.seen:
                    self.seen.add(file)
                    place = self.cache / folder.name
                    arguments = (file, self.config.image_size, self.config.chunk_length, self.every, place)
                    place.mkdir(parents=True, exist_ok=True)
                    self.pending.append(
                        self.pool.submit(decode, *arguments) if self.pool else _done(decode(*arguments))
                    )
        ready = (
            len(self.pending)
            if wait
            else next((i for i, f in enumerate(self.pending) if not f.done()), len(self.pending))
        )
        for future in self.pending[:ready]:
            self._take(future.result())
        del self.pending[:ready]
        return len(self)

    def _take(self, folder: Path) -> None:
        for name, parts in self.parts.items():
            parts.append(torch.from_numpy(np.load(folder / f"{name}.npy")).to(self.device))
        self._merge()

    def _merge(self) -> None:
        """Keep the number of tensors small: double as a vector does, so that each row is copied a few times only."""
        for parts in self.parts.values():
            while len(parts) > 1 and len(parts[-2]) <= 2 * len(parts[-1]):
                last = parts.pop()
                parts[-1] = torch.cat([parts[-1], last])

    def __len__(self) -> int:
        """Number of rows."""
        return sum(len(part) for part in self.parts["task"])

    def statistics(self) -> dict[str, Tensor]:
        """Mean and standard deviation of states and of actions that count."""
        state, chunks, valid = (torch.cat(self.parts[name]) for name in ("state", "chunks", "valid"))
        actions = chunks[valid]
        return {
            "state_mean": state.mean(0),
            "state_std": state.std(0).clamp_min(1e-3),
            "action_mean": actions.mean(0),
            "action_std": actions.std(0).clamp_min(1e-2),
        }

    def sample(self, n: int, generator: torch.Generator) -> tuple[Batch, Tensor, Tensor]:
        """Draw n rows, augmented: batch, chunks (n, T, 7) and which actions count (n, T)."""
        rows = torch.randint(len(self), (n,), generator=generator, device=self.device)
        found = {name: self._gather(name, rows) for name in ("state", "chunks", "valid", "task")}
        images = self._shifted(rows, generator)
        tokens = self.words[found["task"]]
        batch = Batch(jitter(images, generator), tokens, tokens > 0, found["state"])
        return batch, found["chunks"], found["valid"]

    def _gather(self, name: str, rows: Tensor) -> Tensor:
        parts, start = self.parts[name], 0
        if len(parts) == 1:
            return parts[0][rows]
        out = torch.empty((len(rows), *parts[0].shape[1:]), dtype=parts[0].dtype, device=self.device)
        for part in parts:
            inside = (rows >= start) & (rows < start + len(part))
            local = (rows - start).clamp(0, len(part) - 1)
            out = torch.where(inside.view(-1, *[1] * (out.ndim - 1)), part[local], out)
            start += len(part)
        return out

    def _shifted(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Frames (n, 2, 3, S, S) uint8, each moved by up to `SHIFT` pixels, edges repeated."""
        frames = self._gather("images", rows)
        n, cameras, size = frames.shape[:3]
        moves = torch.randint(-SHIFT, SHIFT + 1, (2, n, cameras), generator=generator, device=self.device)
        along = (torch.arange(size, device=self.device) + moves[..., None]).clamp(0, size - 1)
        here = (
            torch.arange(n, device=self.device)[:, None, None, None],
            torch.arange(cameras, device=self.device)[:, None, None],
        )
        return frames[here[0], here[1], along[0][..., :, None], along[1][..., None, :]].permute(0, 1, 4, 2, 3)


def _done(value: Path) -> Future[Path]:
    future: Future[Path] = Future()
    future.set_result(value)
    return future


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (n, c, 3, S, S) uint8 to [0, 1], with brightness, contrast and tint changed a little per frame."""
    n, cameras = images.shape[:2]
    draw = torch.rand(5, n, cameras, 1, 1, 1, generator=generator, device=images.device) * 2 - 1
    tint = torch.cat(list(draw[2:] * 0.05), dim=2)
    pixels = images.float() / 255.0
    mean = pixels.mean(dim=(2, 3, 4), keepdim=True)
    return ((pixels - mean) * (1 + JITTER * draw[0]) + mean * (1 + JITTER * draw[1]) + tint).clamp_(0.0, 1.0)


def repeat(cache: Cache, times: int) -> Cache:
    """A cache in which every observation occurs `times` times in a row."""

    def spread(x: Tensor) -> Tensor:
        # Expanding and not repeat_interleave: its gradient is a sum, not a scatter.
        return x[:, None].expand(-1, times, *x.shape[1:]).reshape(-1, *x.shape[1:])

    return Cache([spread(key) for key in cache.keys], [spread(value) for value in cache.values], spread(cache.mask))


@dataclass(frozen=True, slots=True)
class Draw:
    """Noisy chunks of a batch."""

    actions: Tensor
    """(B * draws, T, 7), normalised."""
    noise: Tensor
    time: Tensor
    """(B * draws,), in (0, 1]."""
    weight: Tensor
    """(B * draws, T, 1), 1 where an action counts."""

    @property
    def noisy(self) -> Tensor:
        """x_t."""
        t = self.time[:, None, None]
        return (1 - t) * self.actions + t * self.noise

    def mean_square(self, error: Tensor) -> Tensor:
        """Mean over what counts of the square of an error (B * draws, T, 7)."""
        return (error.square() * self.weight).sum() / (self.weight.sum() * error.shape[-1]).clamp_min(1.0)


def draw(network: FlowNetwork, chunks: Tensor, valid: Tensor, draws: int, generator: torch.Generator) -> Draw:
    """Draw noise and times: t = 0.001 + 0.999 u, u from Beta(1.5, 1), more often noisy than clean (Pi0)."""
    actions = network.normalization.actions(chunks).repeat_interleave(draws, dim=0)
    noise = torch.randn(actions.shape, generator=generator, device=actions.device)
    uniform = torch.rand(len(actions), generator=generator, device=actions.device)
    weight = valid.repeat_interleave(draws, dim=0)[..., None].float()
    return Draw(actions, noise, 0.001 + 0.999 * uniform ** (1 / 1.5), weight)


def flow_loss(network: FlowNetwork, batch: Batch, sample: Draw, draws: int) -> Tensor:
    """The flow-matching loss."""
    cache = repeat(network.encode_prefix(network.encode_vision(batch), batch), draws)
    return sample.mean_square(network.expert(sample.noisy, sample.time, cache) - (sample.noise - sample.actions))


class Average:
    """Exponential moving average of a network's weights."""

    def __init__(self, network: FlowNetwork, decay: float) -> None:
        """Start from the present weights."""
        self.network, self.decay, self.updates = copy.deepcopy(network).requires_grad_(False), decay, 0

    @torch.no_grad()
    def update(self, network: FlowNetwork) -> None:
        """Move towards the present weights; fast at first."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)


def parameter_groups(network: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


@dataclass(slots=True)
class Progress:
    """How far a training has got."""

    steps: int | None
    seconds: float | None
    step: int = 0
    spent: float = 0.0
    """Seconds of earlier runs that this one resumes."""
    began: float = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of training."""
        return self.spent + time.monotonic() - self.began

    @property
    def share(self) -> float:
        """Of the whole, in [0, 1]."""
        done = self.step / self.steps if self.steps else self.elapsed / (self.seconds or 1.0)
        return min(1.0, done)

    def rate(self, peak: float, warmup: int) -> float:
        """Learning rate: linear warm-up, then half a cosine to zero."""
        return peak * min(1.0, (self.step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * self.share))


class Training:
    """Network, average, optimiser and generator: what a resume needs, and one step of it."""

    def __init__(self, network: FlowNetwork, loss: Callable[..., Tensor], options: argparse.Namespace) -> None:
        """Put everything on the device.

        Args:
            network: Whose parameters with `requires_grad` are trained.
            loss: (network, batch, chunks, valid, generator) to a scalar.
            options: Of the command line.
        """
        self.device = torch.device(options.device)
        self.network, self.loss, self.options = network.to(self.device).train(), loss, options
        self.average = Average(self.network, options.ema)
        fused = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.network, options.weight_decay), lr=options.lr, betas=(0.9, 0.95), fused=fused
        )
        self.generator = torch.Generator(self.device).manual_seed(options.seed)
        self.progress = Progress(options.steps, options.seconds, began=time.monotonic())

    def step(self, data: Demonstrations) -> Tensor:
        """One step; returns the loss, on the device."""
        rate = self.progress.rate(self.options.lr, self.options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch, chunks, valid = data.sample(self.options.batch, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.loss(self.network, batch, chunks, valid, self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update(self.network)
        self.progress.step += 1
        return loss.detach()

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, whole."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.progress.step,
            "elapsed": self.progress.elapsed,
        }
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def load(self, path: Path) -> None:
        """Continue what `save` wrote."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.progress.step, self.progress.spent = state["step"], state["elapsed"]
        self.progress.began = time.monotonic()


def checkpoints(options: argparse.Namespace, training: Training, data: Demonstrations, kind: str) -> Iterator[Path]:
    """Train to the end and yield every checkpoint written."""
    report = options.out / "log.jsonl"
    saved, losses = time.monotonic(), []
    while training.progress.share < 1.0:
        losses.append(training.step(data))
        step = training.progress.step
        if options.follow and step % 20 == 0:
            data.read(wait=False)
        if step % 100 == 0:
            line = {"step": step, "seconds": round(training.progress.elapsed, 1), "rows": len(data)}
            line["loss"] = round(float(torch.stack(losses).mean()), 5)
            losses = []
            with report.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            print(line, flush=True)
        if time.monotonic() - saved > options.save_seconds:
            saved = time.monotonic()
            training.save(options.out / "state.pt")
            yield write_checkpoint(options, training, data, kind, options.out / f"step-{step:06d}")
    training.save(options.out / "state.pt")
    yield write_checkpoint(options, training, data, kind, options.out / "final")


def write_checkpoint(
    options: argparse.Namespace, training: Training, data: Demonstrations, kind: str, path: Path
) -> Path:
    """Write the averaged weights and the model card, whole."""
    partial = path.with_name(f".{path.name}")
    save_network(training.average.network, partial, dtype="float16")
    (partial / "README.md").write_text(model_card(options, training, data, kind))
    os.replace(partial, path)
    return path


def model_card(options: argparse.Namespace, training: Training, data: Demonstrations, kind: str) -> str:
    """Where a checkpoint is from."""
    revision = options.revision or git_revision() or "unknown"
    accelerator = torch.cuda.get_device_name() if training.device.type == "cuda" else "CPU"
    tasks = pd.read_parquet(data.folders[0] / "meta" / "tasks.parquet").index
    parameters = sum(p.numel() for p in training.network.parameters())
    return f"""---
library_name: vla-harness
license: apache-2.0
pipeline_tag: robotics
tags: [robotics, libero, flow-matching]
---
# flow {kind}

A flow-matching chunk policy of {parameters / 1e6:.2f} million parameters, stored in float16: two 128x128 cameras, the
8-d state and the instruction to {training.network.config.chunk_length} actions of LIBERO. Weights are the exponential
average over training.

| | |
|---|---|
| data | {len(data):,} frames of {len(tasks)} tasks: {", ".join(map(str, data.folders))} |
| steps | {training.progress.step:,} of batch {options.batch}, {training.progress.elapsed:.0f} s on {accelerator} |
| command | `python {shlex.join(sys.argv)}` |
| source | {revision} |
| torch | {torch.__version__} |
"""


def parser() -> argparse.ArgumentParser:
    """What both trainings are told."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, nargs="+", required=True, help="LeRobot v3 datasets with the same tasks")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--steps", type=int)
    made.add_argument("--seconds", type=float)
    made.add_argument("--batch", type=int, default=1024)
    made.add_argument("--draws", type=int, default=4, help="noisy chunks per observation")
    made.add_argument("--lr", type=float, default=1e-3)
    made.add_argument("--warmup", type=int, default=200)
    made.add_argument("--weight-decay", type=float, default=0.05)
    made.add_argument("--ema", type=float, default=0.998)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--cache", type=Path, help="folder for decoded frames; OUT/cache if left out")
    made.add_argument("--every", type=int, default=2, help="keep every how-manieth frame")
    made.add_argument("--decoders", type=int, default=min(8, os.cpu_count() or 1))
    made.add_argument("--follow", action="store_true", help="read files that are added meanwhile")
    made.add_argument("--min-rows", type=int, default=1, help="rows to wait for before training begins")
    made.add_argument("--save-seconds", type=float, default=300.0)
    made.add_argument("--resume", action="store_true")
    made.add_argument("--revision", help="source revision for the model card, where git cannot tell")
    made.add_argument(
        "--submit", metavar="RUN", help="folder of a harness evaluation service that gets every checkpoint"
    )
    return made


def read_enough(data: Demonstrations, options: argparse.Namespace) -> None:
    """Read what is there, and with `--follow` wait for enough of it."""
    data.read(wait=not options.follow)
    while len(data) < options.min_rows:
        if not options.follow:
            raise SystemExit(
                f"{len(data)} rows found in {', '.join(map(str, options.data))}; {options.min_rows} wanted."
            )
        time.sleep(0.5)
        data.read(wait=False)


def start(options: argparse.Namespace, config: FlowConfig) -> Demonstrations:
    """Check the command line and read the data."""
    if bool(options.steps) == bool(options.seconds):
        raise SystemExit("Say either --steps or --seconds.")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    data = Demonstrations(
        options.data,
        config,
        device=torch.device(options.device),
        cache=options.cache or options.out / "cache",
        every=options.every,
        decoders=options.decoders,
    )
    read_enough(data, options)
    return data


def submitter(options: argparse.Namespace) -> Callable[[Path, int], None]:
    """What becomes of a checkpoint: nothing, or an evaluation."""
    if not options.submit:
        return lambda path, step: None
    from harness import EvalClient

    client = EvalClient(options.submit)
    return lambda path, step: client.submit(path, step)


def train(training: Training, options: argparse.Namespace, data: Demonstrations, kind: str) -> None:
    """Train to the end, from where an earlier run stopped if that is asked, and hand over every checkpoint."""
    if options.resume:
        training.load(options.out / "state.pt")
    submit = submitter(options)
    for path in checkpoints(options, training, data, kind):
        print(f"wrote {path}", flush=True)
        submit(path, training.progress.step)


def warm_start(path: Path, chunk: int) -> FlowNetwork:
    """The network of a checkpoint with chunks of another length: positions beyond its own begin as its last.

    Args:
        path: Folder of a checkpoint.
        chunk: Actions per chunk, at least the checkpoint's replan interval.
    """
    source, _ = load_network(path)
    network = random_network(replace(source.config, chunk_length=chunk), seed=0)
    state = source.state_dict()
    positions = state["expert.position"]
    state["expert.position"] = positions[torch.arange(chunk).clamp_max(len(positions) - 1)]
    network.load_state_dict(state)
    return network


def main(argv: list[str] | None = None) -> None:
    """Train."""
    made = parser()
    made.add_argument("--chunk", type=int, default=FlowConfig().chunk_length, help="actions per chunk")
    made.add_argument("--start-from", type=Path, metavar="CHECKPOINT", help="weights to begin with")
    options = made.parse_args(argv)
    if options.start_from:
        network = warm_start(options.start_from, options.chunk)
        data = start(options, network.config)
    else:
        network = random_network(replace(FlowConfig(), chunk_length=options.chunk), options.seed)
        data = start(options, network.config)
        for name, value in data.statistics().items():
            network.normalization.get_buffer(name).copy_(value.cpu())

    def loss(network: FlowNetwork, batch: Batch, chunks: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        return flow_loss(network, batch, draw(network, chunks, valid, options.draws, generator), options.draws)

    train(Training(network, loss, options), options, data, "teacher")


if __name__ == "__main__":
    main()

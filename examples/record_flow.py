"""Record what `flow` learns from: the scripted expert, pushed off its way, and taking over from a policy.

    python examples/record_flow.py DIR --suites libero_spatial,libero_object --episodes 2000 --processes 32
    python examples/record_flow.py DIR --processes 32 --seconds 300 --policies checkpoints/training

Episodes begin at sampled placements, never at LIBERO's stored init states, which are the evaluation's. Two things make
the policy meet states that an expert alone would never show it:

- *Pushes* (after DART, arXiv 1703.09327): for a few control steps the executed action is the expert's plus an offset;
  the recorded action stays the expert's, and `perturbed` marks the step, so that no chunk is trained across it.
- *Take-overs* (after DAgger, arXiv 1011.0686): the newest checkpoint in `--policies` drives up to a random step, then
  the expert takes over and recovers. What the policy did is not recorded. Some episodes are left to the policy; their
  outcomes are in `rollouts-*.jsonl`.

Frames are rendered at the protocol's 256x256 and stored at the 128x128 that the policy averages them down to. Every
process writes Parquet files of the LeRobot v3 layout, whole and then renamed, so that a trainer may read along. Only
episodes that end in success are kept. No Ray: one process per core on one machine.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from harness.policies.scripted.phases import CLOSED, DROPPED, Expert, Phase, Scene, choose_turn
from harness.policies.scripted.recipes import Job, read_job
from harness.sim import LiberoSim, SimConfig
from harness.sim.world import LiberoWorld
from harness.spec.observation import CAMERAS, Observation

FPS = 20
STORED_SIZE = 128
MAX_STEPS = 220
AFTER_SUCCESS = 8
"""Steps recorded after success, so that the policy also sees an object that lies where it should."""
EPISODES_PER_FILE = 4
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("observation.images.image", IMAGE),
        ("observation.images.image2", IMAGE),
        ("observation.state", pa.list_(pa.float32(), 8)),
        ("action", pa.list_(pa.float32(), 7)),
        ("perturbed", pa.bool_()),
        ("timestamp", pa.float32()),
        ("frame_index", pa.int64()),
        ("episode_index", pa.int64()),
        ("index", pa.int64()),
        ("task_index", pa.int64()),
    ]
)


class Teacher(Expert):
    """The scripted expert as a policy can imitate it: what it does follows from what can be seen.

    It opens its hand fully and tells the fingers at each step to open or to close, instead of counting steps by which
    they are half closed; and it tries again as it tried before, instead of turning its hand another way.
    """

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide one action, shape (7,)."""
        action = Expert.act(self, observation)
        closing = action[6] > 0 or (action[6] == 0 and self.closure == CLOSED)
        action[6] = 1.0 if closing else -1.0
        return action

    def _enter(self, phase: Phase, scene: Scene) -> None:
        Expert._enter(self, phase, scene)
        if phase is Phase.APPROACH:
            self.attempts, self.turn = 0, choose_turn(self.job.grasp, scene, 0)


def teacher(job: Job) -> Teacher:
    """An expert at the start of an episode."""
    return Teacher(replace(job, grasp=replace(job.grasp, spread=0)))


def take_over(job: Job, first: Scene, seen: Observation, closure: int) -> Teacher:
    """An expert that goes on from wherever a policy has got to.

    Args:
        job: The task.
        first: The scene when the episode began.
        seen: The present observation.
        closure: Control steps by which the fingers are closed, 0 to 8.
    """
    expert = teacher(job)
    scene = Scene.of(seen, job, None)
    expert.closure = closure
    risen = float((scene.thing - first.thing)[2])
    point = expert._grasp_point(scene)
    if closure == CLOSED and np.linalg.norm(scene.thing - scene.hand) < DROPPED and risen > 0.01:
        expert.phase, expert.lifted = (Phase.CARRY, first) if risen > 0.05 else (Phase.LIFT, scene)
    elif scene.hand[2] < point[2] + 0.04 and np.linalg.norm((point - scene.hand)[:2]) > 0.016:
        expert.phase = Phase.RETREAT
    return expert


@dataclass(slots=True)
class Rows:
    """One episode's rows."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})

    def add(self, seen: Observation, action: NDArray[np.float32], perturbed: bool) -> None:
        """Add what was seen, what the expert says to do, and whether something else was done."""
        columns, n = self.columns, len(self.columns["action"])
        for name, camera in zip(("image", "image2"), CAMERAS, strict=True):
            columns[f"observation.images.{name}"].append({"bytes": png(seen.images[camera]), "path": None})
        columns["observation.state"].append(seen.state)
        columns["action"].append(action)
        columns["perturbed"].append(perturbed)
        columns["timestamp"].append(n / FPS)
        columns["frame_index"].append(n)

    def finish(self, episode: int, task: int) -> dict[str, list[Any]]:
        """The columns, numbered."""
        n = len(self.columns["action"])
        self.columns["episode_index"] = [episode] * n
        self.columns["index"] = [episode * 1000 + i for i in range(n)]
        self.columns["task_index"] = [task] * n
        return self.columns


def png(frame: NDArray[np.uint8]) -> bytes:
    """Average a frame down to `STORED_SIZE` and encode it."""
    factor = frame.shape[0] // STORED_SIZE
    blocks = frame.reshape(STORED_SIZE, factor, STORED_SIZE, factor, 3).astype(np.uint16).sum(axis=(1, 3))
    small = ((blocks + factor * factor // 2) // (factor * factor)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def pushes(rng: np.random.Generator) -> NDArray[np.float32]:
    """Offsets of an episode's actions, shape (MAX_STEPS, 7): bursts in a constant direction; a quarter has none."""
    offsets = np.zeros((MAX_STEPS, 7), dtype=np.float32)
    if rng.random() < 0.25:
        return offsets
    step = int(rng.integers(3, 25))
    while step < MAX_STEPS:
        length = int(rng.integers(3, 9))
        direction = rng.standard_normal(3)
        burst = np.zeros(7)
        burst[:3] = direction / np.linalg.norm(direction) * rng.uniform(0.2, 1.2)
        burst[3:6] = rng.standard_normal(3) * 0.15
        burst[6] = -2.0 if rng.random() < 0.1 else 0.0
        offsets[step : step + length] = burst
        step += length + int(rng.integers(12, 35))
    return offsets


class Driver:
    """The newest checkpoint of a training run, at the wheel."""

    def __init__(self, folder: Path) -> None:
        """Watch `folder` for checkpoints named step-N."""
        self.folder, self.step = folder, -1
        self.policy: Any = None

    def refresh(self) -> bool:
        """Load the newest checkpoint if there is a newer one; whether there is any."""
        from harness.policies.flow import FlowPolicy, load_network

        found = sorted(self.folder.glob("step-*"))
        if found and (step := int(found[-1].name.partition("-")[2])) != self.step:
            self.policy, self.step = FlowPolicy(load_network(found[-1])[0], device="cpu"), step
        return self.policy is not None


@dataclass(slots=True)
class Course:
    """One episode under way: the simulator, and how far the fingers are closed."""

    sim: LiberoSim
    seen: Observation
    closure: int = 0
    steps: int = 0
    success: bool = False

    def step(self, action: NDArray[np.float32], *, observe: bool = True) -> None:
        """Execute one action."""
        result = self.sim.step(action, observe=observe)
        self.closure = int(np.clip(self.closure + np.sign(action[6]), 0, CLOSED))
        self.steps += 1
        self.success = self.success or result.success
        if result.observation is not None:
            self.seen = result.observation


def drive(course: Course, policy: Any, steps: int, rng: np.random.Generator, *, nfe: int, interval: int) -> None:
    """Let the policy act for `steps` control steps, or until success."""
    while course.steps < steps and not course.success:
        noise = rng.standard_normal((1, *policy.info.noise_shape)).astype(np.float32)
        chunk = policy.act([replace(course.seen, privileged={})], noise, nfe=nfe).actions[0]
        ahead = min(interval, steps - course.steps)
        for i in range(ahead):
            course.step(chunk[i], observe=i == ahead - 1)
            if course.success:
                return


def demonstrate(course: Course, expert: Teacher, rng: np.random.Generator) -> Rows | None:
    """Let the expert act until after success; None when it does not get there."""
    rows, offsets, left = Rows(), pushes(rng), AFTER_SUCCESS
    for step in range(MAX_STEPS):
        expert.closure = course.closure
        label = expert.act(course.seen)
        offset = offsets[step] if not course.success else 0 * offsets[step]
        executed = np.clip(label + offset, -1.0, 1.0).astype(np.float32)
        rows.add(course.seen, label, bool(offset.any()))
        course.step(executed)
        left -= course.success
        if left == 0:
            return rows
    return None


class Recorder:
    """One process: its tasks, its simulators, its files."""

    def __init__(self, options: argparse.Namespace, worker: int) -> None:
        """Take every task whose number is that of the worker modulo the tasks, and the one half a round further."""
        self.options, self.worker = options, worker
        self.tasks = all_tasks(options.suites)
        n = len(self.tasks)
        self.own = sorted({worker % n, (worker + n // 2) % n})
        self.sims: dict[int, LiberoSim] = {}
        self.driver = Driver(options.policies) if options.policies else None
        self.pending: list[dict[str, list[Any]]] = []
        self.parts = 0
        self.log = (options.out / f"rollouts-{worker:03d}.jsonl").open("a")

    def run(self) -> None:
        """Record until the quota or the time is used up."""
        for number in self._numbers():
            task = self.own[number % len(self.own)]
            episode = number * self.options.processes + self.worker
            self._episode(task, episode, np.random.default_rng([self.options.seed, task, episode]))
            if len(self.pending) >= EPISODES_PER_FILE:
                self._flush()
        self._flush()

    def _numbers(self) -> Iterator[int]:
        number = 0
        quota = -(-self.options.episodes // self.options.processes)
        while number < quota and time.time() < self.options.deadline:
            yield number
            number += 1

    def _episode(self, task: int, episode: int, rng: np.random.Generator) -> None:
        sim = self._sim(task)
        first = sim.reset(episode)
        if first is None:
            raise SystemExit("The simulator returned no observation.")
        job = read_job(sim.instruction, first.privileged)
        course = Course(sim, first)
        entry = {"worker": self.worker, "task": task, "episode": episode, "time": time.time()}
        driven = self.driver is not None and self.driver.refresh() and rng.random() < self.options.driven
        if driven and self.driver is not None:
            limit = MAX_STEPS if rng.random() < 0.25 else int(rng.integers(1, 90))
            interval = 10 if episode // self.options.processes % 2 else 5
            nfe = self.options.nfe
            drive(course, self.driver.policy, limit, rng, nfe=nfe, interval=interval)
            entry |= {"step": self.driver.step, "limit": limit, "interval": interval, "steps": course.steps}
            entry["alone"] = course.success
        if course.success or course.steps >= MAX_STEPS:
            rows = None
        else:
            expert = take_over(job, Scene.of(first, job, None), course.seen, course.closure) if driven else teacher(job)
            rows = demonstrate(course, expert, rng)
            entry["recovered" if driven else "expert"] = rows is not None
        if rows is not None:
            self.pending.append(rows.finish(episode, task))
        self.log.write(json.dumps(entry) + "\n")
        self.log.flush()

    def _sim(self, task: int) -> LiberoSim:
        if task not in self.sims:
            suite, task_id, _ = self.tasks[task]
            config = SimConfig(placements="sampled", placement_seed=self.options.seed, privileged=True, cameras=CAMERAS)
            self.sims[task] = LiberoSim(suite, task_id, config=config)
        return self.sims[task]

    def _flush(self) -> None:
        if not self.pending:
            return
        merged = {name: [value for rows in self.pending for value in rows[name]] for name in SCHEMA.names}
        table = pa.table([pa.array(merged[f.name], type=f.type) for f in SCHEMA], schema=SCHEMA)
        path = self.options.out / "data" / "chunk-000" / f"file-{self.worker:03d}{self.parts:05d}.parquet"
        pq.write_table(table, path.with_suffix(".tmp"), compression="none", use_dictionary=False)
        os.replace(path.with_suffix(".tmp"), path)
        self.pending, self.parts = [], self.parts + 1


def all_tasks(suites: str) -> list[tuple[str, int, str]]:
    """(suite, task id, instruction) of every task, in order: the position is the `task_index`."""
    world = LiberoWorld()
    return [(s, i, text) for s in suites.split(",") for i, text in enumerate(world.describe(s).instructions)]


def write_meta(out: Path, suites: str) -> None:
    """The parts of LeRobot's metadata that are known beforehand."""
    tasks = all_tasks(suites)
    (out / "meta").mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index([t for _, _, t in tasks], name="task"))
    frame.to_parquet(out / "meta" / "tasks.parquet")
    image = {"dtype": "image", "shape": [STORED_SIZE, STORED_SIZE, 3], "names": ["height", "width", "channel"]}
    features = {
        "observation.images.image": image,
        "observation.images.image2": image,
        "observation.state": {"dtype": "float32", "shape": [8], "names": None},
        "action": {"dtype": "float32", "shape": [7], "names": None},
        "perturbed": {"dtype": "bool", "shape": [1], "names": None},
    }
    info = {"codebase_version": "v3.0", "fps": FPS, "robot_type": "panda", "features": features}
    (out / "meta" / "info.json").write_text(json.dumps(info, indent=2) + "\n")


def work(options: argparse.Namespace, worker: int) -> None:
    """One process."""
    if devices := options.egl_devices.split(",") if options.egl_devices else []:
        os.environ["MUJOCO_EGL_DEVICE_ID"] = devices[worker % len(devices)]
    Recorder(options, worker).run()


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--suites", default="libero_spatial,libero_object")
    parser.add_argument("--episodes", type=int, default=10**9, help="attempts, over all tasks")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop beginning episodes after this long")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--policies", type=Path, help="folder of checkpoints step-N; the newest drives")
    parser.add_argument(
        "--driven", type=float, default=0.7, help="share of episodes that a policy begins, once there is one"
    )
    parser.add_argument("--nfe", type=int, default=4, help="function evaluations of the driving policy")
    parser.add_argument("--egl-devices", default="", help="EGL devices that processes take in turn, e.g. 0,1,1,1")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    options.deadline = time.time() + options.seconds
    return options


def main() -> None:
    """Record."""
    options = parse()
    (options.out / "data" / "chunk-000").mkdir(parents=True, exist_ok=True)
    write_meta(options.out, options.suites)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(options, n)) for n in range(options.processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed := [n for n, worker in enumerate(workers) if worker.exitcode]:
        raise SystemExit(f"Processes {failed} failed; see above.")


if __name__ == "__main__":
    main()

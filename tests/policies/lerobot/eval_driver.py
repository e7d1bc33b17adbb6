"""Runs the real `lerobot-eval` on `vla_flow`, one environment at a time, and writes down what it saw and did.

Three things are set, none of which touches what the policy is shown or what is executed: its noise is the harness's
keyed noise, torch has one thread, and init states lie where LeRobot's own loader looks for them.

    python eval_driver.py REQUEST.json        # see `Request`
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PLUGIN = Path(__file__).parents[3] / "examples" / "lerobot_policy_vla_flow"


@dataclass(frozen=True)
class Request:
    """What to run."""

    policy: str
    """Folder of the converted policy."""
    suite: str
    task_id: int
    keys: list[str]
    """Episode keys, of whose noise episode i's decisions are made."""
    out: str
    """Folder for `eval_info.json`, `episodes.npz` and `trajectories.json`."""
    steps: int | None = None
    """Control steps after which an episode is cut off; None: the suite's."""


class Notes:
    """What happened, episode by episode."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.shown: list[list[Any]] = []
        self.actions: list[list[Any]] = []
        self.qpos: list[list[Any]] = []

    def begin(self) -> None:
        """Start an episode."""
        for each in (self.shown, self.actions, self.qpos):
            each.append([])

    def save(self, out: Path) -> None:
        """Write the episodes' numbers, and the digest of each trajectory as the harness takes it."""
        arrays = {}
        for episode in range(len(self.qpos)):
            arrays[f"actions{episode}"] = np.stack(self.actions[episode])
            arrays[f"qpos{episode}"] = np.stack(self.qpos[episode])
            arrays[f"state{episode}"] = np.stack([state for state, _ in self.shown[episode]])
            arrays[f"images{episode}"] = np.stack([images for _, images in self.shown[episode]])
        np.savez(out / "episodes.npz", **arrays)
        digests = [hashlib.sha256(np.stack(qpos).tobytes()).hexdigest() for qpos in self.qpos]
        (out / "trajectories.json").write_text(json.dumps(digests))


def observe(request: Request, notes: Notes) -> None:
    """Have policy and environment tell what they do, and the policy take keyed noise."""
    import torch
    from lerobot.envs.libero import LiberoEnv
    from lerobot_policy_vla_flow.modeling_vla_flow import VlaFlowPolicy

    from harness.schedule.keys import decision_noise

    reset, read, step = VlaFlowPolicy.reset, VlaFlowPolicy._read, LiberoEnv.step
    decide = VlaFlowPolicy.predict_action_chunk

    def noted_read(self: Any, batch: dict[str, Any]) -> Any:
        inputs = read(self, batch)
        notes.shown[-1].append((inputs.state[0].numpy().copy(), inputs.images[0].numpy().copy()))
        return inputs

    def keyed(self: Any, batch: dict[str, Any], noise: Any = None, **kwargs: Any) -> Any:
        episode, decision = len(notes.shown) - 1, len(notes.shown[-1])
        shape = (self.config.sizes.chunk_length, 7)
        noise = torch.from_numpy(decision_noise(request.keys[episode], decision, shape))[None]
        return decide(self, batch, noise, **kwargs)

    def noted_step(self: Any, action: Any) -> Any:
        result = step(self, action)
        notes.actions[-1].append(np.array(action))
        notes.qpos[-1].append(np.array(self._env.sim.data.qpos, dtype=np.float64))
        return result

    def begin(self: Any) -> None:
        reset(self)
        if self.built:
            notes.begin()

    init = VlaFlowPolicy.__init__

    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        self.built = False
        init(self, *args, **kwargs)
        self.built = True

    for name, function in {
        "reset": begin,
        "_read": noted_read,
        "predict_action_chunk": keyed,
        "__init__": build,
    }.items():
        setattr(VlaFlowPolicy, name, function)
    LiberoEnv.step = noted_step


def main(path: str) -> None:
    """Run one request."""
    request = Request(**json.loads(Path(path).read_text()))
    out = Path(request.out)
    os.environ["LIBERO_CONFIG_PATH"] = str(out / "libero")
    os.environ["SLURM_JOB_ID"] = "0"  # how LeRobot is told to draw no progress bars
    sys.path.insert(0, str(PLUGIN))
    import torch

    torch.set_num_threads(1)
    from lerobot.scripts import lerobot_eval
    from lerobot_policy_vla_flow.libero_files import write_libero_files

    write_libero_files(out / "libero", request.suite)

    notes = Notes()
    observe(request, notes)
    cut = [] if request.steps is None else [f"--env.episode_length={request.steps}"]
    sys.argv = [
        "lerobot-eval",
        f"--policy.path={request.policy}",
        "--env.type=libero",
        f"--env.task={request.suite}",
        f"--env.task_ids=[{request.task_id}]",
        "--env.observation_height=256",
        "--env.observation_width=256",
        "--eval.batch_size=1",
        f"--eval.n_episodes={len(request.keys)}",
        "--policy.device=cpu",
        f"--output_dir={out / 'eval'}",
        *cut,
    ]
    lerobot_eval.main()
    notes.save(out)


if __name__ == "__main__":
    main(sys.argv[1])

"""Suites of the stub world, and policies that misbehave on purpose. Imported by name in workers and servers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import ActionChunks, PolicyInfo
from harness.spec.resolve import parse


def stub_suite(suite: str = "stub", **changes) -> Suite:
    """A small suite of the stub world."""
    tasks = changes.pop("tasks", [{"suite": suite, "tasks": [0, 1, 2], "init_states": 4}])
    data = {
        "name": "stub-suite",
        "description": "scheduling tests",
        "world": "stub",
        "tasks": tasks,
        "protocol": changes.pop("protocol", "stub"),
        "policies": changes.pop("policies", ["noop", "random"]),
        **changes,
    }
    return parse(Suite, data, "test")


def make_unit(task_id: int = 0, init_state_id: int = 0, policy: str = "p", nfe: int | None = None) -> EpisodeUnit:
    """A unit of the stub world."""
    key = episode_key("ab" * 32, "stub", task_id, init_state_id, 0)
    return EpisodeUnit(policy, nfe, "stub", task_id, init_state_id, 0, key, "ab" * 32)


def python_policy(factory: str, label: str, **options) -> dict:
    """A policy of this module, as a suite names it."""
    return {"kind": "python", "path": f"stub_runs:{factory}", "options": options, "label": label}


class Steady:
    """Counts up by one each step; its base for misbehaviour."""

    placement = "worker"

    def __init__(self, spec) -> None:  # noqa: D107
        self.options = dict(spec.options)
        self.info = PolicyInfo(spec.label, placement=self.placement)

    def act(self, observations, noise, *, nfe=None):
        for seen in observations:
            self.meet(seen)
        return ActionChunks(np.ones((len(observations), 1, 7), dtype=np.float32))

    def meet(self, seen) -> None:
        """Do what this policy is here for."""

    def first_time(self, name: str) -> bool:
        """Whether nobody has been here before, in any process."""
        try:
            (Path(self.options["marks"]) / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class Served(Steady):
    """In a policy server, with a denoising loop and noise."""

    placement = "server"

    def __init__(self, spec) -> None:  # noqa: D107
        super().__init__(spec)
        self.info = PolicyInfo(
            spec.label, placement="server", nfe_options=(1, 4), default_nfe=4, noise_shape=(1, 7), max_batch=8
        )

    def act(self, observations, noise, *, nfe=None):
        for seen in observations:
            self.meet(seen)
        time.sleep(0.002)
        # A function of the noise and the NFE alone, so that whoever shares the batch must not matter.
        return ActionChunks(np.clip(noise * nfe, -1, 1).astype(np.float32))


class KillsItsProcessOnce(Steady):
    """Dies with SIGKILL the first time that it meets decision 2 of a task-1 episode."""

    def meet(self, seen):
        if "task 1" in seen.instruction and seen.decision == 2 and self.first_time("killed"):
            os.kill(os.getpid(), signal.SIGKILL)


class AlwaysKillsOnTaskOne(Steady):
    """Takes its process down in every episode of task 1."""

    def meet(self, seen):
        if "task 1" in seen.instruction:
            os.kill(os.getpid(), signal.SIGKILL)


class AlwaysKills(Steady):
    """Takes its process down at once."""

    def meet(self, seen):
        os.kill(os.getpid(), signal.SIGKILL)


class RaisesOnTaskOne(Steady):
    """Raises in every episode of task 1."""

    def meet(self, seen):
        if "task 1" in seen.instruction:
            raise ValueError("no such bowl")


class RaisesUntilMended(RaisesOnTaskOne):
    """Raises in every episode of task 1 until there is a file `mended`."""

    def meet(self, seen):
        if not (Path(self.options["marks"]) / "mended").exists():
            super().meet(seen)


class HangsOnTaskOne(Steady):
    """Sleeps for ever in every episode of task 1."""

    def meet(self, seen):
        if "task 1" in seen.instruction:
            time.sleep(3600)


class SleepsOnce(Steady):
    """Takes eight seconds over one episode of task 1, whoever meets it first."""

    def meet(self, seen):
        if "task 1" in seen.instruction and self.first_time("slept"):
            time.sleep(8)


class HangsBeyondSignals(Steady):
    """Hangs once, with every signal blocked, as a call into C would."""

    def meet(self, seen):
        if "task 1" in seen.instruction and self.first_time("hung"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
            time.sleep(3600)


class ServerHangsOnce(Served):
    """A server whose compute thread hangs once."""

    def meet(self, seen):
        if seen.decision == 1 and self.first_time("server-hung"):
            time.sleep(3600)


class ServerDiesOnce(Served):
    """A server that dies once."""

    def meet(self, seen):
        if seen.decision == 1 and self.first_time("server-died"):
            os.kill(os.getpid(), signal.SIGKILL)


def identity_in(folder: str) -> PolicyIdentity:
    """The identity of a checkpoint whose statistics stand in a file."""
    return PolicyIdentity("a" * 64, statistics=(Path(folder) / "statistics").read_text())


class Checkpointed(Steady):
    """States the identity of what it has loaded."""

    def __init__(self, spec) -> None:  # noqa: D107
        super().__init__(spec)
        self.info = replace(self.info, identity=identity_in(self.options["marks"]))


class ChangesWhenItDies(Served):
    """A server that dies once, and whose checkpoint is another one when it comes back."""

    def __init__(self, spec) -> None:  # noqa: D107
        super().__init__(spec)
        self.info = replace(self.info, identity=identity_in(self.options["marks"]))

    def meet(self, seen):
        if seen.decision == 1 and self.first_time("server-changed"):
            (Path(self.options["marks"]) / "statistics").write_text("5" * 64)
            os.kill(os.getpid(), signal.SIGKILL)


class ServerRaisesForTaskOne(Served):
    """A server that raises for some observations, whatever batch they are in."""

    def meet(self, seen):
        if "task 1" in seen.instruction:
            raise ValueError("no such bowl")


def cannot_load(spec):
    """A policy whose weights are missing."""
    raise FileNotFoundError("model.safetensors")


class PretendsToImportTorch(Steady):
    """Leaves a module called torch behind."""

    def meet(self, seen):
        import sys
        import types

        sys.modules.setdefault("torch", types.ModuleType("torch"))


class Drifts(Steady):
    """Decides a little otherwise where the variable STUB_DRIFT says so, as another GPU would."""

    def act(self, observations, noise, *, nfe=None):
        drift = float(os.environ.get("STUB_DRIFT", "0"))
        return ActionChunks(np.full((len(observations), 1, 7), 1 - drift, dtype=np.float32))


class Chunked(Steady):
    """Chunks of five actions, each a function of the episode, the decision and the action's place."""

    def __init__(self, spec) -> None:  # noqa: D107
        super().__init__(spec)
        self.info = replace(self.info, chunk_length=5, replan_interval=4, noise_shape=(5, 7))

    def act(self, observations, noise, *, nfe=None):
        state = np.array([seen.state[0] for seen in observations])[:, None, None]
        return ActionChunks(np.clip(0.3 + noise * 0.5 + state / 100, -1, 1).astype(np.float32))

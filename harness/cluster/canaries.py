"""Canaries: before unlike nodes pool their rows, all repeat the same keyed episodes, frame and decisions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.cluster.claim import Claimed
from harness.cluster.group import THREADS
from harness.cluster.policy_server import build_policy
from harness.cluster.ray_errors import reason_of
from harness.cluster.ray_session import RaySession
from harness.cluster.rows import canary_rows
from harness.errors import HarnessError, NodeError
from harness.rollout.decide import first_of
from harness.rollout.faults import describe_exception
from harness.schedule.canaries import (
    CanaryCheck,
    CanaryNode,
    Sung,
    canary_labels,
    compare_canaries,
    describe_outside,
    digest,
    need_canaries,
)
from harness.schedule.keys import decision_noise, noise_generator
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import ACTION_DIM, CAMERAS, Observation
from harness.spec.policy import PolicySpec
from harness.worlds.base import GLBackend, SimConfig, sim_config
from harness.worlds.registry import get_world

EPISODES, STEPS = 2, 40
"""Keyed episodes, and control steps of each: two seconds at 20 Hz, enough to move and to touch."""
SPREAD = 0.5
"""Standard deviation of their actions, action units."""
FRAME = 256
"""Height and width of the keyed frame, pixels."""
RENDERERS = 8
"""Processes that render at once, where EGL does it: MuJoCo has hung there (google-deepmind/mujoco#3444)."""
CANARY_S = 300.0
"""Limit of one node's answers, seconds: opening LIBERO's task on a busy machine."""


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """What every node that simulates repeats."""

    world: str
    suite: str
    task_id: int
    config: SimConfig
    episodes: tuple[tuple[int, int, str], ...]
    """(init state, trial, episode key) of each."""
    backend: GLBackend | None
    draws: bool
    """Whether a frame is drawn."""


@dataclass(frozen=True, slots=True)
class CanariesEnd:
    """What came of it; empty where nobody had to be compared."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Ray's id of a node → its label, as in `episodes.canary`."""
    quarantined: frozenset[str] = frozenset()
    """Ray's ids of nodes that get no episodes."""


def sing(request: CanaryRequest) -> tuple[tuple[Sung, ...], Observation | None]:
    """Repeat the keyed episodes and the keyed frame on the node that this runs on.

    Returns:
        (an answer for each, the first observation of the first episode; None where that failed).
    """
    answers, seen, name = [], None, f"{request.suite} task {request.task_id}"
    picture = f"{CAMERAS[0]}, {name}"
    try:
        simulator = get_world(request.world).make(request.suite, request.task_id, request.config)
    except Exception as error:
        return (Sung("episode", name, error=describe_exception(error)),), None
    try:
        for place, (init_state, trial, key) in enumerate(request.episodes):
            first = simulator.reset(init_state, trial=trial, episode_key=key)
            if place == 0:
                seen = first
                if request.draws:
                    frame = simulator.frame(CAMERAS[0], FRAME)
                    answers.append(Sung("frame", picture, frame, digest(frame)))
            trajectory = hashlib.sha256()
            for step in range(STEPS):
                drawn = noise_generator(key, step).standard_normal(ACTION_DIM, dtype=np.float32)
                simulator.step(np.clip(SPREAD * drawn, -1, 1).astype(np.float32))
                trajectory.update(np.ascontiguousarray(simulator.qpos, dtype=np.float64))
            answers.append(Sung("episode", f"{name} init {init_state}", simulator.qpos, trajectory.hexdigest()))
    except Exception as error:
        answers.append(Sung("episode", name, error=describe_exception(error)))
    finally:
        simulator.close()
    if request.draws and request.backend is not None and request.backend.name == "egl":
        answers.append(crowd(request.backend))
    return tuple(answers), seen


def crowd(backend: GLBackend) -> Sung:
    """Render in several processes at once, each of which has its time."""
    from harness.sim.gl import run_probe

    subject, variables = f"{RENDERERS} renderers at once", {**os.environ, **backend.env}
    with ThreadPoolExecutor(RENDERERS) as pool:
        asked = [pool.submit(run_probe, "frame", variables) for _ in range(RENDERERS)]
    failed = [error for each in asked if (error := each.exception()) is not None]
    if failed:
        return Sung("frame", subject, error=f"{len(failed)} of {RENDERERS} failed: {failed[0]}")
    drawn = np.array([RENDERERS])
    return Sung("frame", subject, drawn, digest(drawn))


def answer_here(spec: PolicySpec, seen: Observation, noise: Any, nfe: int | None) -> Any:
    """One decision of a policy that decides inside the rollout workers, on the node that this runs on."""
    policy = build_policy(spec)
    try:
        return first_of(policy.act([seen], None if noise is None else noise[np.newaxis], nfe=nfe), 1)[0]
    finally:
        close = getattr(policy, "close", None)
        if close is not None:
            close()


def compare_nodes(
    claimed: Claimed, session: RaySession, rows: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]
) -> CanariesEnd:
    """Compare the nodes of a run where they are unlike, and write down what came of it.

    Args:
        claimed: The run; its ledger gets the table `canaries`.
        session: Connection to the Ray cluster.
        rows: Ray's id of a node → its row of `nodes`.
        say: Takes a line for each node outside the tolerance.

    Raises:
        NodeError: Every node that could run episodes is quarantined.
    """
    rules = claimed.suite.canaries
    if not claimed.todo or not any(need_canaries(each, rules.run) for each in _classes(claimed, rows)):
        return CanariesEnd()
    say("Comparing the nodes (canaries)")
    checks = _Canaries(claimed, session, rows).run()
    claimed.writer.append("canaries", canary_rows(claimed.run_id, checks))
    by_name = {row["node_id"]: node_id for node_id, row in rows.items()}
    labels = {by_name[name]: label for name, label in canary_labels(checks).items()}
    outside = {by_name[name]: why for name, why in describe_outside(checks).items()}
    barred = frozenset(outside) if rules.outside == "quarantine" else frozenset()
    for node_id, why in outside.items():
        fate = "gets no episodes" if node_id in barred else "has its episodes labelled (`episodes.canary`)"
        say(f"warning: node {rows[node_id]['node_id']} {fate}: {why}.")
    if set(claimed.reports) <= barred:
        raise NodeError(
            f"The canaries put every node outside their tolerance: {next(iter(outside.values()))}. Raise `canaries` in "
            "the suite, or say `outside: label`."
        )
    claimed.servers.drop(barred)
    claimed.servers.mark(labels)
    return CanariesEnd(labels, barred)


def _classes(claimed: Claimed, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[list[tuple[Any, Any, Any]]]:
    """The classes of nodes whose rows would be pooled: those that simulate, and those that serve one policy."""
    yield [_machine(rows[node_id]) for node_id in claimed.reports]
    for label in claimed.servers.setups:
        yield [_machine(rows[node_id], "decision") for _, node_id in claimed.servers.placed(label)]


def _machine(row: Mapping[str, Any], kind: str = "episode") -> tuple[Any, Any, Any]:
    return row["isa"], None if kind == "decision" else row["gl"], row["accelerator"]


class _Canaries:
    """Asks the nodes of one run."""

    def __init__(self, claimed: Claimed, session: RaySession, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self._claimed, self._session, self._rows = claimed, session, rows
        self._rules, self._setups = claimed.suite.canaries, claimed.servers.setups

    def run(self) -> list[CanaryCheck]:
        """Ask, and compare; decisions are about what the first node saw."""
        limits = {"episode": self._rules.position, "frame": float(self._rules.frame), "decision": self._rules.action}
        heard = self._ask_simulators()
        singing = [self._node(node_id, "episode", answers) for node_id, (answers, _) in heard.items()]
        checks = compare_canaries(singing, limits)
        seen = next((first for _, first in heard.values() if first is not None), None)
        if seen is None:
            return checks
        for label in self._setups:
            deciding = [self._node(node_id, "decision", (answer,)) for node_id, answer in self._ask(label, seen)]
            checks += compare_canaries(deciding, limits)
        return checks

    def _node(self, node_id: str, kind: str, answers: Sequence[Sung]) -> CanaryNode:
        row = self._rows[node_id]
        return CanaryNode(row["node_id"], _machine(row, kind), row["hardware"], tuple(answers))

    def _ask_simulators(self) -> dict[str, tuple[tuple[Sung, ...], Observation | None]]:
        """Every node's answers, asked at the same time; Ray's ids in the order of the rows, the driver's first."""
        task = self._session.ray.remote(num_cpus=0, max_retries=0)(sing)
        refs = {}
        for node_id in (each for each in self._rows if each in self._claimed.reports):
            backend = self._claimed.reports[node_id].backend
            refs[node_id] = self._on(task, node_id, backend).remote(self._request(backend))
        heard: dict[str, tuple[tuple[Sung, ...], Observation | None]] = {}
        for node_id, ref in refs.items():
            try:
                heard[node_id] = self._session.ray.get(ref, timeout=CANARY_S)
            except Exception as error:
                heard[node_id] = (Sung("episode", "any", error=_told(error)),), None
        return heard

    def _on(self, task: Any, node_id: str, backend: GLBackend | None) -> Any:
        variables = {**THREADS, **(backend.env if backend is not None else {})}
        return task.options(scheduling_strategy=self._session.on(node_id), runtime_env={"env_vars": variables})

    def _request(self, backend: GLBackend | None) -> CanaryRequest:
        first = self._claimed.plan[0]
        episodes = {(u.init_state_id, u.trial, u.episode_key): None for u in self._claimed.plan if u.task == first.task}
        infos = [setup.info for setup in self._setups.values()]
        draws = backend is not None or self._claimed.suite.world == "stub"
        cameras = dict.fromkeys(camera for info in infos for camera in info.cameras) if draws else {}
        privileged = any(info.privileged for info in infos)
        return CanaryRequest(
            self._claimed.suite.world,
            first.suite,
            first.task_id,
            sim_config(self._claimed.suite.protocol, cameras, privileged=privileged),
            tuple(episodes)[:EPISODES],
            backend,
            draws,
        )

    def _ask(self, label: str, seen: Observation) -> list[tuple[str, Sung]]:
        """(Ray's id of a node, what the policy decides there), one for each node that it decides on."""
        setup, unit = self._setups[label], self._unit(label)
        if unit is None:
            return []
        info = setup.info
        shown = {name: frame for name, frame in seen.images.items() if name in info.cameras}
        seen = replace(seen, images=shown, privileged=seen.privileged if info.privileged else {})
        noise = None if info.noise_shape is None else decision_noise(unit.episode_key, 0, info.noise_shape)
        refs = []
        if setup.servers:
            for server, node_id in self._claimed.servers.placed(label):
                refs.append((node_id, server.decide.remote(seen, noise, unit.nfe, info.stated_identity, None)))
        else:
            task = self._session.ray.remote(num_cpus=0, max_retries=0)(answer_here)
            for node_id in (each for each in self._rows if each in self._claimed.reports):
                asked = self._on(task, node_id, self._claimed.reports[node_id].backend)
                refs.append((node_id, asked.remote(setup.spec, seen, noise, unit.nfe)))
        answers = {node_id: self._take(label, ref) for node_id, ref in reversed(refs)}
        for server, _ in self._claimed.servers.placed(label):
            server.end_episode.remote(seen.episode_key)
        return [(node_id, answers[node_id]) for node_id in dict.fromkeys(node_id for node_id, _ in refs)]

    def _unit(self, label: str) -> EpisodeUnit | None:
        return next((unit for unit in self._claimed.plan if unit.policy == label), None)

    def _take(self, label: str, ref: Any) -> Sung:
        try:
            decided = self._session.ray.get(ref, timeout=CANARY_S)
        except Exception as error:
            return Sung("decision", label, error=_told(error))
        actions = np.asarray(getattr(decided, "actions", decided))
        return Sung("decision", label, actions, digest(actions))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, HarnessError) else reason_of(error) or f"no answer within {CANARY_S:.0f} s"

"""Rollout workers: actors that pull units, run them, and report. Neither torch nor transformers is imported here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from harness.clocks import Timing
from harness.cluster.film import film
from harness.cluster.identity import require_same_policy
from harness.cluster.messages import NodeIdentity, PolicySetup, WorkerSetup, WorkerSummary
from harness.cluster.policy_server import ServerDecider, build_policy
from harness.cluster.simulators import CAPACITY, SimulatorCache
from harness.ledger.storage import Location
from harness.rollout.decide import Decider, LocalDecider
from harness.rollout.episode import run_episode
from harness.rollout.episode_parts import write_part
from harness.rollout.faults import explain_fault
from harness.rollout.limits import Alarm
from harness.rollout.record import RecordPlan, filmable, record_episode
from harness.schedule.canaries import CANARY_LABELS
from harness.schedule.leases import WorkItem
from harness.schedule.result import EpisodeResult, lost_episode
from harness.spec.observation import CAMERAS
from harness.worlds.base import SimConfig, Simulator, sim_config
from harness.worlds.registry import get_world

HEAVY = ("torch", "transformers")


class RolloutWorker:
    """Keeps simulators and policies between episodes; does what leases say until there is nothing left."""

    def __init__(self, worker_id: str, setup: WorkerSetup, controller: Any) -> None:
        """Get ready; nothing is built before the first lease.

        Args:
            worker_id: Name, unique in the run.
            setup: World, protocol, policies, limits and places of the run.
            controller: Actor handle of the `Controller`.
        """
        import ray

        setup.isolation.apply()
        self._id, self._setup, self._controller = worker_id, setup, controller
        self._index = int("".join(c for c in worker_id.partition(".")[0] if c.isdigit()) or 0)
        node_id: str = ray.get_runtime_context().get_node_id()
        self._place = setup.places.get(node_id, NodeIdentity(node_id, ""))
        self._away = setup.ledger_node not in (None, node_id)
        self._clock = setup.time
        self._alarm = Alarm()
        self._configs = sim_configs(setup)
        capacity = max(CAPACITY, len(set(self._configs.values())))
        world = get_world(setup.world)
        self._space = world.interface.space(setup.protocol.control_mode)
        self._expected = world.interface.imports
        self._simulators = SimulatorCache(world, self._clock, capacity)
        self._deciders: dict[str, Decider] = {}
        self._startup_s, self._free_since = 0.0, self._clock.seconds()

    def work(self) -> WorkerSummary:
        """Pull until told to stop. Every report has been acknowledged when this returns."""
        import ray

        pending: Any = None
        episodes, idle_s, began = 0, 0.0, self._clock.seconds()
        self._free_since = began
        if self._setup.began is not None:
            self._startup_s = max((self._clock.now() - self._setup.began).total_seconds(), 0.0)
        while True:
            asked = self._clock.seconds()
            lease = ray.get(self._controller.lease.remote(self._id, self._place.node_id))
            if lease.stop:
                break
            if not lease.items:
                time.sleep(lease.wait_s)
                idle_s += self._clock.seconds() - asked
                continue
            results = [self._run(item) for item in lease.items]
            episodes += len(results)
            # The controller writes this report while the next lease runs; at most one is under way.
            if pending is not None:
                ray.get(pending)
            pending = self._controller.report.remote(self._id, lease.lease_id, results)
        if pending is not None:
            ray.get(pending)
        active_s = self._clock.seconds() - began
        self._simulators.close()
        heavy = tuple(name for name in HEAVY if name in sys.modules and name not in self._expected)
        return WorkerSummary(self._id, episodes, active_s, self._simulators.build_s, idle_s, heavy)

    def _run(self, item: WorkItem) -> EpisodeResult:
        """Run one unit; whatever goes wrong is in the result."""
        unit = item.unit
        policy, config = self._setup.policies[unit.policy], self._configs[unit.policy]
        actions: Sequence[NDArray[Any]] = ()
        started_at, built_s = self._clock.now(), self._simulators.build_s
        idle_s = self._clock.seconds() - self._free_since
        try:
            simulator = self._simulators.get(unit.task, config)
            result, actions = self._play(simulator, policy, item)
        except Exception as error:
            result = lost_episode(unit, item.attempt, started_at, explain_fault(error), self._place.node_id)
        self._free_since = self._clock.seconds()
        startup_s, self._startup_s = self._startup_s, 0.0
        if result.outcome == "error":
            self._simulators.discard(unit.task, config)
        elif self._wants_video(item, result):
            result = replace(result, video=self._film(simulator, result, actions))
        return replace(
            result,
            node_id=self._place.node_id,
            hardware=self._place.hardware,
            canary=self._canary(policy),
            task=self._setup.task_names.get(unit.task, ""),
            worker=self._id,
            startup_s=startup_s,
            build_s=self._simulators.build_s - built_s,
            idle_s=idle_s,
        )

    def _play(
        self, simulator: Simulator, policy: PolicySetup, item: WorkItem
    ) -> tuple[EpisodeResult, Sequence[NDArray[Any]]]:
        """Run an episode, recorded if that is asked: its result, and the actions that play it again."""
        setup, recording = self._setup, self._setup.recording
        decider = self._decider(policy)
        timing = Timing(item.unit.clock, setup.sources.get(item.unit.latency_source or ""))
        if recording is None and not setup.protocol.action_noise:
            actions: list[NDArray[Any]] = []
            result = run_episode(
                simulator,
                decider,
                item.unit,
                setup.protocol,
                policy.info,
                clock=self._clock,
                limits=setup.limits,
                attempt=item.attempt,
                # Of every episode, filmed or not: a flip is looked at from both sides.
                recorder=actions if setup.video_dir is not None else None,
                timing=timing,
            )
            return result, actions
        result, record = record_episode(
            filmable(simulator),
            decider,
            item.unit,
            setup.protocol,
            policy.info,
            RecordPlan(cameras=CAMERAS if recording is not None else ()),
            clock=self._clock,
            limits=setup.limits,
            attempt=item.attempt,
            timing=timing,
        )
        if recording is not None and result.outcome in recording.outcomes:
            write_part(recording.directory, record)
        return result, list(record.executed)

    def _decider(self, policy: PolicySetup) -> Decider:
        """The way to ask a policy, built once."""
        label = policy.spec.label
        if label not in self._deciders:
            if policy.servers:
                server = policy.servers[self._index % len(policy.servers)]
                identity = policy.info.stated_identity
                self._deciders[label] = ServerDecider(server, label, self._clock, identity=identity)
            else:
                built = build_policy(policy.spec, self._space)
                require_same_policy(label, policy.info.stated_identity, built.info.stated_identity)
                self._deciders[label] = LocalDecider(built, self._alarm, self._clock)
        return self._deciders[label]

    def _canary(self, policy: PolicySetup) -> str | None:
        """What the episodes of a policy say here: the worse of this node's label and its server's."""
        told = [self._place.canary, *([policy.canaries[self._index % len(policy.canaries)]] if policy.canaries else [])]
        return max((label for label in told if label is not None), key=CANARY_LABELS.index, default=None)

    def _wants_video(self, item: WorkItem, result: EpisodeResult) -> bool:
        import ray

        if item.video != "on_failure":
            return item.video == "always"
        unit = item.unit
        if result.outcome != "timeout":
            return False
        claim = self._controller.claim_video.remote(unit.policy_at_nfe, unit.task)
        return bool(ray.get(claim))

    def _send_video(self, path: str, video: bytes) -> None:
        import ray

        ray.get(self._controller.keep_video.remote(path, video))

    def _film(self, simulator: Simulator, result: EpisodeResult, actions: Sequence[NDArray[Any]]) -> str | None:
        """Film an episode; a video that cannot be made is a warning, for the episode itself is fine."""
        assert self._setup.video_dir is not None  # noqa: S101
        try:
            setup, ledger = self._setup, Location.of(self._setup.video_dir)
            send = self._send_video if ledger.is_local and self._away else None
            fps = setup.protocol.control_hz
            return film(simulator, result, actions, ledger, setup.video_cameras, send, fps=fps)
        except Exception as error:
            self._controller.warn.remote(f"A video could not be made. {explain_fault(error)[1]}")
            return None


def sim_configs(setup: WorkerSetup) -> dict[str, SimConfig]:
    """Simulator configuration of each policy.

    Policies with the same cameras share a simulator: object poses are there if any policy reads them, and the rollout
    hides them from the others.
    """
    privileged = any(policy.info.privileged for policy in setup.policies.values())
    recorded = CAMERAS if setup.recording is not None else ()
    return {
        label: sim_config(setup.protocol, dict.fromkeys((*policy.info.cameras, *recorded)), privileged=privileged)
        for label, policy in setup.policies.items()
    }

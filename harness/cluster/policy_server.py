"""Policy servers: actors that hold the weights of one policy and decide in batches for many workers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.cluster.frames import FrameReader, FrameWriter, SharedFrames
from harness.cluster.identity import require_same_policy
from harness.cluster.isolation import Isolation
from harness.cluster.parcel import Parcel, build_here
from harness.cluster.ray_errors import cause_of, harness_error, reason_of
from harness.errors import HarnessError, PolicyError
from harness.policies.base import EpisodicPolicy, Policy, in_world
from harness.policies.origin import origin_of
from harness.rollout.decide import Decided, raised, timed_out
from harness.rollout.faults import PolicyServerDied, PolicyServerLost, describe_exception
from harness.schedule.usage import ServerUse
from harness.serve.batching import Batcher
from harness.serve.sizing import DEFAULT_NFE, Awaited, BatchPlan, asked_for, prepare_serving
from harness.spec.action_space import ActionSpace
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import Observation, PolicyInfo
from harness.spec.policy import PolicySpec
from harness.time_source import TimeSource

if TYPE_CHECKING:
    from harness.latency.nvml import NvmlSource

MAX_RESTARTS = 3
"""How often Ray starts a dead policy server again before the run is given up."""
RESTART_S = 240.0
"""How long a worker waits for a server to come back with its weights, seconds."""
RETRY_S = 0.5
EXIT_STALLED = 75
CALL_S = 30.0
"""Limit of a call that only asks a server about itself."""


class PolicyServer:
    """One policy in one process. An asyncio actor: requests wait in the batcher, the policy runs in its thread."""

    def __init__(
        self,
        spec: PolicySpec,
        *,
        isolation: Isolation,
        clock: TimeSource,
        awaited: Awaited = DEFAULT_NFE,
        parcel: Parcel | None = None,
    ) -> None:
        """Remember what to load; nothing is loaded before the first call, which can then raise.

        Args:
            spec: The policy; its options may say how to batch it, else that is chosen from a few timed batches.
            isolation: What this process is limited to.
            clock: Time.
            awaited: What it will be asked for.
            parcel: Its weights, if the driver has them on its disk.
        """
        self._parcel = parcel
        self._isolation = isolation
        self._awaited = awaited
        self._isolation.apply()
        self._spec = spec
        self._plan: BatchPlan | None = None
        self._clock = clock
        self._loading = asyncio.Lock()
        self._policy: Policy | None = None
        self._batcher: Batcher | None = None
        self._n_clients: int | None = None
        self._hardware: str | None = None
        self._frames = FrameReader()
        self._gpu: NvmlSource | Literal[False] | None = None
        """What is asked how busy the GPU is; None before it was looked for, False without one."""

    async def info(self) -> PolicyInfo:
        """Load the policy and say what it is.

        Raises:
            HarnessError: It cannot be built.
        """
        await self._ready()
        assert self._policy is not None  # noqa: S101
        return self._policy.info

    async def record(self) -> dict[str, Any]:
        """What is known of the loaded policy's origin, and how it is served here; plain data for the ledger.

        Returns:
            What `origin_of` says, with "serving", and with "threads" of torch where the policy loaded it: Ray gives a
            server other threads than the driver has.
        """
        from harness.latency.node import torch_threads

        await self._ready()
        assert self._policy is not None  # noqa: S101
        serving = {"serving": self._plan.record()} if self._plan is not None else {}
        threads = {"threads": torch_threads()} if "torch" in sys.modules else {}
        return origin_of(self._policy) | serving | threads

    async def use(self) -> ServerUse:
        """How busy this process and its GPU are; the GPU is asked in a thread of its own."""
        if self._gpu is None and "torch" in sys.modules:
            self._gpu = await asyncio.to_thread(_open_gpu)
        gpu_busy = await asyncio.to_thread(self._gpu.busy) if self._gpu else None
        busy_s = self._batcher.busy_s() if self._batcher is not None else 0.0
        return ServerUse(str(os.getpid()), self._clock.seconds(), busy_s, gpu_busy)

    async def peek(self, frames: SharedFrames) -> bytes | None:
        """What lies where a worker put it; None where this process cannot look."""
        return self._frames.peek(frames)

    async def attach(self, n_clients: int, hardware: str | None) -> None:
        """Say how many workers ask, and what `hardware` to record."""
        self._n_clients, self._hardware = n_clients, hardware
        if self._batcher is not None:
            self._batcher.attach(n_clients, hardware)

    async def decide(
        self,
        observation: Observation,
        noise: NDArray[np.float32] | None,
        nfe: int | None,
        identity: PolicyIdentity | None = None,
        frames: SharedFrames | None = None,
    ) -> Decided:
        """Decide for one observation, in a batch with others.

        Args:
            observation: What the policy may see.
            noise: Of this decision.
            nfe: Number of function evaluations.
            identity: Of the policy that is meant.
            frames: Where the frames of `observation` lie, if not in it.

        Raises:
            PolicyChanged: This server was started again meanwhile, and what it loaded has another `identity`.
        """
        batcher = await self._ready()
        if identity is not None and self._policy is not None:
            require_same_policy(self._spec.label, identity, self._policy.info.stated_identity)
        return await batcher.submit(self._frames.read(observation, frames), noise, nfe)

    async def end_episode(self, episode_key: str) -> None:
        """Let the policy forget an episode."""
        if isinstance(self._policy, EpisodicPolicy):
            self._policy.end_episode(episode_key)

    async def leave_if_stalled(self, limit_s: float) -> bool:
        """End this process if its batch has been computing for `limit_s`; Ray starts it again.

        The server itself decides, so that two clients whose time is up cannot end its successor as well.

        Returns:
            False, if it returns.
        """
        if self._batcher is not None and self._batcher.stalled_s() >= limit_s:
            os._exit(EXIT_STALLED)
        return False

    async def _ready(self) -> Batcher:
        async with self._loading:
            if self._batcher is None:
                await asyncio.to_thread(self._isolation.limit_gpu)
                self._policy = await asyncio.to_thread(self._build)
                self._plan = await asyncio.to_thread(self._plan_batches, self._policy)
                self._batcher = Batcher(
                    self._policy,
                    max_batch=self._plan.max_batch,
                    max_wait_s=self._plan.max_wait_s,
                    clock=self._clock,
                    n_clients=self._n_clients,
                    hardware=self._hardware,
                    sizes=self._plan.sizes,
                    adaptive=self._plan.adaptive,
                )
        return self._batcher

    def _build(self) -> Policy:
        import ray

        return build_here(self._spec, self._parcel, build_policy, ray.get)

    def _plan_batches(self, policy: Policy) -> BatchPlan:
        max_batch, max_wait_s = asked_for(self._spec.options)
        if policy.info.placement != "server":
            # Only here to say what it is; it will run in the workers.
            return BatchPlan(policy.info.max_batch, 0.0)
        return prepare_serving(
            policy, clock=self._clock, max_batch=max_batch, max_wait_s=max_wait_s, awaited=self._awaited
        )


def _open_gpu() -> NvmlSource | Literal[False]:
    """The GPU that this process computes on, where NVML knows it."""
    from harness.latency.nvml import NvmlSource, cuda_uuids

    uuids = cuda_uuids()
    return (NvmlSource.open(uuids) if uuids else None) or False


def build_policy(spec: PolicySpec, space: ActionSpace | None = None) -> Policy:
    """Build a policy; whatever goes wrong is a harness error that names it. One of any world acts on `space`.

    Raises:
        PolicyError: The policy's own code raised.
        UsageError: The registry refuses the request.
    """
    from harness.policies.registry import make_policy

    try:
        return in_world(make_policy(spec), space)
    except HarnessError:
        raise
    except Exception as error:
        raise PolicyError(f"Policy {spec.label!r} cannot be built: {describe_exception(error)}.") from error


class ServerDecider:
    """Asks a policy server, with a time limit, and has a server that hangs restarted."""

    def __init__(
        self,
        server: Any,
        policy_id: str,
        clock: TimeSource,
        *,
        identity: PolicyIdentity | None = None,
        episodic: bool = True,
    ) -> None:
        """Ask `server`, an actor handle of `PolicyServer`, for decisions of the policy of this `identity` alone."""
        self._server, self._policy_id, self._episodic = server, policy_id, episodic
        self._clock, self._identity = clock, identity
        self._frames: FrameWriter | None = None
        self._asked = False

    def decide(
        self, observation: Observation, noise: NDArray[np.float32] | None, nfe: int | None, limit_s: float
    ) -> Decided:
        """Ask for one decision; see `Decider.decide`.

        Raises:
            PolicyServerDied: The server died; it is being started again.
            PolicyServerLost: It died too often.
        """
        import ray
        from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayTaskError

        decision = observation.decision
        writer = self._writer()
        began = self._clock.seconds()
        bare, frames = (observation, None) if writer is None else writer.write(observation)
        try:
            decided: Decided = ray.get(
                self._server.decide.remote(bare, noise, nfe, self._identity, frames), timeout=limit_s
            )
        except GetTimeoutError:
            if writer is not None:
                # The server may still be reading them.
                writer.renew()
            if self._restart_if_stalled(limit_s):
                self._await_restart()
            raise timed_out(self._policy_id, decision, limit_s) from None
        except ActorUnavailableError as error:
            self._await_restart()
            raise self._died(decision, error) from error
        except ActorDiedError as error:
            raise self._lost(decision, error) from error
        except RayTaskError as error:
            raise harness_error(error) or raised(self._policy_id, decision, cause_of(error)) from None
        round_trip_ms = (self._clock.seconds() - began) * 1e3
        return replace(decided, transport_ms=max(round_trip_ms - decided.queue_ms - decided.infer_ms, 0.0))

    def _writer(self) -> FrameWriter | None:
        """Where frames go that the server can map; None where it cannot, e.g. on another node. Tried once."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        if not self._asked:
            writer, proof = FrameWriter(), os.urandom(16)
            where = writer.write_proof(proof)
            try:
                found = None if where is None else ray.get(self._server.peek.remote(where), timeout=CALL_S)
            except (RayError, GetTimeoutError):
                # The decision itself finds out what is the matter.
                return None
            self._asked = True
            self._frames = writer if found == proof else None
        return self._frames

    def end_episode(self, episode_key: str) -> None:
        """Pass the word on, without waiting."""
        if self._episodic:
            self._server.end_episode.remote(episode_key)

    def _restart_if_stalled(self, limit_s: float) -> bool:
        """Have a server started again whose compute thread hangs; whether that is under way."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        try:
            # Half the limit: the batch that hangs may have begun while this request was waiting for it.
            ray.get(self._server.leave_if_stalled.remote(limit_s / 2), timeout=min(CALL_S, limit_s))
        except GetTimeoutError:
            # Not even its event loop answers: the policy holds the interpreter's lock.
            ray.kill(self._server, no_restart=False)
            return True
        except RayError:
            return True
        return False

    def _await_restart(self) -> None:
        """Wait until a server is back with its weights: episodes tried meanwhile would only use up their attempts."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        deadline = self._clock.seconds() + RESTART_S
        while self._clock.seconds() < deadline:
            try:
                ray.get(self._server.info.remote(), timeout=RESTART_S)
                return
            except ActorUnavailableError:
                time.sleep(RETRY_S)
            except (RayError, TimeoutError):
                # It is gone for good, or cannot load; the next decision says so.
                return

    def _died(self, decision: int, error: Exception) -> PolicyServerDied:
        return PolicyServerDied(
            f"The server of policy {self._policy_id!r} died at decision {decision} and is started again: "
            f"{reason_of(error)}"
        )

    def _lost(self, decision: int, error: Exception) -> PolicyServerLost:
        return PolicyServerLost(
            f"The server of policy {self._policy_id!r} died at decision {decision}, and not for the first time: it is "
            f"not started again ({reason_of(error)}). Look for what kills it (memory is the usual cause), then "
            "continue with --resume."
        )

"""vla-evaluation-harness's protocol in front of a `PolicyService`, so that its benchmarks drive our policies.

Its benchmarks send an observation per control step and want one action back, so the chunk is kept here, as its own
model servers do it. The noise of a decision is keyed by the task that a benchmark names at the episode's start (with
the number of the episode) and by the decision's number: the same evaluation meets the same noise in any batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError, PolicyServerDied, PolicyServerLost, UsageError
from harness.policies.openpi.messages import STATE_DIM, DecisionRequest
from harness.policies.vla_eval import wire
from harness.policies.vla_eval.convention import FRONT, WRIST, action_spec, observation_spec
from harness.policies.vla_eval.wire import Message
from harness.schedule.keys import decision_noise
from harness.serve.dialogue import off_loop
from harness.serve.service import Conversation, PolicyService, complaint
from harness.spec.identity import digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo

WRIST_NAMES = ("wrist", "gripper", "hand")
"""What the name of a wrist camera holds, in vla-eval's benchmarks."""


def require_carried(info: PolicyInfo) -> None:
    """Refuse a policy that reads what this protocol does not carry.

    Raises:
        UsageError: Names it.
    """
    if info.privileged:
        raise UsageError(
            f"Policy {info.policy_id!r} reads poses of objects, which vla-eval's benchmarks do not send; serve it with "
            "--protocol openpi."
        )


class VlaEvalDialogue:
    """One benchmark process, and the episode that it is at."""

    def __init__(self, service: PolicyService, conversation: Conversation) -> None:
        """Talk with a benchmark on behalf of `service`."""
        self.greeting: bytes | None = None
        self._service, self._conversation = service, conversation
        self._left: deque[NDArray[np.float32]] = deque()
        self._earlier: deque[Observation] = deque(maxlen=max(service.info.observation_steps - 1, 0))
        self._key, self._decision, self._episodes = "", 0, 0

    async def reply(self, frame: str | bytes) -> bytes | str | None:
        """The answer to one frame; an error is a message of its kind."""
        seq = 0
        try:
            if isinstance(frame, str):
                raise PolicyError("The server takes binary frames of msgpack; this was a text.")
            message = await off_loop(partial(wire.unpack, frame, sender="The client"), len(frame))
            seq = message.seq
            answer = await self._answer(message)
            return None if answer is None else wire.pack(answer)
        except (PolicyServerDied, PolicyServerLost):
            raise
        except Exception as error:
            return wire.pack(Message(wire.ERROR, {"error": complaint(error)}, seq))

    async def _answer(self, message: Message) -> Message | None:
        if message.type == wire.HELLO:
            wire.require_version(message.payload, "The client")
            return Message(wire.HELLO, self._hello(), message.seq)
        if message.type == wire.OBSERVATION:
            return Message(wire.ACTION, {"actions": await self._act(message.payload)}, message.seq)
        if message.type in (wire.EPISODE_START, wire.EPISODE_END):
            self._forget()
        if message.type == wire.EPISODE_START:
            self._key = digest_of(message.payload.get("task"))
        return None

    def _hello(self) -> dict[str, Any]:
        info = self._service.info
        wrist = CAMERAS[1] in info.cameras
        return {
            "harness_version": "vla-harness",
            "protocol_version": wire.PROTOCOL_VERSION,
            "model_server": info.policy_id,
            "capabilities": {},
            "action_spec": action_spec(info.control_mode),
            "observation_spec": observation_spec(wrist),
            "observation_params": {
                "send_wrist_image": wrist,
                "send_state": True,
                "quat_no_antipodal": True,
                **({"absolute_action": True} if info.control_mode == "absolute" else {}),
            },
        }

    async def _act(self, payload: Mapping[str, Any]) -> NDArray[np.float32]:
        """The next action: of the chunk that is being executed, or of a new one."""
        info = self._service.info
        episode = f"{self._conversation.name}/{self._episodes}"
        seen = read_observation(payload, info, episode=episode, decision=self._decision, earlier=tuple(self._earlier))
        self._earlier.append(seen)
        if not self._left:
            key = self._key or digest_of(self._conversation.name)
            noise = None if info.noise_shape is None else decision_noise(key, self._decision, info.noise_shape)
            request = DecisionRequest(seen, noise, None)
            decided, _ = await self._service.decide(request, self._conversation)
            self._left.extend(np.asarray(decided.actions[: info.replan_interval], np.float32))
            self._decision += 1
        return self._left.popleft()

    def _forget(self) -> None:
        self._service.end(f"{self._conversation.name}/{self._episodes}", self._conversation)
        self._left.clear()
        self._earlier.clear()
        self._key, self._decision = "", 0
        self._episodes += 1


def read_observation(
    payload: Mapping[str, Any], info: PolicyInfo, *, episode: str, decision: int, earlier: tuple[Observation, ...]
) -> Observation:
    """Read what a benchmark sends.

    Args:
        payload: `images` by name, `task_description`, and `states` (or `state`).
        info: The policy that reads it.
        episode: The episode.
        decision: Number of the decision in it.
        earlier: Observations of the steps before.

    Raises:
        PolicyError: Something that the policy reads is missing, or has another shape; names both sides.
    """
    images = payload.get("images")
    frames = {str(name): frame for name, frame in images.items()} if isinstance(images, Mapping) else {}
    instruction = payload.get("task_description")
    if not isinstance(instruction, str):
        raise PolicyError(f"'task_description' is {instruction!r}, which is no instruction; send one text.")
    return Observation(
        instruction=instruction,
        state=_state(payload, info),
        images={camera: _frame(frames, camera, info) for camera in info.cameras},
        episode_key=episode,
        decision=decision,
        history=earlier,
    )


def _state(payload: Mapping[str, Any], info: PolicyInfo) -> NDArray[np.float32]:
    value = payload.get("states", payload.get("state"))
    state = np.asarray(value if isinstance(value, np.ndarray | list) else [])
    if state.shape != (STATE_DIM,) or state.dtype.kind not in "iuf":
        sent = "no 'states'" if value is None else f"'states' of shape {state.shape}"
        raise PolicyError(
            f"The benchmark sends {sent}; {info.policy_id} reads {STATE_DIM} numbers (end-effector position, "
            "axis-angle, gripper). Set send_state: true in the benchmark's params, or run one of LIBERO's robot."
        )
    if not np.isfinite(state).all():
        raise PolicyError("'states' holds NaN or infinite numbers; send the robot's state.")
    return state.astype(np.float32)


def _frame(frames: Mapping[str, Any], camera: str, info: PolicyInfo) -> NDArray[np.uint8]:
    """The frame of a camera: by LIBERO's name, or by its place, the wrist's after the third person's."""
    held = [name for name in frames if any(part in name.lower() for part in WRIST_NAMES)]
    others = [name for name in frames if name not in held]
    chosen = ([WRIST] if WRIST in frames else held) if camera == CAMERAS[1] else [FRONT] if FRONT in frames else others
    frame = frames.get(chosen[0]) if chosen else None
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        sent = ", ".join(f"{name} {getattr(each, 'shape', '?')}" for name, each in frames.items()) or "none"
        raise PolicyError(
            f"The benchmark sends these frames: {sent}. {info.policy_id} reads {camera}, (height, width, 3) uint8. Set "
            "send_wrist_image: true in the benchmark's params if the wrist's is missing."
        )
    return frame

"""What a simulator shows a policy, and what a policy answers. Plain numpy: importable on every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.spec.action_space import ControlMode
from harness.spec.identity import PolicyIdentity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Placement = Literal["worker", "server"]

CAMERAS = ("agentview", "robot0_eye_in_hand")
"""The two cameras of every LIBERO protocol, by robosuite's names: third person and wrist."""

ACTION_DIM = 7
"""LIBERO's action: OSC_POSE delta position (3), delta axis-angle (3), gripper (1, -1 opens); each in [-1, 1]."""


@dataclass(frozen=True, slots=True)
class PreviousChunk:
    """What is left of the chunk that is being executed while a policy decides (real-time chunking)."""

    actions: NDArray[np.float32]
    """Its actions from this decision's control step on, shape (n, D), n from 1 to T."""
    frozen: int
    """How many of them are expected to be executed before the answer is in hand."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One observation of one episode, taken at a decision (or whenever a frame was asked for)."""

    instruction: str
    """The task's language instruction, as LIBERO's benchmark gives it and fine-tunes were trained on it: from the
    task's file name; the BDDL file's text only where a LIBERO-PRO suite perturbs it."""
    state: NDArray[np.float32]
    """Proprioception, as the world declares it. LIBERO's has shape (8,): end-effector position (3, m), axis-angle
    (3, rad), gripper qpos (2, m); the layout of its fine-tunes (openpi, LeRobot's LiberoProcessorStep)."""
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Camera → RGB frame, shape (H, W, 3), uint8, in the protocol's orientation. Only rendered cameras are present."""
    privileged: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Object name → pose, shape (7,): position (3, m), quaternion (4, wxyz), world frame. Filled only for policies that
    declare `PolicyInfo.privileged`; a learned policy never sees it."""
    episode_key: str = ""
    """Key of the episode, so that a policy that keeps per-episode state can tell its episodes apart."""
    decision: int = 0
    """Index of this decision in its episode, from 0."""
    history: tuple[Observation, ...] = ()
    """Observations of the control steps just before this one, oldest first, for policies that declare
    `PolicyInfo.observation_steps` above 1; shorter at the start of an episode."""
    previous: PreviousChunk | None = None
    """What the answer has to continue; only under the clock `rtc`, and then not at an episode's first decision."""


@dataclass(frozen=True, slots=True)
class RemoteTiming:
    """Where the time of a decision went that another machine took."""

    infer_ms: float
    """Inside the server's inference, milliseconds; the whole batch's time."""
    queue_ms: float = 0.0
    """Waiting at the server for other decisions or for a batch to fill, milliseconds."""
    transport_ms: float | None = None
    """Round trip less queue and inference, milliseconds: packing, network, unpacking. None: cannot be told."""
    batch_size: int = 1
    """Observations that shared the server's call."""
    hardware: str | None = None
    """Where it ran, if the server says."""


@dataclass(frozen=True, slots=True)
class ActionChunks:
    """A policy's answer to a batch of observations."""

    actions: NDArray[np.float32]
    """Shape (B, T, D): T actions for each of the B observations, in the world's units; D is `PolicyInfo.action_dim`."""
    remote: RemoteTiming | None = None
    """Filled by policies that ask another machine; None: all the time of `act` is inference."""


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """What a policy consumes and offers: the harness renders, keys noise and places by it."""

    policy_id: str
    """Name in ledgers and reports, e.g. "scripted", "flow", "lerobot:lerobot/pi05-libero"."""
    cameras: tuple[str, ...] = ()
    """Cameras it reads; empty means that nothing is ever rendered for it."""
    privileged: bool = False
    """Whether it reads object poses (a control, not a contestant)."""
    chunk_length: int = 1
    """T, the number of actions one decision returns."""
    replan_interval: int = 1
    """How many of them the policy itself would have executed before it decides again (`n_action_steps`); the protocol
    may set another."""
    nfe_options: tuple[int, ...] = ()
    """NFE values it can run at; empty means that it has no denoising loop; `()` and a requested NFE is an error.
    `(0,)` is never valid. A policy that takes any NFE ≥ 1 says `ANY_NFE`."""
    default_nfe: int | None = None
    """NFE used when none is asked for; None for policies without."""
    noise_shape: tuple[int, ...] | None = None
    """Shape of one decision's noise, e.g. (chunk, action dim); None when the policy draws none."""
    placement: Placement = "worker"
    """"worker": cheap and torch-free, runs inside the rollout worker. "server": runs in a policy server."""
    control_mode: ControlMode = "relative"
    """"relative" (deltas) or "absolute" (targets)."""
    action_dim: int = ACTION_DIM
    """D, the numbers of an action; LIBERO's unless it says so."""
    checkpoint: str | None = None
    """Resolved checkpoint (repository@revision or absolute path); None for policies without weights."""
    checkpoint_sha256: str | None = None
    """Digest of the identity, which it follows; of the weights alone when a policy states no `identity`; None for
    policies without weights that state none."""
    dtype: str | None = None
    """Parameter dtype, e.g. "float32", "bfloat16"; None for policies without weights."""
    max_batch: int = 64
    """Largest batch that `act` takes at once."""
    observation_steps: int = 1
    """Consecutive control steps that one decision looks at (`n_obs_steps`): the rollout observes that many last steps
    and hands the earlier ones over as `Observation.history`."""
    frame_size: tuple[int, int] | None = None
    """(height, width) of the frames that its checkpoint declares, pixels, where nothing resizes them; else None."""
    frame_bound: bool = False
    """Whether its network fails on frames of another size than `frame_size`, so that a run refuses them."""
    suites: tuple[str, ...] = ()
    """Suites whose tasks it can do; empty: any. Not what it was trained on: what it is able to try at all."""
    tasks: tuple[tuple[str, int], ...] = ()
    """(suite, task id) it can do, where that is not all of its suites; empty: all."""
    rtc: bool = False
    """Whether it makes a chunk that continues `Observation.previous`: what the clock `rtc` asks for."""
    remote: bool = False
    """Whether it decides behind a connection, so that the robot can go on meanwhile: what the clock `wall` asks for."""
    identity: PolicyIdentity | None = None
    """Digests of weights, configuration, processors and statistics, by which two runs are of one policy or not; None
    where nothing but `checkpoint_sha256` is known."""

    def __post_init__(self) -> None:
        """Let the digest in ledgers be that of the identity."""
        if self.identity is not None:
            object.__setattr__(self, "checkpoint_sha256", self.identity.sha256)

    @property
    def stated_identity(self) -> PolicyIdentity:
        """The identity; of the weights alone where a policy states no more."""
        return self.identity or PolicyIdentity(weights=self.checkpoint_sha256)

    def resolve_nfe(self, asked: int | None) -> int | None:
        """The NFE that a decision runs at.

        Args:
            asked: Number of function evaluations; None for the policy's own default.

        Raises:
            UsageError: A value that the policy does not offer.
        """
        if asked is None:
            return self.default_nfe
        options = self.nfe_options
        if not options:
            raise UsageError(f"Policy {self.policy_id!r} has no denoising loop, so it cannot run at NFE {asked}.")
        if (options == ANY_NFE and asked >= 1) or (options != ANY_NFE and asked in options):
            return asked
        whole = options == tuple(range(1, len(options) + 1))
        listed = f"1 to {len(options)}" if whole and len(options) > 3 else ", ".join(map(str, options))
        offered = "any of at least 1" if options == ANY_NFE else listed
        raise UsageError(f"Policy {self.policy_id!r} does not run at NFE {asked}; it offers {offered}.")


ANY_NFE: tuple[int, ...] = (-1,)
"""`PolicyInfo.nfe_options` of a policy that takes every NFE ≥ 1."""

"""The contract between a world and what runs episodes in it. No simulator is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.spec.action_space import ActionSpace, ControlMode
from harness.spec.observation import Observation
from harness.spec.protocol import ImageOrientation, Instruction, Placements, PlacementSeeding
from harness.spec.protocol import Protocol as Rules
from harness.worlds.interface import Interface


@dataclass(frozen=True, slots=True)
class SimConfig:
    """What of a protocol the simulator itself has to know."""

    resolution: int = 256
    """Height and width of every frame, pixels."""
    image_orientation: ImageOrientation = "rotated_180"
    """"rotated_180": turned by 180°, as LIBERO fine-tunes expect; "raw": as robosuite returns it (upside down)."""
    settle_steps: int = 10
    """Control steps with the settle action after the init state is set, before the first decision."""
    control_hz: int = 20
    """Control rate, Hz; physics runs at 500 Hz, so 20 Hz is 25 substeps."""
    control_mode: ControlMode = "relative"
    """"relative": OSC_POSE deltas; "absolute": OSC_POSE targets."""
    cameras: tuple[str, ...] = ()
    """Cameras rendered when an observation is asked for; empty: the GL stack is never started."""
    privileged: bool = False
    """Whether observations carry object poses."""
    placement_seed: int = 0
    """Seed under which fixtures (cabinets, stoves) are placed: init states hold every joint, but not these bodies,
    which LIBERO draws from numpy's global generator at each reset. Same seed, same scene, whatever ran before."""
    placement_seeding: PlacementSeeding = "fixed"
    """When that generator is seeded; see `Protocol.placement_seeding`."""
    placements: Placements = "init_states"
    """"init_states": `reset(n)` sets the task's n-th stored init state; "sampled": the n-th of endless placements drawn
    from the task's regions, fixtures too, none of them a stored one. For demonstrations."""
    instruction: Instruction = "own"
    """What policies are told; see `Protocol.instruction`."""


def sim_config(protocol: Rules, cameras: Iterable[str], *, privileged: bool) -> SimConfig:
    """What the simulator has to know of a protocol.

    Args:
        protocol: Resolution and orientation of frames, rate and mode of control, settle steps, placements.
        cameras: Those that observations show.
        privileged: Whether observations carry object poses.
    """
    return SimConfig(
        resolution=protocol.resolution,
        image_orientation=protocol.image_orientation,
        settle_steps=protocol.settle_steps,
        control_hz=protocol.control_hz,
        control_mode=protocol.control_mode,
        cameras=tuple(cameras),
        privileged=privileged,
        placement_seed=protocol.placement_seed,
        placement_seeding=protocol.placement_seeding,
        placements=protocol.placements,
        instruction=protocol.instruction,
    )


def told_instruction(instructions: Sequence[str], task_id: int, which: Instruction) -> str:
    """The words that policies are told in a task.

    Args:
        instructions: The words of every task of the suite, by task id.
        task_id: The task.
        which: See `Protocol.instruction`. Shuffled words are those of the next task whose words differ.
    """
    if which == "blank":
        return ""
    own = instructions[task_id]
    if which == "own":
        return own
    following = [*instructions[task_id + 1 :], *instructions[:task_id]]
    return next((words for words in following if words != own), own)


@dataclass(frozen=True, slots=True)
class SuiteDescription:
    """What a world says of one of its task suites."""

    suite: str
    tasks: tuple[str, ...]
    """Task names by task id."""
    instructions: tuple[str, ...]
    """Language instructions by task id."""
    n_init_states: tuple[int, ...]
    """Number of init states by task id."""
    init_states_sha256: str
    """Digest over the values of every init state of the suite: equal in packages that ship equal states."""
    versions: Mapping[str, str]
    """Versions that decide scores (mujoco, robosuite, LIBERO package): equal on all nodes, and in every manifest."""


@dataclass(frozen=True, slots=True)
class Credit:
    """How far an episode came by now."""

    goals: int
    """Predicates of the task's goal; all of them at once are success."""
    held_now: int
    """Predicates that hold."""
    held_best: int
    """Most predicates that held at one moment."""
    stage: str
    """The furthest of `spec.stages.STAGES` towards a goal that did not hold at that moment."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Outcome of one control step."""

    success: bool
    """The task is done, by the world's own rule (LIBERO: its goal predicates hold)."""
    done: bool
    """The episode is over for the simulator (success)."""
    observation: Observation | None
    """Filled when `observe=True` was asked for."""


@dataclass(slots=True)
class SimTimings:
    """Seconds spent since the last reset began, by cause."""

    reset_s: float = 0.0
    """Restoring, setting the init state and settling (its rendering apart)."""
    physics_s: float = 0.0
    render_s: float = 0.0


@runtime_checkable
class Simulator(Protocol):
    """One task of one suite, ready to run episodes."""

    @property
    def instruction(self) -> str:
        """The task in words."""
        ...

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes."""
        ...

    @property
    def timings(self) -> SimTimings:
        """Seconds since the last reset began."""
        ...

    @property
    def qpos(self) -> NDArray[np.float64]:
        """All that moves, shape (nq,), a copy: what trajectories are compared by."""
        ...

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start an episode: set the init state and settle. Returns the first observation; None if not `observe`.

        `trial` counts repetitions of an init state, which may differ in what init states do not hold.
        """
        ...

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Run one control step. Nothing is rendered unless `observe` is True."""
        ...

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """Render the present state for a video, shape (resolution, resolution, 3), without disturbing the episode."""
        ...

    def close(self) -> None:
        """Free the model and the GL context."""
        ...


@runtime_checkable
class CreditedSimulator(Protocol):
    """A simulator whose world declares goal predicates and stages; others leave these columns null."""

    @property
    def credit(self) -> Credit | None:
        """How far the episode came since the last reset; None where nobody says."""
        ...


def credit_of(simulator: object) -> Credit | None:
    """How far an episode came; None where the simulator's world does not say."""
    return simulator.credit if isinstance(simulator, CreditedSimulator) else None


@runtime_checkable
class World(Protocol):
    """A source of simulators: LIBERO, Meta-World, or what a plugin adds."""

    name: str
    interface: Interface
    """What it declares of itself."""

    def require_installed(self) -> None:
        """Refuse to go on where nothing can be simulated.

        Raises:
            SimulatorError: A package or an asset is missing; says which, and how to get it.
        """
        ...

    def suites(self) -> tuple[str, ...]:
        """Names of the task suites whose resources are complete."""
        ...

    def describe(self, suite: str) -> SuiteDescription:
        """Describe a suite. Unknown names answer with the nearest known one (`UsageError`)."""
        ...

    def make(self, suite: str, task_id: int, config: SimConfig) -> Simulator:
        """Build the simulator of one task."""
        ...


@dataclass(frozen=True, slots=True)
class GLBackend:
    """A GL backend that rendered a frame in a child process."""

    name: str
    """"egl" or "osmesa": the value for MUJOCO_GL."""
    renderer: str
    """Renderer class in protocol manifests: "egl-gpu", "egl-software" or "osmesa"."""
    device: str
    """GL_RENDERER string, e.g. "llvmpipe (LLVM 15.0.6, 256 bits)"."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment for a process that renders with it: MUJOCO_GL, PYOPENGL_PLATFORM, MUJOCO_EGL_DEVICE_ID."""
    devices: tuple[int, ...] = ()
    """EGL devices that render the same, this one first; empty where there is no choice."""

    def env_on(self, device: int | None) -> Mapping[str, str]:
        """The environment for one of `devices`; None: for the one that was chosen."""
        return self.env if device is None else {**self.env, "MUJOCO_EGL_DEVICE_ID": str(device)}

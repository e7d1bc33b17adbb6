"""Protocol: everything that decides a score besides the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.errors import UsageError, unknown_name
from harness.spec.action_space import ControlMode
from harness.spec.manifest import manifest_sha256
from harness.spec.resolve import PACKAGE, SpecModel, load_yaml

PHYSICS_HZ = 500
"""LIBERO's MuJoCo time step is 2 ms (robosuite's SIMULATION_TIMESTEP)."""

_SEEDING = ("placement_seed", "placement_seeding")
SAMPLED = "sampled:1"
"""What manifests say instead of the init states' digest when placements are sampled: the version of the procedure."""


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """Protocol presets by name, each with its `source`."""
    return load_yaml(PACKAGE / "spec" / "presets.yaml")


Placements = Literal["init_states", "sampled"]
"""Where the movable objects of an episode begin."""
PlacementSeeding = Literal["fixed", "per_episode", "per_task"]
"""When LIBERO's sampler is seeded."""
Instruction = Literal["own", "blank", "shuffled"]
"""Which words a policy is told."""
ImageOrientation = Literal["rotated_180", "raw"]
"""How a frame is turned."""


class Protocol(SpecModel):
    """The rules of an evaluation. Written in YAML as a preset's name, or as a mapping that may change one."""

    preset: str | None = None
    """Preset that unset keys come from: "lerobot" or "openpi", the evaluators of these names; "lerobot-seed0" is what
    this harness called "lerobot" while it placed fixtures with one seed in every episode."""
    source: str = "user"
    """Where the rules come from: code or paper."""
    max_steps: dict[str, Annotated[int, Field(ge=1)]]
    """Control steps after settling before an episode is a timeout, by LIBERO suite."""
    settle_steps: Annotated[int, Field(ge=0)] = 10
    """Control steps with the settle action after the init state is set."""
    replan_interval: Annotated[int, Field(ge=1)] | None = None
    """Actions of a chunk executed before the next decision; null: what the checkpoint itself says. A policy whose chunk
    is shorter replans at the chunk's end."""
    resolution: Annotated[int, Field(ge=16, le=1024)] = 256
    """Height and width of camera frames, pixels."""
    image_orientation: ImageOrientation = "rotated_180"
    """Orientation of the frames that policies see."""
    control_hz: Annotated[int, Field(ge=1, le=1000)] = 20
    """Control rate, Hz."""
    physics_hz: Annotated[int, Field(ge=1, le=10_000)] = PHYSICS_HZ
    """Rate of the world's physics, Hz, which the control rate divides; the world says which it has."""
    control_mode: ControlMode = "relative"
    """OSC_POSE deltas or absolute targets."""
    placement_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of LIBERO's sampler, which decides where fixtures (cabinets, stoves) stand: no init state sets them."""
    placement_seeding: PlacementSeeding = "fixed"
    """When LIBERO's sampler is seeded. "fixed": before every episode, with `placement_seed`. "per_episode": before
    every episode, with `placement_seed` + the episode's number, as lerobot-eval does. "per_task": once, when the task's
    environment was built, and it runs on from episode to episode, as in openpi. The number of an episode is init state
    + trial × the task's number of init states: evaluators take init states in order, and begin again at the first.
    A preset's seeding is its own seed's: whoever sets `placement_seed` sets this too, or it is "fixed"."""
    placements: Placements = "init_states"
    """Where episodes begin: at LIBERO's stored init states, which are the test set; or at placements sampled from the
    same regions, for demonstrations and training. Init state n then means placement n, of endlessly many."""
    action_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of smooth noise on executed actions, in bursts, for demonstrations that cover more states."""
    instruction: Instruction = "own"
    """What policies are told: "own": the task's words; "blank": nothing; "shuffled": the words of the next task of the
    suite. A score that stands either is not about language."""
    success_rule: Literal["goal_predicates", "is_success"] = "goal_predicates"
    """What is checked after every control step; the episode ends at the first step that meets it. "goal_predicates":
    LIBERO's BDDL goal. "is_success": what a gymnasium environment says of itself."""
    clock: Literal["synchronous"] = "synchronous"
    """The simulation waits for the policy: inference takes no simulated time."""
    renderer: Literal["auto", "egl-gpu", "egl-software", "osmesa"] = "auto"
    """Renderer class; "auto" takes what the node has and records it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"preset": data}
        if not isinstance(data, dict) or not (name := data.get("preset")):
            return data
        if name not in presets():
            raise ValueError(str(unknown_name("protocol preset", str(name), presets())))
        preset = presets()[name]
        if data.get("placements") == "sampled" or "placement_seed" in data:
            # Sampled placements draw fixtures too, under keys of their own: how an evaluator seeds is nothing to them.
            # And a seed that is given alone is every episode's: ledgers say it so that were written before seeding.
            preset = {key: value for key, value in preset.items() if key not in _SEEDING}
        lengths = data.get("max_steps", {})
        merged = {**preset["max_steps"], **lengths} if isinstance(lengths, dict) else lengths
        return {**preset, **data, "max_steps": merged}

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Protocol:
        if not self.max_steps:
            raise ValueError("max_steps is empty; give at least one suite's number of control steps")
        shortest = min(self.max_steps.values())
        if self.replan_interval is not None and self.replan_interval > shortest:
            raise ValueError(
                f"replan_interval {self.replan_interval} exceeds max_steps {shortest}: no episode would reach a second "
                "decision; lower replan_interval or raise max_steps"
            )
        if self.placements == "sampled" and self.placement_seeding != "fixed":
            raise ValueError(
                f"placement_seeding {self.placement_seeding!r} says how fixtures are placed beside stored init states, "
                "but sampled placements draw fixtures too; leave it out"
            )
        if self.physics_hz % self.control_hz:
            raise ValueError(
                f"control_hz {self.control_hz} does not divide the physics rate of {self.physics_hz} Hz; use "
                f"{_some_divisors(self.physics_hz)}"
            )
        return self

    def max_steps_of(self, suite: str) -> int:
        """Episode length of a suite; a variant such as "libero_spatial_swap" takes its base suite's.

        Raises:
            UsageError: The protocol gives no length for the suite.
        """
        bases = [name for name in self.max_steps if suite == name or suite.startswith(f"{name}_")]
        if not bases:
            raise UsageError(
                f"The protocol gives no max_steps for suite {suite!r}; it has {', '.join(sorted(self.max_steps))}. "
                f"Add `max_steps: {{{suite}: N}}` to the protocol."
            )
        return self.max_steps[max(bases, key=len)]

    def manifest(
        self, suite: str, *, init_states_sha256: str, versions: Mapping[str, str], renderer: str
    ) -> dict[str, Any]:
        """Everything that decides a score of this suite besides the checkpoint; its hash keys every episode.

        Args:
            suite: Suite of the world.
            init_states_sha256: Digest of the suite's init states.
            versions: Versions that decide scores (mujoco, robosuite, LIBERO package).
            renderer: Renderer class that policies' frames come from; "none" when no policy of the run reads frames.
        """
        return {
            "suite": suite,
            "max_steps": self.max_steps_of(suite),
            "settle_steps": self.settle_steps,
            "replan_interval": self.replan_interval or "checkpoint",
            "resolution": self.resolution,
            "image_orientation": self.image_orientation,
            "control_hz": self.control_hz,
            "control_mode": self.control_mode,
            "placement_seed": self.placement_seed,
            "success_rule": self.success_rule,
            "init_states": SAMPLED if self.placements == "sampled" else init_states_sha256,
            "clock": self.clock,
            "renderer": renderer,
            **({"physics_hz": self.physics_hz} if self.physics_hz != PHYSICS_HZ else {}),
            **({"action_noise": self.action_noise} if self.action_noise else {}),
            **({"instruction": self.instruction} if self.instruction != "own" else {}),
            **({"placement_seeding": self.placement_seeding} if self.placement_seeding != "fixed" else {}),
            **{f"version.{name}": version for name, version in sorted(versions.items())},
        }


def _some_divisors(physics_hz: int) -> str:
    rates = [rate for rate in (10, 20, 25, 40, 50, 80) if physics_hz % rate == 0] or [physics_hz]
    return ", ".join(map(str, rates[:-1])) + (" or " if rates[1:] else "") + str(rates[-1])


def run_protocol_sha256(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Digest of a whole run's protocol: over its suites' manifests."""
    return manifest_sha256({suite: dict(manifest) for suite, manifest in manifests.items()})

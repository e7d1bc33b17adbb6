"""What a command line or a program changes in a suite: the one place where suites are rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.spec.canaries import CanaryMode
from harness.spec.policy import PolicySpec
from harness.spec.protocol import Instruction, Placements
from harness.spec.resolve import parse
from harness.spec.suite import Quantization, Suite, Video
from harness.spec.timing import ClockName, Latency


@dataclass(frozen=True, slots=True)
class SuiteChanges:
    """Changes to a suite; the default changes nothing."""

    policies: tuple[PolicySpec, ...] = ()
    """Policies in place of the suite's."""
    nfe: tuple[int, ...] = ()
    """NFE values in place of the suite's."""
    video: Video | None = None
    """"none", "failures" or "all", in place of the suite's."""
    episodes: int | None = None
    """Init states of each task, from the first, in place of the suite's."""
    placements: Placements | None = None
    """See `Protocol.placements`."""
    instruction: Instruction | None = None
    """See `Protocol.instruction`."""
    action_noise: float = 0.0
    """See `Protocol.action_noise`; 0 leaves the suite's."""
    clock: tuple[ClockName, ...] = ()
    """Clocks in place of the suite's."""
    latency: tuple[Latency, ...] = ()
    """Sources of delays in place of the suite's."""
    quantize: tuple[Quantization, ...] = ()
    """Quantisation in place of the suite's."""
    on: tuple[str, ...] = ()
    """Hardware profiles to run on, in place of the suite's."""
    canaries: CanaryMode | None = None
    """When unlike nodes are compared, in place of the suite's."""
    probe: Literal["kept", "retargeted", "dropped"] = "kept"
    """What becomes of the suite's probe, if it has one; retargeted: it times `policies` too."""

    def apply(self, suite: Suite) -> Suite:
        """The suite with the changes.

        Raises:
            SpecError: The result contradicts itself.
        """
        policies = tuple(spec.model_dump() for spec in self.policies)
        latency = tuple(each.model_dump() for each in self.latency)
        given: dict[str, Any] = {"policies": policies or None, "nfe": self.nfe or None}
        given |= {"quantize": self.quantize or None, "video": self.video, "on": self.on or None}
        given |= {"clock": self.clock or None, "latency": latency or None}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        rules = {
            "placements": self.placements,
            "instruction": self.instruction,
            "action_noise": self.action_noise or None,
        }
        if ruled := {name: value for name, value in rules.items() if value is not None}:
            protocol = suite.protocol.model_dump()
            if self.placements == "sampled" and suite.protocol.placement_seeding != "fixed":
                # Sampled placements have seeds of their own.
                del protocol["placement_seed"], protocol["placement_seeding"]
            changes["protocol"] = {**protocol, **ruled}
        if self.canaries is not None:
            changes["canaries"] = {**suite.canaries.model_dump(), "run": self.canaries}
        if self.episodes is not None:
            changes["tasks"] = tuple({**tasks.model_dump(), "init_states": self.episodes} for tasks in suite.tasks)
        if suite.probe is not None and self.probe != "kept":
            probe = {**suite.probe.model_dump(), "policies": policies} if self.probe == "retargeted" else None
            changes["probe"] = probe
        return parse(Suite, {**suite.model_dump(), **changes}, f"suite {suite.name}") if changes else suite

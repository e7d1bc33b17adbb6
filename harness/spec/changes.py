"""What a command line or a program changes in a suite: the one place where suites are rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.spec.policy import PolicySpec
from harness.spec.suite import Suite


@dataclass(frozen=True, slots=True)
class SuiteChanges:
    """Changes to a suite; the default changes nothing."""

    policies: tuple[PolicySpec, ...] = ()
    """Policies in place of the suite's."""
    nfe: tuple[int, ...] = ()
    """NFE values in place of the suite's."""
    video: str | None = None
    """"none", "failures" or "all", in place of the suite's."""
    episodes: int | None = None
    """Init states of each task, from the first, in place of the suite's."""
    placements: str | None = None
    """See `Protocol.placements`."""
    action_noise: float = 0.0
    """See `Protocol.action_noise`; 0 leaves the suite's."""
    probed_too: bool = False
    """Whether the suite's probe, if it has one, is pointed at `policies` as well."""

    def apply(self, suite: Suite) -> Suite:
        """The suite with the changes.

        Raises:
            SpecError: The result contradicts itself.
        """
        policies = tuple(spec.model_dump() for spec in self.policies)
        changes: dict[str, Any] = {"policies": policies or None, "nfe": self.nfe or None, "video": self.video}
        rules = {"placements": self.placements, "action_noise": self.action_noise or None}
        if given := {name: value for name, value in rules.items() if value is not None}:
            protocol = suite.protocol.model_dump()
            if self.placements == "sampled" and suite.protocol.placement_seeding != "fixed":
                # Sampled placements have seeds of their own.
                del protocol["placement_seed"], protocol["placement_seeding"]
            changes["protocol"] = {**protocol, **given}
        if self.episodes is not None:
            changes["tasks"] = tuple({**tasks.model_dump(), "init_states": self.episodes} for tasks in suite.tasks)
        if self.probed_too and suite.probe is not None:
            changes["probe"] = {**suite.probe.model_dump(), "policies": policies}
        return suite.replace(**changes) if any(value is not None for value in changes.values()) else suite

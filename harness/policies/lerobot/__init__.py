"""`lerobot`: policies of the LeRobot family, loaded whole or refused.

`lerobot:REPO_OR_PATH[@REVISION]` loads a checkpoint with its own processors; `lerobot:TYPE?weights=random` builds the
architecture with random weights and no hub. Nothing here imports torch until a policy is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.policies.registry import PolicyRequest

if TYPE_CHECKING:
    from harness.policies.lerobot.policy import LeRobotPolicy
    from harness.policies.openpi.client import OpenPiPolicy


def make(spec: PolicyRequest) -> LeRobotPolicy | OpenPiPolicy:
    """Build the policy that `spec` asks for; see `harness.policies.lerobot.options.Options` for its options.

    Raises:
        UsageError: An unknown policy type or option, or a value that contradicts the checkpoint.
        PolicyError: The checkpoint cannot be fetched, read, or loaded whole, or is for another robot.
    """
    if (lock := spec.options.get("env")) is not None:
        from harness.policies.lerobot.check import require_path
        from harness.policies.lerobot.options import parse_options
        from harness.policies.lerobot.stack import serve_from_stack

        parse_options(spec.options)
        return serve_from_stack(spec, str(lock), getattr(spec, "label", "") or f"lerobot:{require_path(spec)}")
    from harness.policies.lerobot.build import build

    return build(spec)

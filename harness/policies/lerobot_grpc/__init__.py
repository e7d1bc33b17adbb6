"""`lerobot-grpc`: LeRobot's own policy server (`lerobot.async_inference.policy_server`), asked over gRPC.

`lerobot-grpc://HOST[:PORT]?checkpoint=REPO` tells the server which checkpoint to load, as its robot client does. The
messages are LeRobot's pickled classes, so LeRobot is needed at this end too, and the policy lives in a policy server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.policies.lerobot_grpc.options import LerobotGrpcOptions
from harness.policies.options import read_options
from harness.policies.registry import PolicyRequest
from harness.policies.servers.address import Address, bare_address

if TYPE_CHECKING:
    from harness.policies.lerobot_grpc.client import LerobotGrpcPolicy

KIND, PORT = "lerobot-grpc", 8080


def make(spec: PolicyRequest) -> LerobotGrpcPolicy:
    """Connect to the server that `spec` names and have it load a checkpoint.

    Raises:
        UsageError: No address, no checkpoint, or an unknown option.
        PolicyServerDied: Nobody answers there.
        PolicyError: The server cannot load the checkpoint, or it is for another robot.
    """
    from harness.policies.lerobot_grpc.client import connect

    address, options = _read(spec)
    return connect(address, options, label=getattr(spec, "label", "") or f"{KIND}://{spec.path}")


def check(spec: PolicyRequest, local: bool) -> None:
    """Check address and options; whether somebody answers is found out when the policy is made."""
    del local
    _read(spec)


def _read(spec: PolicyRequest) -> tuple[Address, LerobotGrpcOptions]:
    options = read_options(LerobotGrpcOptions, KIND, spec.options)
    if options.checkpoint is None:
        raise UsageError(
            f"{KIND} names no checkpoint, and LeRobot's policy server loads the one that its client asks for; write "
            f"{KIND}://HOST:PORT?checkpoint=REPO_OR_PATH."
        )
    return bare_address(spec.path, KIND, PORT), options

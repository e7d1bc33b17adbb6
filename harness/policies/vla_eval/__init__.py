"""`vla-eval`: a model server of vla-evaluation-harness, asked over its websocket protocol.

`vla-eval://HOST[:PORT]` sends what that project's LIBERO benchmark sends, so that any of its model servers for LIBERO
answers. Neither torch, nor Ray, nor the package itself is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.policies.options import read_options
from harness.policies.registry import PolicyRequest
from harness.policies.servers.address import parse_address
from harness.policies.servers.options import ServerOptions

if TYPE_CHECKING:
    from harness.policies.vla_eval.client import VlaEvalPolicy

KIND = "vla-eval"


def make(spec: PolicyRequest) -> VlaEvalPolicy:
    """Connect to the server that `spec` names; see `harness.policies.servers.options` for its options.

    Raises:
        UsageError: No address, an address of another form, or an unknown option.
        PolicyServerDied: Nobody answers there.
        PolicyError: Whoever answers speaks another protocol or version, or declares another robot.
    """
    from harness.policies.vla_eval.client import connect

    options = read_options(ServerOptions, KIND, spec.options)
    label = getattr(spec, "label", "") or f"{KIND}://{spec.path}"
    return connect(parse_address(spec.path, KIND), options, label=label)


def check(spec: PolicyRequest, local: bool) -> None:
    """Check address and options; whether somebody answers is found out when the policy is made."""
    del local
    read_options(ServerOptions, KIND, spec.options)
    parse_address(spec.path, KIND)

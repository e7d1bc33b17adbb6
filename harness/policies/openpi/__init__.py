"""`openpi`: a policy on another machine, asked over openpi's websocket protocol.

`openpi://HOST[:PORT]` speaks to `harness serve` and to whatever else speaks openpi's protocol (openpi itself, and the
servers that imitate it). Neither torch nor Ray is imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.errors import PolicyError
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.options import read_options
from harness.policies.registry import PolicyRequest

if TYPE_CHECKING:
    from harness.policies.openpi.client import OpenPiPolicy


def make(spec: PolicyRequest) -> OpenPiPolicy:
    """Connect to the server that `spec` names; see `harness.policies.openpi.options.Options` for its options.

    Raises:
        UsageError: No address, an address of another form, or an unknown option.
        PolicyServerDied: Nobody answers there.
        PolicyError: Whoever answers speaks no openpi, another protocol version, refuses the token, or is for another
            robot.
    """
    try:
        from harness.policies.openpi.client import connect
        from harness.policies.servers.address import parse_address
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"openpi:// needs the module {error.name!r}, which is not installed here; install websockets and msgpack "
            "(the extra `policies` brings both)."
        ) from error
    options = read_options(OpenpiOptions, "openpi", spec.options)
    label = getattr(spec, "label", "") or f"openpi://{spec.path}"
    return connect(parse_address(spec.path), options, label=label, token=os.environ.get(options.token_env))


def check(spec: PolicyRequest, local: bool) -> None:
    """Check address and options; whether somebody answers is found out when the policy is made."""
    from harness.policies.servers.address import parse_address

    del local
    read_options(OpenpiOptions, "openpi", spec.options)
    parse_address(spec.path)

"""`gr00t`: NVIDIA's own GR00T policy server, asked over ZeroMQ.

`gr00t://HOST[:PORT]` speaks to `gr00t/eval/run_gr00t_server.py` of Isaac-GR00T (N1.6 on), for its LIBERO embodiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.policies.gr00t.options import Gr00tOptions
from harness.policies.options import read_options
from harness.policies.registry import PolicyRequest
from harness.policies.servers.address import bare_address

if TYPE_CHECKING:
    from harness.policies.gr00t.client import Gr00tPolicy

KIND, PORT = "gr00t", 5555


def make(spec: PolicyRequest) -> Gr00tPolicy:
    """Connect to the server that `spec` names; see `harness.policies.gr00t.options` for its options.

    Raises:
        UsageError: No address, an address of another form, or an unknown option.
        PolicyServerDied: Nobody answers there.
        PolicyError: Whoever answers speaks another protocol, or serves another embodiment.
    """
    from harness.policies.gr00t.client import connect

    options = read_options(Gr00tOptions, KIND, spec.options)
    label = getattr(spec, "label", "") or f"{KIND}://{spec.path}"
    return connect(bare_address(spec.path, KIND, PORT), options, label=label)


def check(spec: PolicyRequest, local: bool) -> None:
    """Check address and options; whether somebody answers is found out when the policy is made."""
    del local
    read_options(Gr00tOptions, KIND, spec.options)
    bare_address(spec.path, KIND, PORT)

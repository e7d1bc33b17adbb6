"""`vlacpp`: a policy in vla.cpp's server, asked over ZeroMQ with protocol buffers.

`vlacpp://HOST[:PORT]?arch=pi0&tokenizer=…` for the architectures whose server normalises by itself (pi0, smolvla). For
the others vla.cpp's own client does a part of the model's work, with the checkpoint's statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.policies.options import read_options
from harness.policies.registry import PolicyRequest
from harness.policies.servers.address import Address, bare_address
from harness.policies.vlacpp.options import VlacppOptions

if TYPE_CHECKING:
    from harness.policies.vlacpp.client import VlacppPolicy

KIND, PORT = "vlacpp", 5555


def make(spec: PolicyRequest) -> VlacppPolicy:
    """Connect to the server that `spec` names; see `harness.policies.vlacpp.options` for its options.

    Raises:
        UsageError: No address, an address of another form, no tokenizer, or an unknown option.
        PolicyServerDied: Nobody answers there.
        PolicyError: Whoever answers speaks another protocol, or serves another architecture.
    """
    from harness.policies.vlacpp.client import connect

    address, options = _read(spec)
    return connect(address, options, label=getattr(spec, "label", "") or f"{KIND}://{spec.path}")


def check(spec: PolicyRequest, local: bool) -> None:
    """Check address and options; whether somebody answers is found out when the policy is made."""
    del local
    _read(spec)


def _read(spec: PolicyRequest) -> tuple[Address, VlacppOptions]:
    options = read_options(VlacppOptions, KIND, spec.options)
    if options.arch is None or options.tokenizer is None:
        lacking = "arch" if options.arch is None else "tokenizer"
        raise UsageError(
            f"{KIND}: {lacking} is missing, and vla.cpp's server says nothing of its model and takes tokens, not text; "
            f"write {KIND}://HOST:PORT?arch=pi0&tokenizer=FOLDER_OR_TOKENIZER_JSON (arch: pi0 or smolvla)."
        )
    return bare_address(spec.path, KIND, PORT), options

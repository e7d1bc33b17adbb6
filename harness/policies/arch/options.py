"""Options of `arch:NAME`, and what can be known of a request before torch is imported."""

from __future__ import annotations

from harness.errors import UsageError
from harness.policies.options import Device, PolicyOptions, Seed, read_options
from harness.policies.registry import PolicyRequest
from harness.spec.architecture import Architecture, load_architecture


class ArchOptions(PolicyOptions):
    """What may follow the `?` of `arch:…`, or stand under `options:` in YAML."""

    device: Device = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""
    graphs: bool = False
    """Replay vision, prefix and denoise step as CUDA graphs: the same kernels without the host's work between them."""
    seed: Seed = 0
    """Seed of the random weights."""


def read_request(spec: PolicyRequest) -> tuple[Architecture, ArchOptions]:
    """The architecture and the options of a policy spec.

    Raises:
        UsageError: No name, an unknown architecture or option, or a value that an option does not take.
        SpecError: A file that does not validate.
    """
    if not spec.path:
        raise UsageError("arch needs an architecture: arch:student-650m, or arch:PATH.yaml.")
    return load_architecture(spec.path), read_options(ArchOptions, "arch", spec.options)


def check(spec: PolicyRequest, local: bool) -> None:
    """Check name and options.

    Raises:
        UsageError: See `read_request`.
        SpecError: See `read_request`.
    """
    del local
    read_request(spec)

"""Options of a `gr00t` policy, checked before anything is sent."""

from __future__ import annotations

from typing import Literal

from harness.policies.servers.options import TOKEN_ENV, ServerOptions


class Gr00tOptions(ServerOptions):
    """What may follow the `?` of `gr00t://…`, or stand under `options:` in YAML."""

    token_env: str = TOKEN_ENV
    """Environment variable that holds the server's api_token."""
    layout: Literal["nested", "flat"] = "nested"
    """How observations are put: nested by modality, or flat for a server around NVIDIA's
    `Gr00tSimPolicyWrapper`."""
    gripper: Literal["open01", "libero"] = "open01"
    """What the gripper's number means: 1 is open and 0 closed, as in GR00T's LIBERO data, or LIBERO's own -1 and +1."""

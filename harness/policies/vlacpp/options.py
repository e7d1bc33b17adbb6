"""Options of a `vlacpp` policy, checked before anything is sent."""

from __future__ import annotations

from typing import Literal

from harness.policies.servers.options import ServerOptions


class VlacppOptions(ServerOptions):
    """What may follow the `?` of `vlacpp://…`, or stand under `options:` in YAML."""

    arch: Literal["pi0", "smolvla"] | None = None
    """Architecture that the server was started with; it decides size of frames and length of state and prompt."""
    tokenizer: str | None = None
    """The tokenizer's `tokenizer.json`, or the folder that holds it."""

"""Options of an `openpi` policy, checked before anything is sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.policies.servers.options import TOKEN_ENV, ServerOptions

Pixels = Annotated[int, Field(ge=16, le=4096, json_schema_extra={"takes": "a number of pixels, 16 to 4096"})]


class OpenpiOptions(ServerOptions):
    """What may follow the `?` of `openpi://…`, or stand under `options:` in YAML.

    A server that states no replan interval is replanned every `DEFAULT_REPLAN` actions, as openpi's own LIBERO client
    does it. All from `image_size` on is for servers of other projects: `harness serve` takes frames as they are.
    """

    token_env: str = TOKEN_ENV
    """Environment variable that holds the server's token; read where the policy is used. Never the token itself: the
    text of a policy is printed and recorded."""
    ca: str | None = None
    """File of certificates (PEM) that are trusted besides the system's, for `wss://` to a server of your own."""
    image_size: Pixels | None = None
    """Frames are resized to this many pixels a side, with padding; by default to what the server declares."""
    image_key: str = "observation/image"
    """Key of the third-person frame; openpi's by default."""
    wrist_key: str = "observation/wrist_image"
    """Key of the wrist's frame."""
    state_key: str = "observation/state"
    """Key of the state."""
    prompt_key: str = "prompt"
    """Key of the instruction."""
    padded: bool = False
    """Whether numbers behind the seventh of an action are padding, as with vLLM-Omni's Pi0 and Pi0.5."""
    declared: Literal["require", "ignore"] = "require"
    """Whether a server that declares another robot is refused."""

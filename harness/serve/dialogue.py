"""What a websocket server needs of a protocol: how it greets, and how it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

ServedProtocol = Literal["openpi", "vla-eval"]
"""What `harness serve` can speak."""
LARGE_BYTES = 2**20
"""Frames from this size on are decoded off the event loop."""


class Dialogue(Protocol):
    """One client's conversation, in one protocol."""

    greeting: bytes | None
    """The first frame to the client; None: the client speaks first."""

    async def reply(self, frame: str | bytes) -> bytes | str | None:
        """The answer to one frame; None: it wants none."""
        ...


async def off_loop[Read](read: Callable[[], Read], size: int) -> Read:
    """Decode a frame of `size` bytes, elsewhere if it is large."""
    return read() if size < LARGE_BYTES else await asyncio.to_thread(read)

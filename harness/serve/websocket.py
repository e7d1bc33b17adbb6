"""The websocket server: a protocol in front of a `PolicyService`. No Ray, no simulator."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import re
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from harness.errors import PolicyServerDied, PolicyServerLost, UsageError
from harness.policies.openpi.wire import pack, unpack
from harness.policies.servers.address import Address
from harness.serve.dialogue import Dialogue, ServedProtocol, off_loop
from harness.serve.exposure import is_loopback, require_token
from harness.serve.service import Conversation, PolicyService, complaint
from harness.serve.vla_eval import VlaEvalDialogue, require_carried

MAX_MESSAGE_BYTES = 64 * 2**20
"""Two cameras at 1024² take 6 MB; history multiplies them."""
PING_TIMEOUT_S = 120.0
"""How long a client may be deaf (suspended, or in a long call that holds Python) before it is hung up on, seconds."""
CLOSE_S = 10.0
"""How long the end waits for the batch that is being computed, seconds."""
HEALTH_PATH, VLA_EVAL_HEALTH_PATH = "/healthz", "/health"
SCHEMES = ("api-key ", "bearer ")
TRY_AGAIN_LATER = 1013
GOING_AWAY = 1001


class PolicyWebsocket:
    """A `PolicyService` on a port."""

    def __init__(
        self, service: PolicyService, *, token: str | None = None, protocol: ServedProtocol = "openpi"
    ) -> None:
        """Serve `service`.

        Args:
            service: What answers.
            token: What clients have to send; None for none.
            protocol: What they speak.

        Raises:
            UsageError: The policy reads what this protocol does not carry.
        """
        self._service, self._token, self._protocol = service, token, protocol
        if protocol == "vla-eval":
            require_carried(service.info)

    async def listen(self, host: str, port: int) -> tuple[Server, Address]:
        """Begin to listen.

        Args:
            host: Address to bind.
            port: Port; 0 for a free one.

        Returns:
            The server, and where it listens.

        Raises:
            UsageError: No token for a host that is not loopback, or the port cannot be had.
        """
        require_token(host, self._token)
        try:
            server = await serve(
                self._converse,
                host,
                port,
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                ping_timeout=PING_TIMEOUT_S,
                process_request=self._admit,
            )
        except OSError as error:
            raise UsageError(_cannot_listen(host, port, error)) from error
        return server, Address(host, int(next(iter(server.sockets)).getsockname()[1]), scheme=self._protocol)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer health checks, and turn away web pages and whoever lacks the token."""
        if self._token is None and "Origin" in request.headers:
            # A robot's client sends none; a page that somebody on this machine looks at does, and may be anybody's.
            return connection.respond(HTTPStatus.FORBIDDEN, "Web pages are not answered (the request has an Origin).\n")
        if self._token is None and not _names_loopback(request.headers.get("Host", "")):
            return connection.respond(HTTPStatus.FORBIDDEN, "Address this server as 127.0.0.1 or localhost.\n")
        if request.path == HEALTH_PATH:
            return connection.respond(HTTPStatus.OK, "OK\n")
        if request.path == VLA_EVAL_HEALTH_PATH and self._protocol == "vla-eval":
            return connection.respond(HTTPStatus.OK, '{"status": "ok"}\n')
        if self._token and not _same(_offered(request), self._token):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "The token is missing or wrong.\n")
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        conversation = self._service.join()
        talk = DIALOGUES[self._protocol](self._service, conversation)
        try:
            if talk.greeting is not None:
                await connection.send(talk.greeting)
            async for frame in connection:
                reply = await talk.reply(frame)
                if reply is not None:
                    await connection.send(reply)
        except ConnectionClosed:
            return
        except (PolicyServerDied, PolicyServerLost):
            # This server passes on what another one decides: the client may as well reconnect and ask again.
            await connection.close(TRY_AGAIN_LATER, "the policy cannot be reached")
        finally:
            self._service.leave(conversation)


class OpenpiDialogue:
    """One client that speaks openpi's protocol."""

    def __init__(self, service: PolicyService, conversation: Conversation) -> None:
        """Talk with a client on behalf of `service`."""
        self._service, self._conversation = service, conversation
        self.greeting: bytes | None = pack(service.welcome)

    async def reply(self, frame: str | bytes) -> bytes | str | None:
        """The answer to one frame; text tells of an error, as openpi's servers do it."""
        try:
            if isinstance(frame, str):
                return "The server takes binary frames of msgpack; this was a text."
            message = await off_loop(partial(unpack, frame, sender="The client"), len(frame))
            return pack(await self._service.answer(message, self._conversation))
        except (PolicyServerDied, PolicyServerLost):
            raise
        except Exception as error:
            return complaint(error)


DIALOGUES: Mapping[ServedProtocol, Callable[[PolicyService, Conversation], Dialogue]] = {
    "openpi": OpenpiDialogue,
    "vla-eval": VlaEvalDialogue,
}
"""What is spoken, by the protocol's name."""


def run_server(
    service: PolicyService,
    host: str,
    port: int,
    *,
    token: str | None,
    on_ready: Callable[[Address], Any],
    protocol: ServedProtocol = "openpi",
) -> None:
    """Serve until Ctrl-C or SIGTERM; then finish the batch that is being computed, and hang up on everybody.

    Args:
        service: What answers.
        host: Address to bind.
        port: Port; 0 for a free one.
        token: What clients have to send; None for none.
        on_ready: Told where it listens, as soon as it does.
        protocol: What clients speak.

    Raises:
        UsageError: See `PolicyWebsocket.listen`.
    """
    asyncio.run(_run(PolicyWebsocket(service, token=token, protocol=protocol), service, host, port, on_ready))


async def _run(
    websocket: PolicyWebsocket, service: PolicyService, host: str, port: int, on_ready: Callable[[Address], Any]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server, address = await websocket.listen(host, port)
    try:
        on_ready(address)
        await stop.wait()
    finally:
        server.close(code=GOING_AWAY, reason="the server ends")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), CLOSE_S)
        service.close()


def _offered(request: Request) -> str:
    """The token of a request: "Api-Key TOKEN", as openpi's client sends it, or "Bearer TOKEN"; else `?token=`.

    vla-eval's client sends no header, only the address that it is given.
    """
    asked = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
    if asked:
        return asked
    header = request.headers.get("Authorization", "")
    scheme = next((scheme for scheme in SCHEMES if header.lower().startswith(scheme)), "")
    return header[len(scheme) :].strip()


def _names_loopback(host: str) -> bool:
    """Whether a Host header is of this machine: another name that leads here is a page's trick (DNS rebinding)."""
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    return is_loopback(name.strip("[]"))


def _same(offered: str, token: str) -> bool:
    """Compare in a time that does not tell how much of the token was right."""
    return hmac.compare_digest(offered.encode(), token.encode())


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use; stop what uses it, or choose another with --port (0 for a free one)."
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"Host {host!r} is no address of this machine; use 127.0.0.1, or 0.0.0.0 with a token."
    return f"Cannot listen on {host}:{port} ({error.strerror or error}); choose another --port."

"""A connection to a server: reached with back-off, and lost in a way that tells bad luck from a wrong address."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from harness.errors import PolicyError, UsageError
from harness.policies.openpi.messages import ACTIONS_KEY
from harness.policies.openpi.wire import pack, unpack
from harness.policies.servers.address import Address, LinkLost, insist
from harness.policies.servers.options import TOKEN_ENV

MAX_ANSWER_BYTES = 16 * 2**20
"""Largest message that is taken from a server: a chunk of 1,000 actions is 0.1 MB."""
HANDSHAKE_S = 10.0
"""How long a server may take to accept a connection and to send its metadata, seconds."""
SHOWN = 300
"""Characters of a server's complaint that are repeated."""


def reach(
    address: Address,
    token: str | None,
    limit_s: float,
    ca: str | None = None,
    *,
    seconds: Callable[[], float],
    sleep: Callable[[float], None],
) -> Link:
    """Connect, again and again with growing pauses.

    Args:
        address: The server.
        token: Sent along, when there is one.
        limit_s: When to give up, seconds.
        ca: File of certificates that are trusted besides the system's.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        LinkLost: Nobody answered in time; says why the last attempt failed.
        PolicyError: Somebody answers who will not become an openpi server by waiting.
    """
    trusted = trusting(ca) if address.secure else None
    return insist(lambda: Link(address, token, trusted), limit_s, seconds=seconds, sleep=sleep)


def trusting(ca: str | None) -> ssl.SSLContext:
    """Certificates that are believed: the system's, and those of a file.

    Raises:
        UsageError: The file is not there, or holds none.
    """
    context = ssl.create_default_context()
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"ca is {ca!r}, of which no certificate can be read ({error}); give a PEM file."
            ) from error
    return context


class Link:
    """One open connection; `metadata` is what the server sent first."""

    def __init__(self, address: Address, token: str | None, trusted: ssl.SSLContext | None = None) -> None:
        """Connect once; see `reach` for what is raised."""
        self.address = address
        self._socket = open_websocket(address, token, trusted)
        try:
            self.metadata = unpack(self._binary(HANDSHAKE_S, "its metadata"), sender=str(address))
        except TimeoutError:
            self.close()
            raise PolicyError(
                f"{address} accepts websockets but sent no metadata within {HANDSHAKE_S:g} s; it is no openpi server."
            ) from None
        except BaseException:
            self.close()
            raise

    def ask(self, message: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Send a question and wait for its answer. After any exception but `PolicyError` the link cannot be used again.

        Raises:
            LinkLost: The connection broke, or no answer came in time.
            PolicyError: The server complains about the question, or its answer cannot be read.
        """
        try:
            self._socket.send(pack(message))
        except (ConnectionClosed, OSError) as error:
            raise LinkLost(_reason(error)) from error
        try:
            return unpack(self._binary(limit_s, "an answer"), sender=str(self.address), bare=ACTIONS_KEY)
        except TimeoutError as error:
            raise LinkLost(f"no answer within {limit_s:g} s") from error

    def close(self) -> None:
        """Hang up, without waiting for the other end to agree."""
        self._socket.close_timeout = 0.0
        self._socket.close()

    def _binary(self, limit_s: float, what: str) -> bytes:
        try:
            frame = self._socket.recv(timeout=limit_s)
        except (ConnectionClosed, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise LinkLost(_reason(error)) from error
        if isinstance(frame, str):
            lines = [line.strip() for line in frame.splitlines() if line.strip()] or ["an empty text"]
            raise PolicyError(f"{self.address} answered with an error in place of {what}: {lines[-1][:SHOWN]}")
        return frame


def open_websocket(
    address: Address, token: str | None, trusted: ssl.SSLContext | None, what: str = "openpi"
) -> ClientConnection:
    """Open a websocket once.

    Args:
        address: The server.
        token: Sent along, when there is one.
        trusted: Whose certificates are believed; None without TLS.
        what: The protocol that is wanted, for messages.

    Raises:
        LinkLost: Nobody answers.
        PolicyError: Somebody answers who will not become such a server by waiting.
    """
    headers = {"Authorization": f"Api-Key {token}"} if token else None
    try:
        return open_socket(
            address.url,
            # Frames hardly compress, and robots are reached directly, whatever proxy the browser uses. openpi's servers
            # do not answer pings while they compute.
            compression=None,
            proxy=None,
            ping_interval=None,
            max_size=MAX_ANSWER_BYTES,
            additional_headers=headers,
            open_timeout=HANDSHAKE_S,
            ssl=trusted,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PolicyError(_refused(address, token)) from error
        raise PolicyError(
            f"{address} answers like a web server (HTTP status {status}), so it is no {what} server; check host and "
            "port."
        ) from error
    except InvalidMessage as error:
        if isinstance(error.__cause__, EOFError | OSError):
            raise LinkLost("the connection broke during the handshake") from error
        raise PolicyError(
            f"{address} does not speak HTTP/1.1, so it is no {what} server; check host and port."
        ) from error
    except InvalidURI as error:
        raise UsageError(f"{address} is no address; write {address.scheme}://HOST:PORT.") from error
    except InvalidHandshake as error:
        raise PolicyError(f"{address} refuses websockets ({error}); it is no {what} server.") from error
    except (ConnectionClosed, AssertionError) as error:
        # Also where a server of another protocol speaks first, and faster than the request is sent; websockets then
        # finds its own state in contradiction (an assertion of its own).
        raise LinkLost("the connection broke during the handshake; if it stays so, this is no such server") from error
    except ssl.SSLError as error:
        raise PolicyError(
            f"{address} does not agree on TLS ({_reason(error)}); check its certificate, or that it is meant to be wss."
        ) from error
    except (OSError, EOFError) as error:
        raise LinkLost(_reason(error)) from error


def _refused(address: Address, token: str | None) -> str:
    said = "refuses the token" if token else "asks for a token"
    return (
        f"{address} {said}: put the one that the server was started with into the environment variable that the "
        f"policy's option token_env names ({TOKEN_ENV} by default)."
    )


def _reason(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer to the handshake"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__

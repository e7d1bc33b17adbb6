"""Where a policy server listens, and how long to wait for one that does not answer yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from harness.errors import PolicyServerDied, UsageError

DEFAULT_PORT, TLS_PORT = 8000, 443
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class LinkLost(Exception):
    """Nobody answers, or no longer: another attempt may succeed."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int
    path: str = ""
    """Where on the server, from its first slash; empty for the root."""
    secure: bool = False
    """Whether it is reached over TLS (wss)."""
    scheme: str = "openpi"
    """Kind of the policy, by which the server's protocol is known."""

    def __str__(self) -> str:
        """As it is written on a command line."""
        return f"{self.scheme}://{'wss://' if self.secure else ''}{self.netloc}{self.path}"

    @property
    def url(self) -> str:
        """Address of the websocket."""
        return f"{'wss' if self.secure else 'ws'}://{self.netloc}{self.path}"

    @property
    def netloc(self) -> str:
        """HOST:PORT, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str | None, scheme: str = "openpi", port: int = DEFAULT_PORT) -> Address:
    """Read [ws://|wss://]HOST[:PORT][/PATH]; an IPv6 host stands in brackets. The port of wss is 443.

    Args:
        text: What stands behind the scheme.
        scheme: Kind of the policy.
        port: Where servers of this kind listen unless they are told otherwise.

    Raises:
        UsageError: Another form.
    """
    match = re.fullmatch(r"(?:(wss?)://)?(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?(/[^\s?#]*)?", text or "")
    secure = match is not None and match[1] == "wss"
    number = int(match[3] or (TLS_PORT if secure else port)) if match else 0
    if match is None or not 0 < number < 65536:
        tail = ", or wss://HOST/PATH over TLS." if scheme == "openpi" else "."
        raise UsageError(
            f"{scheme}://{text or ''} is no address; write {scheme}://HOST:PORT[/PATH], e.g. {scheme}://localhost:{port}"
            + tail
        )
    return Address(match[2].strip("[]"), number, (match[4] or "").rstrip("/"), secure, scheme)


def bare_address(text: str | None, scheme: str, port: int) -> Address:
    """Read HOST[:PORT] of a server that knows no path and no TLS.

    Raises:
        UsageError: Another form.
    """
    address = parse_address(text, scheme, port)
    if address.path or address.secure or "://" in (text or ""):
        raise UsageError(
            f"{scheme}://{text} has {'TLS' if address.secure else 'a path'}, which its protocol does not know; write "
            f"{scheme}://HOST:PORT."
        )
    return address


def pause_s(attempt: int) -> float:
    """How long to wait after failed attempt number `attempt`, from 0: doubling, up to a limit."""
    return float(min(FIRST_PAUSE_S * 2.0 ** min(attempt, 16), LONGEST_PAUSE_S))


def insist[Opened](
    attempt_once: Callable[[], Opened],
    limit_s: float,
    *,
    seconds: Callable[[], float],
    sleep: Callable[[float], None],
) -> Opened:
    """Open a connection, again and again with growing pauses.

    Args:
        attempt_once: Opens it; raises `LinkLost` when nobody answers.
        limit_s: When to give up, seconds.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        LinkLost: Nobody answered in time; says why the last attempt failed.
    """
    deadline = seconds() + limit_s
    attempt = 0
    while True:
        try:
            return attempt_once()
        except LinkLost:
            pause = pause_s(attempt)
            if seconds() + pause > deadline:
                raise
        sleep(pause)
        attempt += 1


class Closable(Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Close it."""
        ...


def ask_first[Opened: Closable, Answer](
    open_link: Callable[[], Opened], ask: Callable[[Opened], Answer], address: Address, *, who: str, remedy: str
) -> tuple[Opened, Answer]:
    """Open a link and learn over it what is needed before the first decision; it is closed when that fails.

    Args:
        open_link: Opens it; raises `LinkLost` when nobody answers.
        ask: Asks over it.
        address: The server, for people.
        who: Who should answer, for people.
        remedy: What to do when nobody does, a sentence.

    Raises:
        PolicyServerDied: Nobody answers.
    """
    try:
        link = open_link()
        try:
            return link, ask(link)
        except BaseException:
            link.close()
            raise
    except LinkLost as error:
        raise PolicyServerDied(f"No {who} answers at {address} ({error}). {remedy}") from error

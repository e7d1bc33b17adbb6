"""Whether a port may be opened to a network; imports nothing heavy, so that it is known before anything loads."""

from __future__ import annotations

import ipaddress

from harness.errors import UsageError
from harness.policies.servers.options import TOKEN_ENV


def require_token(host: str, token: str | None) -> None:
    """Refuse to listen to a network without a token.

    Raises:
        UsageError: `host` is no loopback address, and there is no token.
    """
    if token or is_loopback(host):
        return
    raise UsageError(
        f"Host {host!r} can be reached from elsewhere, so a token is needed: set {TOKEN_ENV} (or give --token), and "
        "the same at the clients; or listen on 127.0.0.1 and tunnel (`ssh -L 8000:localhost:8000 …`)."
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by address, or called localhost; any other name may lead elsewhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

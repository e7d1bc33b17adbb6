"""What opening a store by its URI takes where nobody answers: Google's client tries for a quarter of an hour."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

GCS_PATIENCE_S = 10
"""How long Google Cloud Storage is tried unless the URI says it, seconds: its client's own 15 minutes look like a
hang."""
CONNECT_S = 5.0
ELSEWHERE = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "CLOUD_STORAGE_EMULATOR_ENDPOINT")
"""Variables by which Google's client goes somewhere else than to the store itself."""


def impatient(uri: str) -> str:
    """The URI, with a limit of time where it goes to Google's store and says none."""
    if not _is_google(uri) or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={GCS_PATIENCE_S}"


def require_answer(uri: str, environ: Mapping[str, str]) -> None:
    """Look whether anybody listens where a bucket of Google's should be; of other stores their clients know at once.

    Args:
        uri: The store.
        environ: With a proxy or an emulator in it, nothing is looked at.

    Raises:
        OSError: Nobody answers; names the host. (The limit of time holds for each of several requests.)
    """
    if not _is_google(uri) or any(environ.get(name) for name in ELSEWHERE):
        return
    place = parse_qs(urlsplit(uri).query).get("endpoint_override", ["storage.googleapis.com:443"])[0]
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise OSError(f"{place} does not answer: {error.strerror or error}") from error


def _is_google(uri: str) -> bool:
    return uri.startswith(("gs://", "gcs://"))

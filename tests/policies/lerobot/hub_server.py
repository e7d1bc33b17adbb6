"""A small model hub over HTTP, with the answers and headers of the real one, so that the real client can be tested."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by id, and what the hub says of others."""

    folders: Mapping[str, Path]
    redirects: Mapping[str, str] = field(default_factory=dict)
    gated: frozenset[str] = frozenset()
    truncated: frozenset[str] = frozenset()
    """File names that are cut in half on their way."""
    broken: bool = False
    """Every answer is a 503."""
    endpoint: str = ""
    seen: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *args: Any) -> None:
            del args

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            hub.seen.append(f"{self.command} {path}")
            if hub.broken:
                return self._send(503, b"", {})
            if path.startswith("/api/models/"):
                return self._api(path.removeprefix("/api/models/"), body)
            repository, _, rest = path.lstrip("/").partition("/resolve/")
            return self._file(repository, rest.partition("/")[2], body)

        def _api(self, path: str, body: bool) -> None:
            repository, _, rest = path.partition("/revision/")
            repository, _, tree = repository.partition("/tree/")
            if repository in hub.redirects:
                target = self.path.replace(repository, hub.redirects[repository])
                return self._send(307, b"", {"Location": target})
            if repository in hub.gated:
                return self._error(403, "GatedRepo", "Access to model is restricted")
            if repository not in hub.folders:
                return self._error(401, "RepoNotFound", "Repository not found")
            if rest not in ("", "main", COMMIT):
                return self._error(404, "RevisionNotFound", f"Invalid rev id: {rest}")
            files = [_describe(path, hub.folders[repository]) for path in _files(hub.folders[repository])]
            answer: Any = {"id": repository, "sha": COMMIT, "siblings": files, "gated": False, "private": False}
            if tree:
                answer = [{"type": "file", "path": f["rfilename"], **f} for f in files]
            return self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _file(self, repository: str, name: str, body: bool) -> None:
            folder = hub.folders.get(repository)
            if folder is None or not (folder / name).is_file():
                return self._error(404, "EntryNotFound", "Entry not found")
            data = (folder / name).read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if name in hub.truncated:
                data = data[: len(data) // 2]
            return self._send(200, data, headers, body=body)

        def _error(self, status: int, code: str, message: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

        def _send(self, status: int, data: bytes, headers: Mapping[str, str], *, body: bool = True) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(data)

    return Handler


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _describe(path: Path, folder: Path) -> dict[str, Any]:
    data = path.read_bytes()
    described: dict[str, Any] = {"rfilename": str(path.relative_to(folder)), "size": len(data), "oid": "0" * 40}
    if path.suffix == ".safetensors":
        described["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        described["lfs"]["oid"] = described["lfs"]["sha256"]
    return described

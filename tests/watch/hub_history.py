"""A hub with one repository and its history over HTTP, as far as the real client asks for it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

REPOSITORY = "robots/student"


@dataclass
class History:
    """Commits, oldest first: file → contents."""

    commits: list[dict[str, bytes]] = field(default_factory=list)
    down: bool = False
    seen: list[str] = field(default_factory=list)
    endpoint: str = ""

    def sha(self, number: int) -> str:
        """Commit of a revision, numbered from 1."""
        return f"{number:040x}"

    def add(self, **files: bytes) -> str:
        """Commit changes of some files; returns the commit."""
        before = self.commits[-1] if self.commits else {}
        self.commits.append({**before, **{name.replace("__", "."): data for name, data in files.items()}})
        return self.sha(len(self.commits))

    def answer(self, path: str) -> tuple[int, Any, dict[str, str]]:
        """Status, body (JSON or bytes) and headers."""
        if self.down:
            return 503, b"", {}
        if path.startswith(f"/api/models/{REPOSITORY}/commits/"):
            listed = [
                {"id": self.sha(n), "authors": [], "date": "2026-11-27T12:00:00.000Z", "title": "c", "message": ""}
                for n in range(len(self.commits), 0, -1)
            ]
            return 200, listed, {}
        if path.startswith(f"/api/models/{REPOSITORY}/"):
            kind, _, sha = path.removeprefix(f"/api/models/{REPOSITORY}/").partition("/")
            files = [self._describe(name, data) for name, data in self.commits[int(sha, 16) - 1].items()]
            tree = [{"type": "file", "path": one["rfilename"], "oid": one["blobId"], **one} for one in files]
            return 200, tree if kind == "tree" else {"id": REPOSITORY, "sha": sha, "siblings": files}, {}
        if path.startswith(f"/{REPOSITORY}/resolve/"):
            sha, _, name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
            data = self.commits[int(sha, 16) - 1][name]
            return 200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": sha}
        return 401, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}

    def _describe(self, name: str, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        described: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": digest[:40]}
        if name.endswith(".safetensors"):
            described["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 134}
        return described


@contextmanager
def serving(history: History) -> Iterator[History]:
    """Serve it on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *args: Any) -> None:
            del args

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlparse(self.path).path)
            history.seen.append(path)
            status, content, headers = history.answer(path)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    history.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield history
    finally:
        server.shutdown()
        server.server_close()

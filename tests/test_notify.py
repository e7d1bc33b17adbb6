"""Notifications: told in time or not at all, and no verdict depends on it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.notify import News, check_template, notify

NEWS = News("FAIL", "/r/gate.md", "/r", "step-000100", "success dropped; $(rm -rf ~)", "100")


def test_a_command_gets_its_fields_as_words_that_no_shell_reads(tmp_path: Path) -> None:
    script = "import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))"
    template = f'{sys.executable} -c "{script}" {tmp_path}/said {{verdict}} "{{name}}: {{summary}}" {{step}}'
    check_template(template)
    assert notify(template, NEWS) is None
    assert json.loads((tmp_path / "said").read_text())[1:] == [
        "FAIL",
        "step-000100: success dropped; $(rm -rf ~)",
        "100",
    ]


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("false", "exited with 1"),
        ("no-such-program-here {verdict}", "FileNotFoundError"),
        ("sleep 30", "took longer than 0.3 s"),
        ("http://127.0.0.1:1/hook", "Connection refused"),
    ],
)
def test_what_goes_wrong_is_said_in_time_and_never_raised(template: str, fault: str) -> None:
    began = time.monotonic()
    assert fault in str(notify(template, NEWS, timeout_s=0.3))
    assert time.monotonic() - began < 5


@pytest.fixture
def hook() -> Iterator[tuple[str, list]]:
    """A chat's webhook: its address, and what it was posted."""
    posted: list = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posted.append((self.path, body))
            self.send_response(500 if "fail" in self.path else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()


def test_a_webhook_is_posted_the_fields_and_a_text_for_chats(hook) -> None:
    address, posted = hook
    assert notify(address + "/hook?who={name}", NEWS) is None
    path, body = posted[0]
    assert path == "/hook?who=step-000100"
    assert (body["text"], body["verdict"], body["report"]) == (NEWS.summary, "FAIL", "/r/gate.md")
    assert "answered 500" in str(notify(address + "/fail", NEWS))


@pytest.mark.parametrize("template", ["", "say {who}", "say '{name}", "say {name", "https://chat/{secret}"])
def test_a_template_that_cannot_be_filled_in_is_refused_before_anything_runs(template: str) -> None:
    with pytest.raises(UsageError, match="--notify"):
        check_template(template)

"""`harness serve` as a user meets it: it says where it listens, ends on Ctrl-C, and names what is wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from harness.policies.registry import make_policy
from harness.schedule.keys import decision_noise
from harness.spec import parse_policy
from harness.spec.observation import Observation

COMMAND = [sys.executable, "-c", "from harness.cli import main; main()", "serve", "--policy"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "VLA_HARNESS_TOKEN"}


def fail(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and message of a command that ends at once."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=ENVIRONMENT | environment
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(ending):
    with subprocess.Popen(
        [*COMMAND, "random", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        try:
            assert server.stdout is not None
            address = None
            while address is None:
                line = server.stdout.readline()
                assert line, server.communicate()[1]
                address = re.search(r"Serving random at (openpi://127.0.0.1:\d+)", line)
            noise = decision_noise("ab" * 32, 0, (10, 7))[np.newaxis]
            seen = Observation("wave", np.zeros(8, np.float32))
            there = make_policy(parse_policy(address[1])).act([seen], noise)
            here = make_policy(parse_policy("random")).act([seen], noise)
            np.testing.assert_array_equal(there.actions, here.actions)
            server.send_signal(ending)
            out, err = server.communicate(timeout=20)
        finally:
            server.kill()
    assert (server.returncode, err) == (0, "")
    assert "Ended: 1 decisions for 1 clients." in out


def test_a_port_in_use_ends_it_with_one_message():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, message = fail("noop", "--port", str(taken.getsockname()[1]))
    assert code == 64
    assert re.fullmatch(r"error: Port \d+ of 127\.0\.0\.1 is in use; .*--port.*\n", message)


def test_a_network_without_a_token_is_refused_before_anything_is_loaded():
    code, message = fail("lerobot:no/such-model", "--host", "0.0.0.0")  # noqa: S104
    assert code == 64
    assert "a token is needed: set VLA_HARNESS_TOKEN" in message
    code, message = fail("noop", **{"VLA_HARNESS_TOKEN": " "})
    assert code == 64
    assert "token is empty" in message


def test_an_unknown_policy_is_answered_with_the_nearest_one():
    code, message = fail("flwo")
    assert code == 64
    assert "Did you mean 'flow'" in message


@pytest.mark.parametrize("text", ["fast", "-1ms", "nanms"])
def test_a_padding_that_is_no_duration_is_refused_before_anything_is_loaded(text):
    code, message = fail("lerobot:no/such-model", "--pad-to", text)
    assert code == 64
    assert re.search("no duration|negative", message)

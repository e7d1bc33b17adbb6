"""LeRobot's own policy server in its own process, asked over gRPC, with checkpoints that LeRobot saved."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_policy, write_checkpoint
from lerobot_small import observe

from harness.errors import PolicyError, PolicyServerDied, UsageError
from harness.policies.registry import POLICIES, make_policy
from harness.spec import parse_policy
from harness.spec.policy import SERVER_KINDS

pytest.importorskip("grpc", reason="grpcio is not installed (the extra `servers` brings it)")

from lerobot.async_inference.helpers import TimedAction

from harness.policies.lerobot_grpc.pickles import read_actions


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def policy_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """LeRobot's server, as its documentation starts it; it writes its log into the folder it is started in."""
    command = [sys.executable, "-m", "lerobot.async_inference.policy_server", "--host=127.0.0.1", f"--port={port}"]
    command += ["--inference_latency=0", "--obs_queue_timeout=20"]
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "LeRobot's server does not listen"
                time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def act(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ACT checkpoint; ACT has no tokenizer."""
    folder = tmp_path_factory.mktemp("act")
    return write_checkpoint(folder, folder, "act")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with policy_server(tmp_path_factory.mktemp("server"), port):
        yield port


def remote(port: int, checkpoint: Path, **options: Any) -> Any:
    given = "&".join(f"{name}={value}" for name, value in {"connect_s": 20, **options}.items())
    return make_policy(parse_policy(f"lerobot-grpc://127.0.0.1:{port}?checkpoint={checkpoint}&{given}"))


def test_a_checkpoint_behind_lerobots_server_answers_as_it_does_here(server: int, act: Path) -> None:
    policy, here = remote(server, act), load_policy(act)
    assert (policy.info.chunk_length, policy.info.replan_interval, policy.info.placement) == (6, 4, "server")
    for seen in observe(3):
        np.testing.assert_allclose(policy.act([seen], None).actions, here.act([seen], None).actions, atol=1e-5)
    again = policy.act([observe(1)[0]], None).actions
    np.testing.assert_array_equal(again, policy.act([observe(1)[0]], None).actions)
    policy.close()
    assert "64×64" in policy.provenance["sends_images"]
    assert any("no keyed noise" in each for each in policy.warnings)
    assert any("inference_latency" in each for each in policy.warnings)


def test_a_longer_chunk_is_cut_as_the_client_asks(server: int, act: Path) -> None:
    policy = remote(server, act, actions_per_chunk=3)
    assert (policy.info.chunk_length, policy.info.replan_interval) == (3, 3)
    policy.close()


def test_a_server_that_cannot_load_says_why_and_one_whose_policy_fails_says_where_to_look(
    server: int, act: Path, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError, match=r"answered with an error: .*xvla not supported"):
        remote(server, act, policy_type="xvla")
    hidden = shutil.copytree(act, tmp_path / "hidden")
    # This end cannot read the configuration, so the wrong names of cameras are only found by the server.
    (hidden / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(UsageError, match="has to be told; add policy_type="):
        remote(server, hidden)
    with pytest.raises(PolicyError, match=r"127.0.0.1:\d+ answered"):
        remote(server, hidden, policy_type="act")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"image_key": "front"},
            r"cameras: it declares observation.images.image, observation.images.image2, this clie",
        ),
        ({}, r"shape of action: it declares \[6\], this client has \[7\]"),
        ({}, r"observations of a decision: it declares 2, this client has 1"),
    ],
)
def test_a_checkpoint_of_another_robot_is_refused_before_the_server_is_asked(
    act: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    import json

    folder = shutil.copytree(act, tmp_path / "other")
    stored = json.loads((folder / "config.json").read_text())
    if "action" in told:
        stored["output_features"]["action"]["shape"] = [6]
    if "observations" in told:
        stored["n_obs_steps"] = 2
    (folder / "config.json").write_text(json.dumps(stored))
    with pytest.raises(PolicyError, match=rf"do not fit\..*{told}"):
        remote(9, folder, **options)


@pytest.mark.slow
def test_a_server_that_was_started_again_is_told_its_checkpoint_again(act: Path, tmp_path: Path) -> None:
    port = free_port()
    with policy_server(tmp_path, port):
        policy = remote(port, act, reconnect_s=60)
        before = policy.act(observe(1), None).actions
    with policy_server(tmp_path, port):
        np.testing.assert_array_equal(policy.act(observe(1), None).actions, before)
    policy.close()
    with pytest.raises(PolicyServerDied, match=r"No policy server of LeRobot answers.*--port=\d+"):
        remote(port, act, connect_s=0.5)


class Evil:
    """What runs when Python unpickles it."""

    def __reduce__(self) -> Any:  # noqa: D105
        return (os.system, ("touch /tmp/never",))


@pytest.mark.parametrize(
    "answer",
    [Evil(), [Evil()], [], {}, [TimedAction(0.0, 0, Evil())], "text", [TimedAction(0.0, 0, "text")], OrderedDict()],
)
def test_an_answer_that_is_no_chunk_is_neither_run_nor_believed(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(PolicyError, match="something else than LeRobot's list of timed actions"):
        read_actions(pickle.dumps(answer), "The server")
    assert ran == []


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 200])
def test_a_damaged_answer_is_a_typed_error(keep: int) -> None:
    sound = pickle.dumps([TimedAction(0.0, k, torch.arange(7.0)) for k in range(3)])
    assert read_actions(sound, "The server").shape == (3, 7)
    with pytest.raises(PolicyError):
        read_actions(sound[:keep], "The server")


def test_every_server_kind_is_written_as_an_address_and_has_a_client() -> None:
    remote_kinds = {kind for kind in POLICIES.kinds() if "://" in POLICIES.describe(kind)[0]}
    assert remote_kinds == set(SERVER_KINDS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lerobot-grpc://h:1", "names no checkpoint"),
        ("lerobot-grpc://h:1/path?checkpoint=x", "has a path, which its protocol does not know"),
        ("lerobot-grpc://wss://h:1?checkpoint=x", "has TLS"),
        ("lerobot-grpc://h:1?checkpoint=x&fps=3", "fps"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        POLICIES.check(parse_policy(text), local=False)

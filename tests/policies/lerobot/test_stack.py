"""A policy in an environment of its own: the same answers over the wire, and two releases side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_small import noise_for, observe

from harness.errors import NoPolicyError, PolicyError
from harness.policies.lerobot import stack
from harness.policies.lerobot.versions import check_versions
from harness.policies.registry import POLICIES, make_policy
from harness.spec.policy import parse_policy

OLD = Path(__file__).parents[3] / "examples" / "stacks" / "lerobot-0.5.1.txt"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "stack.txt"
    path.write_text("lerobot==0.6.1\n")
    return path


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This environment in place of one that takes gigabytes."""
    monkeypatch.setattr(stack, "environment", lambda lock, folder: Path(sys.executable))


@pytest.mark.usefixtures("here")
def test_it_answers_over_the_wire_as_it_does_here_and_ends_when_it_is_let_go(save: Any, load: Any, lock: Path) -> None:
    folder = save("act")
    plain = load(folder)
    spec = parse_policy(f"lerobot:{folder}?device=cpu&env={lock}")
    POLICIES.check(spec)
    apart = make_policy(spec)
    observations = observe(2)
    expected = plain.act(observations, None).actions
    # One at a time over there: a batch of two rounds differently.
    np.testing.assert_allclose(apart.act(observations, None).actions, expected, atol=1e-5)
    assert apart.info.policy_id == spec.label, "it is told apart from the same checkpoint here"
    assert apart.info.placement == "server"
    assert apart.info.identity == plain.info.identity, "and pairs with it"
    assert apart.provenance["lerobot"] == "0.6.1"
    assert "environment of its own: lerobot 0.6.1" in apart.warnings[-1]
    children = _children()
    assert len(children) == 1
    del apart
    deadline = time.monotonic() + 20
    while _children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _children()


def _children() -> list[str]:
    told = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [line for line in told.stdout.splitlines() if stack.SERVER in line]


@pytest.mark.usefixtures("here")
def test_what_the_far_end_refuses_is_said_here(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(PolicyError, match=r"in its own environment: .*no checkpoint folder"):
        make_policy(parse_policy(f"lerobot:{tmp_path}/absent?device=cpu&env={lock}"))


def test_a_far_end_that_dies_is_told_with_its_last_words(tmp_path: Path, lock: Path, monkeypatch: Any) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named lerobot' >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(stack, "environment", lambda lock, folder: python)
    with pytest.raises(PolicyError, match="ended without an answer: No module named lerobot"):
        make_policy(parse_policy(f"lerobot:{tmp_path}?env={lock}"))


def test_a_lock_file_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(NoPolicyError, match="no such lock file"):
        POLICIES.check(parse_policy(f"lerobot:{tmp_path}?env={tmp_path}/absent.txt"))


def test_an_environment_is_made_once_for_each_content_of_a_lock_file(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, uv = tmp_path / "log", tmp_path / "uv"
    # Stands for uv, which would fetch gigabytes: makes the folder, and fails where a marker says so.
    uv.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n[ -e {tmp_path}/broken ] && {{ echo "no such version" >&2; exit 1; }}\n'
        'for last; do :; done\n[ "$1" = venv ] && mkdir -p "$last/bin"\nexit 0\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cache = tmp_path / "cache"
    (tmp_path / "broken").touch()
    with pytest.raises(PolicyError, match="no such version"):
        stack.environment(lock, cache)
    (tmp_path / "broken").unlink()
    first = stack.environment(lock, cache)
    calls = log.read_text()
    assert stack.environment(lock, cache) == first
    lock.write_text("# a comment changes nothing\nlerobot==0.6.1\n")
    assert stack.environment(lock, cache) == first
    assert log.read_text() == calls, "and what failed half-way was made anew"
    lock.write_text("lerobot==0.5.1\n")
    assert stack.environment(lock, cache) != first


def test_versions_known_to_be_wrong_are_taken_where_that_is_asked_for() -> None:
    with pytest.raises(PolicyError, match="lerobot#3603"):
        check_versions("0.5.1", "5.3.0")
    assert "Accepted as asked" in check_versions("0.5.1", "5.3.0", "any")[0]


SAVE = """
import sys, json, torch
from pathlib import Path
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
sizes, out = json.loads(sys.argv[1]), Path(sys.argv[2])
torch.manual_seed(0)
frames = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)) for name in ("image", "image2")}
state = {"observation.state": PolicyFeature(FeatureType.STATE, (8,))}
action = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
config = make_policy_config("act", device="cpu", input_features=state | frames, output_features=action, **sizes)
get_policy_class("act")(config).save_pretrained(out)
stats = {name: {k: torch.full((n, 1, 1) if n == 3 else (n,), v) for k, v in
                {"mean": 0.1, "std": 0.7, "min": -1.0, "max": 1.0}.items()}
         for name, n in {"observation.state": 8, "action": 7, **dict.fromkeys(frames, 3)}.items()}
for pipeline in make_pre_post_processors(config, dataset_stats=stats):
    pipeline.save_pretrained(out)
"""


@pytest.mark.slow
def test_a_checkpoint_of_lerobot_0_5_answers_the_same_in_0_5_and_in_0_6(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real releases from the package index; the environment takes 8 GB and a minute."""
    from lerobot_small import SMALL

    python = stack.environment(OLD, stack.cache_folder(os.environ))
    folder = tmp_path / "act"
    subprocess.run([python, "-c", SAVE, json.dumps(SMALL["act"]), str(folder)], check=True)
    old = make_policy(parse_policy(f"lerobot:{folder}?device=cpu&env={OLD}"))
    new = load(folder)
    assert old.provenance["lerobot"] == "0.5.1"
    observations = observe(3)
    noise = noise_for(new, observations)
    np.testing.assert_allclose(old.act(observations, noise).actions, new.act(observations, noise).actions, atol=1e-5)

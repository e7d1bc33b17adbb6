"""Checkpoints from a hub: the real client against a small server on the loopback interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub, serving
from lerobot_small import noise_for, observe

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot.build import build
from harness.policies.lerobot.hub import ROOM_BYTES, find_checkpoint, find_local, looks_local
from harness.policies.lerobot.policy import LeRobotPolicy
from harness.spec.policy import PolicySpec, parse_policy

ASKED = "robots/pi05_libero"
SERVED = "robots/pi05_libero_v044"


@pytest.fixture
def fetch(tmp_path: Path, narrow: None) -> Callable[..., LeRobotPolicy]:
    """Build a policy from a hub, with a cache of its own."""

    def make(hub: Hub, text: str = f"lerobot:{ASKED}", **options: Any) -> LeRobotPolicy:
        spec = parse_policy(text)
        spec = PolicySpec(kind="lerobot", path=spec.path, options={"device": "cpu", **spec.options, **options})
        return build(spec, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")

    return make


@pytest.mark.parametrize("text", [f"lerobot:{ASKED}", f"lerobot:{ASKED}@main", f"lerobot:{ASKED}?revision=main"])
def test_a_hub_id_is_pinned_to_the_commit_that_was_served(save: Any, load: Any, fetch: Any, text: str) -> None:
    folder, observations = save("act"), observe(1)
    with serving(Hub({ASKED: folder})) as hub:
        policy = fetch(hub, text)
    assert policy.info.checkpoint == f"{ASKED}@{COMMIT}"
    assert policy.provenance["revision"] == COMMIT
    assert (policy.provenance["asked"], policy.provenance["served"]) == (ASKED, ASKED)
    assert (policy.act(observations, None).actions == load(folder).act(observations, None).actions).all()


def test_a_redirected_id_is_refused_with_both_names(save: Any, fetch: Any) -> None:
    with (
        serving(Hub({SERVED: save("act")}, redirects={ASKED: SERVED})) as hub,
        pytest.raises(PolicyError, match=f"'{ASKED}' with another repository, '{SERVED}'.*redirect=follow"),
    ):
        fetch(hub)


def test_a_redirect_that_is_accepted_is_recorded(save: Any, fetch: Any) -> None:
    with serving(Hub({SERVED: save("act")}, redirects={ASKED: SERVED})) as hub:
        policy = fetch(hub, redirect="follow")
    assert (policy.provenance["asked"], policy.provenance["served"]) == (ASKED, SERVED)
    assert policy.info.checkpoint == f"{SERVED}@{COMMIT}"
    assert f"Asked for '{ASKED}'; the hub served '{SERVED}'." in policy.warnings


def test_a_missing_repository_is_told_from_a_missing_revision(save: Any, fetch: Any) -> None:
    with serving(Hub({ASKED: save("act")})) as hub:
        with pytest.raises(PolicyError, match=r"no repository 'robots/other', or it is private"):
            fetch(hub, "lerobot:robots/other")
        with pytest.raises(PolicyError, match=r"at revision 'v9' does not exist: .*no such branch, tag or commit"):
            fetch(hub, f"lerobot:{ASKED}@v9")


def test_a_gated_repository_says_how_to_get_in(fetch: Any) -> None:
    with (
        serving(Hub({}, gated=frozenset({ASKED}))) as hub,
        pytest.raises(PolicyError, match=r"gated: accept its terms"),
    ):
        fetch(hub)


def test_a_download_that_is_cut_off_is_refused(save: Any, fetch: Any) -> None:
    hub = Hub({ASKED: save("act")}, truncated=frozenset({"model.safetensors"}))
    with serving(hub), pytest.raises(PolicyError, match=r"could not be downloaded|truncated|damaged"):
        fetch(hub)


@pytest.mark.parametrize("failure", ["off", "broken"])
def test_without_a_hub_the_cached_commit_is_used_and_said(save: Any, fetch: Any, failure: str) -> None:
    folder, observations = save("act"), observe(1)
    with serving(Hub({ASKED: folder})) as hub:
        expected = fetch(hub).act(observations, None).actions
        hub.broken = failure == "broken"
        if failure == "broken":
            policy = fetch(hub)
    if failure == "off":
        policy = fetch(hub)
    assert policy.info.checkpoint == f"{ASKED}@{COMMIT}"
    assert any("comes from the cache" in warning for warning in policy.warnings)
    assert (policy.act(observations, noise_for(policy, observations)).actions == expected).all()


def test_without_a_hub_and_without_a_cache_the_ways_out_are_named(fetch: Any) -> None:
    with serving(Hub({})) as hub:
        pass
    with pytest.raises(PolicyError, match=r"cannot be reached .*not in the cache.*weights=random"):
        fetch(hub)


def test_a_download_that_does_not_fit_is_refused_before_its_first_byte(
    save: Any, fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save("act")
    size = sum(file.stat().st_size for file in folder.iterdir())
    free = {"bytes": size + ROOM_BYTES // 2}
    monkeypatch.setattr("harness.policies.lerobot.hub.free_bytes", lambda place: free["bytes"])
    with serving(Hub({ASKED: folder})) as hub:
        with pytest.raises(PolicyError, match=rf"needs 1\.\d GB in the hub's cache, {tmp_path / 'cache'} on .*HF_HOME"):
            fetch(hub)
        assert not any("/resolve/" in request for request in hub.seen)
        free["bytes"] = size + 2 * ROOM_BYTES
        fetch(hub)
        # What is in the cache already needs no room.
        free["bytes"] = 0
        fetch(hub)


def test_only_what_a_policy_needs_is_downloaded(save: Any, tmp_path: Path) -> None:
    folder = save("act")
    (folder / "training_state.bin").write_bytes(b"0" * 100)
    with serving(Hub({ASKED: folder})) as hub:
        found = find_checkpoint(ASKED, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    assert (found.folder / "policy_preprocessor.json").is_file()
    assert not (found.folder / "training_state.bin").exists()
    assert found.weights_sha256 is not None


def test_two_revisions_in_one_request_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="names revision 'a', its options name 'b'"):
        find_checkpoint("robots/x@a", "b")


@pytest.mark.parametrize(
    ("path", "local"),
    [("/abs/x", True), ("./x", True), ("~/x", True), ("a/b/c", True), ("a/b", False), ("a/b@feature/c", False)],
)
def test_a_path_is_told_from_a_hub_id(path: str, local: bool) -> None:
    assert looks_local(path) is local


def test_a_name_that_is_neither_a_folder_nor_an_id_is_a_usage_error(fetch: Any) -> None:
    with serving(Hub({})) as hub, pytest.raises(UsageError, match="neither a folder nor a hub id"):
        fetch(hub, "lerobot:what is this")


@pytest.mark.parametrize(
    "file", ["pretrained_model/train_config.json", "training_state/step.json", "train_config.json"]
)
def test_a_file_of_a_checkpoint_is_answered_with_its_pretrained_model(tmp_path: Path, file: str) -> None:
    held = tmp_path / "last" / "pretrained_model"
    held.mkdir(parents=True)
    (held / "config.json").write_text("{}")
    given = tmp_path / "last" / file
    given.parent.mkdir(exist_ok=True)
    given.write_text("{}")
    with pytest.raises(
        PolicyError, match=rf"is a file; a checkpoint is a folder, here lerobot:{re.escape(str(held))}$"
    ):
        find_local(str(given))

"""What is known to be wrong with a policy before anything heavy is imported, and what a policy says it can do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError, PolicyError, UsageError
from harness.policies.ability import frame_warning, require_able
from harness.policies.registry import POLICIES
from harness.spec.action_space import LIBERO_ACTIONS
from harness.spec.observation import ANY_NFE, PolicyInfo
from harness.spec.policy import parse_policy


def check(text: str, *, local: bool = True) -> None:
    POLICIES.check(parse_policy(text), local=local)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flow:/no/such/folder", "there is no folder /no/such/folder"),
        ("flow?bacth=3", "Unknown option of flow 'bacth'. Did you mean 'max_batch'"),
        ("flow?dtyp=x", "Unknown option of flow 'dtyp'. Did you mean 'dtype'"),
        ("flow?weights=random&seed=3.7", "flow: seed is 3.7; it is an integer of at least 0"),
        ("flow?seed=3.7", "flow: seed is 3.7; it is an integer of at least 0"),
        ("flow?device=tpu", "flow: device is 'tpu'; it is one of auto, cpu, cuda, cuda:N"),
        ("flow?max_batch=0", "max_batch is 0; it is an integer of at least 1"),
        ("flow?max_wait_ms=.inf", "max_wait_ms is '.inf'"),
        ("flow:student?weights=random", "random weights were asked for, but a checkpoint is given"),
        ("python:nomod:factory", "needs the module 'nomod', which is not on the path"),
        ("python:json.nomod:factory", "needs the module 'json.nomod'"),
        ("python:harness.policies.controls:make_nop", "Did you mean 'make_noop'"),
        ("python:nomod", "names no factory"),
        ("lerobot", "lerobot needs a path"),
        ("lerobot:pi05", "lerobot:pi05 is a policy type, not a checkpoint"),
        ("lerobot:pi5?weights=random", "Did you mean 'pi05'"),
        ("lerobot:./nowhere", "There is no checkpoint folder"),
        ("lerobot:a/b?revison=main", "Did you mean 'revision'"),
        ("openpi://robot:port", "write openpi://HOST:PORT"),
        ("openpi://robot?replan=2.5", "openpi: replan is 2.5; it is an integer of at least 1"),
        ("scripted?x=1", "takes no path and no options"),
        ("flaw", "Unknown policy 'flaw'. Did you mean 'flow'"),
    ],
)
def test_what_cannot_work_is_refused_by_its_value(text: str, told: str) -> None:
    with pytest.raises(HarnessError) as caught:
        check(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "flow", "flow:student", "flow?max_batch=8&max_wait_ms=2", "flow?weights=random&seed=3", "noop", "scripted",
        "lerobot:pi05?weights=random&empty_cameras=1", "openpi://robot:8000?reconnect_s=5",
        "python:harness.policies.controls:make_noop", "python:harness.policies.controls:NoopPolicy.act",
        "python:harness.policies.flow:make",
    ],
)  # fmt: skip
def test_what_can_work_passes(text: str) -> None:
    check(text)


def test_what_lies_on_other_machines_is_not_looked_for_here() -> None:
    for text in ("flow:/no/such/folder", "lerobot:/no/such/folder", "python:nomod:factory", "lerobot:nobody/nothing"):
        check(text, local=False)
    with pytest.raises(UsageError, match="bacth"):
        check("flow:/no/such/folder?bacth=3", local=False)


def test_the_hub_is_asked_and_one_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from harness.policies.registry import POLICIES; from harness.spec import parse_policy\n"
        "try: POLICIES.check(parse_policy('lerobot:nobody/nothing'))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "import sys; print('torch' in sys.modules)"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("PolicyError The hub cannot be reached")
    assert said.endswith("False\n")


def test_checking_imports_no_torch() -> None:
    texts = ["flow", "lerobot:pi05?weights=random", "openpi://robot", "python:harness.policies.flow.policy:make"]
    code = (
        "from harness.policies.registry import POLICIES; from harness.spec import parse_policy\n"
        f"for text in {texts!r}: POLICIES.check(parse_policy(text))\n"
        "import sys; print([name for name in ('torch', 'lerobot', 'transformers', 'ray') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_flow_folder_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"model\.safetensors missing"):
        check(f"flow:{tmp_path}")


def checkpoint(folder: Path, weights: str = "weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"type": "act"}))
    (folder / "model.safetensors").write_text(weights)
    return folder


def test_a_folder_above_or_a_file_inside_a_checkpoint_points_at_the_checkpoint(tmp_path: Path) -> None:
    for step in ("000100", "000200"):
        checkpoint(tmp_path / "run" / "checkpoints" / step / "pretrained_model")
    newest = tmp_path / "run" / "checkpoints" / "000200" / "pretrained_model"
    for place in (tmp_path / "run", tmp_path / "run" / "checkpoints", newest.parent, newest / "config.json"):
        with pytest.raises(PolicyError) as caught:
            check(f"lerobot:{place}")
        assert str(caught.value).endswith(f"lerobot:{newest}")
    check(f"lerobot:{newest}")


@pytest.mark.parametrize("name", ["model.safetensors", "policy_preprocessor_step_3_normalizer_processor.safetensors"])
def test_a_file_that_git_lfs_has_not_fetched_is_called_a_pointer(tmp_path: Path, name: str) -> None:
    folder = checkpoint(tmp_path / "lfs")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9354050752\n")
    with pytest.raises(PolicyError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        check(f"lerobot:{folder}")


def test_the_scripted_expert_says_which_suites_it_can_do() -> None:
    info = POLICIES.stated_info(parse_policy("scripted"))
    assert info is not None
    for suite in ("libero_spatial", "libero_object", "libero_spatial_swap"):
        require_able("scripted", info, {suite: None})
    for suite in ("libero_goal", "libero_10", "libero_spatialx"):
        with pytest.raises(UsageError, match=f"cannot do suite '{suite}'; it can do libero_spatial, libero_object"):
            require_able("scripted", info, {"libero_spatial": None, suite: None})


def test_nobody_is_asked_over_a_network_or_built_in_torch_to_say_what_it_can_do() -> None:
    assert POLICIES.stated_info(parse_policy("openpi://nowhere:1")) is None
    assert POLICIES.stated_info(parse_policy("flow")) is None


def test_tasks_control_modes_and_cameras_are_part_of_what_a_policy_can_do() -> None:
    info = PolicyInfo("p", suites=("libero_goal",), tasks=(("libero_goal", 1), ("libero_goal", 4)))
    require_able("p", info, {"libero_goal": (1,)})
    with pytest.raises(UsageError, match=r"cannot do tasks 2 of suite 'libero_goal'; it can do 1, 4"):
        require_able("p", info, {"libero_goal": (1, 2)})
    with pytest.raises(UsageError, match="cannot do tasks all"):
        require_able("p", info, {"libero_goal": None})
    with pytest.raises(UsageError, match="control mode 'relative', but the protocol says 'absolute'"):
        require_able("p", PolicyInfo("p"), {}, LIBERO_ACTIONS["absolute"])
    with pytest.raises(UsageError, match="Did you mean 'agentview'"):
        require_able("p", PolicyInfo("p", cameras=("agentviev",)), {})


@pytest.mark.parametrize(
    ("options", "asked", "told"),
    [
        ((), 1, "has no denoising loop, so it cannot run at NFE 1"),
        ((1, 4), 2, "does not run at NFE 2; it offers 1, 4"),
        (tuple(range(1, 101)), 0, "it offers 1 to 100"),
        (ANY_NFE, 0, "any of at least 1"),
        (ANY_NFE, -1, "any of at least 1"),
    ],
)
def test_an_nfe_that_a_policy_does_not_offer_is_refused(options: tuple[int, ...], asked: int, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        PolicyInfo("p", nfe_options=options, default_nfe=5).resolve_nfe(asked)


def test_an_nfe_that_is_offered_is_taken_and_none_is_the_policys_own() -> None:
    assert PolicyInfo("p", nfe_options=ANY_NFE, default_nfe=5).resolve_nfe(7) == 7
    assert PolicyInfo("p", nfe_options=(1, 4), default_nfe=4).resolve_nfe(None) == 4
    assert PolicyInfo("p").resolve_nfe(None) is None


def test_frames_of_another_size_than_declared_are_warned_of() -> None:
    info = PolicyInfo("p", frame_size=(128, 128))
    told = frame_warning(info, 256)
    assert told is not None
    assert "declares frames of 128×128 pixels, the protocol renders 256×256" in told
    assert frame_warning(info, 128) is None
    assert frame_warning(PolicyInfo("p"), 256) is None

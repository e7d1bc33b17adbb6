"""Specification of the `flow` policy."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.errors import PolicyError, UsageError
from harness.policies.base import Policy, TimedPolicy
from harness.policies.registry import make_policy
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import CAMERAS, Observation, PreviousChunk
from harness.spec.policy import PolicySpec, parse_policy

torch = pytest.importorskip("torch")

from harness.policies.flow import FlowConfig, FlowPolicy, make, random_network, tokenize  # noqa: E402

CPU = "flow?weights=random&device=cpu"


@pytest.fixture(scope="module")
def policy() -> FlowPolicy:
    return make(parse_policy(CPU))


def observation(seed: int, *, size: int = 256, instruction: str = "pick up the black bowl") -> Observation:
    rng = np.random.default_rng(seed)
    images = {camera: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for camera in CAMERAS}
    return Observation(instruction, rng.standard_normal(8).astype(np.float32), images)


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 10, 7)).astype(np.float32)


def test_the_registry_builds_a_timed_policy_that_declares_what_it_consumes() -> None:
    policy = make_policy(parse_policy(CPU))
    assert isinstance(policy, Policy)
    assert isinstance(policy, TimedPolicy)
    assert policy.info.cameras == CAMERAS
    assert (policy.info.chunk_length, policy.info.replan_interval, policy.info.noise_shape) == (10, 10, (10, 7))
    assert (policy.info.default_nfe, policy.info.placement, policy.info.dtype) == (10, "server", "float32")


def test_a_chunk_of_ten_actions_within_the_action_range_answers_each_observation(policy: FlowPolicy) -> None:
    actions = policy.act([observation(0), observation(1)], noise(2)).actions
    assert actions.shape == (2, 10, 7)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0


def test_it_has_at_most_five_million_parameters(policy: FlowPolicy) -> None:
    assert sum(parameter.numel() for parameter in policy.network.parameters()) <= 5_000_000


def test_the_answer_depends_on_nothing_but_observation_and_noise(policy: FlowPolicy) -> None:
    first = policy.act([observation(0)], noise(1)).actions
    torch.manual_seed(123)
    policy.act([observation(5)], noise(1, seed=9))
    np.testing.assert_array_equal(policy.act([observation(0)], noise(1)).actions, first)
    assert not np.allclose(policy.act([observation(0)], noise(1, seed=1)).actions, first, atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        observation(1),
        Observation("open the middle drawer", observation(0).state, observation(0).images),
        Observation("pick up the black bowl", observation(1).state, observation(0).images),
        Observation("pick up the black bowl", observation(0).state, {**observation(1).images}),
        Observation(
            "pick up the black bowl",
            observation(0).state,
            dict(zip(CAMERAS, reversed(list(observation(0).images.values())), strict=True)),
        ),
    ],
    ids=["everything", "instruction", "state", "images", "cameras swapped"],
)
def test_every_input_reaches_the_actions(policy: FlowPolicy, other: Observation) -> None:
    base = policy.act([observation(0)], noise(1)).actions
    assert np.abs(policy.act([other], noise(1)).actions - base).max() > 1e-4


def test_a_batch_of_any_size_gives_the_same_actions_as_one_at_a_time(policy: FlowPolicy) -> None:
    observations = [observation(n, instruction=f"{'open the drawer ' * n}now") for n in range(5)]
    together = policy.act(observations, noise(5)).actions
    alone = [policy.act([o], noise(5)[n : n + 1]).actions[0] for n, o in enumerate(observations)]
    np.testing.assert_allclose(together, np.stack(alone), atol=2e-5)


def test_building_it_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    make(parse_policy(CPU))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_gives_the_same_weights_in_every_process(policy: FlowPolicy) -> None:
    code = (
        "from harness.policies.flow import make; from harness.spec.policy import parse_policy;"
        f"print(make(parse_policy({CPU!r})).info.checkpoint_sha256)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == policy.info.checkpoint_sha256
    assert make(parse_policy(f"{CPU}&seed=1")).info.checkpoint_sha256 != found


def test_each_component_runs_in_its_span_and_the_denoise_step_once_per_function_evaluation() -> None:
    policy = make(parse_policy(CPU))
    seen: list[str] = []

    @contextmanager
    def span(name: str) -> Iterator[None]:
        seen.append(name)
        yield

    policy.span = span
    policy.act([observation(0)], noise(1), nfe=3)
    assert seen == ["preprocess", "vision", "prefix", *["denoise_step"] * 3, "postprocess"]


def test_euler_runs_from_noise_at_one_to_actions_at_zero() -> None:
    policy = make(parse_policy(CPU))
    times: list[float] = []

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, cache: object, target: object) -> torch.Tensor:
            times.append(float(time[0]))
            return torch.full_like(x, 0.5)

    x = torch.zeros(1, 10, 7)
    policy.network.expert = Constant()  # type: ignore[assignment]
    reached = policy.integrate(x, None, 4)  # type: ignore[arg-type]
    assert times == [1.0, 0.75, 0.5, 0.25]
    assert torch.allclose(reached, torch.full_like(x, -0.5))


def test_a_saved_checkpoint_loads_to_the_same_actions_and_its_digest_is_that_of_the_file(tmp_path: Path) -> None:
    policy = make(parse_policy(f"{CPU}&seed=7"))
    policy.network.normalization.action_std.fill_(0.25)
    policy.save_pretrained(tmp_path / "checkpoint")
    loaded = make(PolicySpec(kind="flow", path=str(tmp_path / "checkpoint"), options={"device": "cpu"}))
    np.testing.assert_array_equal(
        loaded.act([observation(0)], noise(1)).actions, policy.act([observation(0)], noise(1)).actions
    )
    data = (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    assert loaded.info.stated_identity.weights == hashlib.sha256(data).hexdigest()
    assert loaded.info.checkpoint == str(tmp_path / "checkpoint")


def test_the_digest_of_random_weights_is_that_of_the_file_they_would_be_saved_as(
    policy: FlowPolicy, tmp_path: Path
) -> None:
    policy.save_pretrained(tmp_path)
    data = (tmp_path / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == policy.info.stated_identity.weights


def test_a_checkpoint_with_a_missing_an_extra_and_a_misshapen_tensor_is_refused_by_their_names(tmp_path: Path) -> None:
    make(parse_policy(CPU)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("prefix.words.weight")
    tensors["stray"] = np.zeros(1, dtype=np.float32)
    tensors["normalization.state_mean"] = np.zeros(7, dtype=np.float32)
    tensors["normalization.state_std"] = np.full(8, np.nan, dtype=np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(PolicyError) as caught:
        make(PolicySpec(kind="flow", path=str(tmp_path)))
    for part in ("missing prefix.words.weight", "unexpected stray", "state_mean is (7,), expected (8,)", "not finite"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"garbage!"), "does not parse as safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "does not parse as JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not a flow checkpoint"),
    ],
    ids=["no weights", "corrupt weights", "corrupt config", "foreign config"],
)
def test_a_broken_checkpoint_is_refused_with_its_file(tmp_path: Path, change: object, said: str) -> None:
    make(parse_policy(CPU)).save_pretrained(tmp_path)
    change(tmp_path)  # type: ignore[operator]
    with pytest.raises(PolicyError, match=re.escape(said)):
        make(PolicySpec(kind="flow", path=str(tmp_path)))


def test_a_config_with_an_unknown_key_is_refused_by_its_name(tmp_path: Path) -> None:
    make(parse_policy(CPU)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "widht": 3}))
    with pytest.raises(PolicyError, match="widht"):
        make(PolicySpec(kind="flow", path=str(tmp_path)))


@pytest.mark.parametrize("nfe", [0, -1])
def test_an_nfe_below_one_is_refused(policy: FlowPolicy, nfe: int) -> None:
    with pytest.raises(UsageError, match=f"at NFE {nfe}; it offers any of at least 1"):
        policy.act([observation(0)], noise(1), nfe=nfe)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flow?dtype=float16", "float16"),
        ("flow?device=tpu", "tpu"),
        ("flow?steps=3", "steps"),
        ("flow?weights=random&seed=x", "'x'"),
        ("flow:/nowhere/at/all", "/nowhere/at/all"),
        ("flow:/nowhere?seed=1", "seed is for random weights"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value(text: str, said: str) -> None:
    with pytest.raises((UsageError, PolicyError), match=said):
        make(parse_policy(text))


@pytest.mark.parametrize("wrong", [None, np.zeros((1, 9, 7), dtype=np.float32)], ids=["absent", "of another shape"])
def test_noise_that_is_not_one_chunk_per_observation_is_refused(policy: FlowPolicy, wrong: np.ndarray | None) -> None:
    with pytest.raises(PolicyError, match="noise"):
        policy.act([observation(0)], wrong)


def test_an_observation_without_a_camera_is_refused_by_the_camera(policy: FlowPolicy) -> None:
    blind = Observation("x", np.zeros(8, dtype=np.float32), {"agentview": observation(0).images["agentview"]})
    with pytest.raises(PolicyError, match="robot0_eye_in_hand"):
        policy.act([blind], noise(1))


@pytest.mark.parametrize("size", [128, 256, 384, 200])
def test_frames_of_any_size_are_averaged_down_without_moving_the_picture(policy: FlowPolicy, size: int) -> None:
    image = np.zeros((size, size, 3), dtype=np.uint8)
    image[: size // 2] = 255
    half = Observation("x", np.zeros(8, dtype=np.float32), dict.fromkeys(CAMERAS, image))
    pixels = policy.preprocess([half]).images
    assert pixels.shape == (1, 2, 3, 128, 128)
    assert pixels[..., :63, :].min() == 1.0
    assert pixels[..., 65:, :].max() == 0.0


def test_bfloat16_weights_keep_the_statistics_in_float32_and_the_actions_near() -> None:
    low, high = make(parse_policy(f"{CPU}&dtype=bfloat16")), make(parse_policy(CPU))
    assert low.network.normalization.action_std.dtype == torch.float32
    assert low.info.dtype == "bfloat16"
    error = low.act([observation(0)], noise(1)).actions - high.act([observation(0)], noise(1)).actions
    assert np.abs(error).mean() < 0.05


def test_words_hash_to_the_same_rows_whatever_their_case_and_punctuation() -> None:
    rows = tokenize("Pick up the black bowl.", 8, 1024)
    np.testing.assert_array_equal(rows, tokenize("pick up  the BLACK bowl", 8, 1024))
    assert list(rows[5:]) == [0, 0, 0]
    assert len(set(rows[:5])) == 5


@pytest.mark.skipif(find_spec("libero") is None, reason="LIBERO is not installed")
def test_every_word_of_liberos_instructions_has_a_row_of_its_own_and_no_instruction_is_cut() -> None:
    spec = find_spec("libero")
    assert spec is not None
    words: set[str] = set()
    longest = 0
    for root in spec.submodule_search_locations or []:
        for file in Path(root).rglob("*.bddl"):
            match = re.search(r"\(:language (.*?)\)", file.read_text())
            if match:
                found = re.findall(r"[a-z0-9]+", match.group(1).lower())
                words.update(found)
                longest = max(longest, len(found))
    assert len(words) > 50
    assert len({int(tokenize(word, 1, 1024)[0]) for word in words}) == len(words)
    assert longest <= 32


def test_training_can_overfit_a_single_chunk() -> None:
    small = FlowConfig(image_size=32, channels=(16, 16, 32), width=48, heads=2, layers=2, prefix_mlp=96, expert_mlp=96)
    policy = FlowPolicy(random_network(small, seed=0), device="cpu")
    network = policy.network.requires_grad_(True).train()
    batch = policy.preprocess([observation(0, size=64)])
    target, generator = torch.full((1, 10, 7), 0.3), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(60):
        time = torch.rand(1, generator=generator) * 0.999 + 0.001
        eps = torch.randn(1, 10, 7, generator=generator)
        noisy = (1 - time)[:, None, None] * target + time[:, None, None] * eps
        loss = (network(batch, noisy, time) - (eps - target)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_gives_the_cpus_actions(dtype: str) -> None:
    cuda, cpu = make(parse_policy(f"flow?device=cuda&dtype={dtype}")), make(parse_policy("flow?device=cpu"))
    error = cuda.act([observation(0)], noise(1)).actions - cpu.act([observation(0)], noise(1)).actions
    assert np.abs(error).mean() < (1e-2 if dtype == "float32" else 0.05)


def test_the_identity_says_which_part_of_a_checkpoint_differs(tmp_path: Path) -> None:
    def loaded(name: str, change: Callable[[FlowPolicy], None]) -> PolicyIdentity:
        policy = make(parse_policy(f"{CPU}&seed=7"))
        change(policy)
        policy.save_pretrained(tmp_path / name)
        return make(parse_policy(f"flow:{tmp_path / name}?device=cpu")).info.stated_identity

    def same(policy: FlowPolicy) -> None:
        del policy

    base = loaded("base", same)
    assert base.whole
    assert base == loaded("copy", same)
    other = loaded("weights", lambda policy: policy.network.expert.action_in.weight.data.add_(1.0))
    assert base.compare(other).differ == ("weights",)
    # Statistics lie in the weights file, whose digest changes too.
    other = loaded("statistics", lambda policy: policy.network.normalization.action_mean.add_(5.0))
    assert base.compare(other).differ == ("weights", "statistics")
    config = tmp_path / "copy" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "replan_interval": 1}))
    other = make(parse_policy(f"flow:{tmp_path / 'copy'}?device=cpu")).info.stated_identity
    assert base.compare(other).differ == ("configuration",)


def test_prepared_observations_are_answered_bit_by_bit_alike_and_mix_with_others(policy: FlowPolicy) -> None:
    observations = [observation(k, instruction=f"put bowl {k} there") for k in range(3)]
    expected = policy.act(observations, noise(3), nfe=2).actions
    prepared = [policy.prepare(each) for each in observations]
    # What was prepared is not read again.
    blank = [replace(each, images=dict.fromkeys(each.images), instruction="") for each in prepared]
    for given in (prepared, blank, [observations[0], *blank[1:]]):
        np.testing.assert_array_equal(policy.act(given, noise(3), nfe=2).actions, expected)
    bare = replace(observations[0], images={})
    assert policy.prepare(bare) is bare


class Replays:
    """Records on a CPU: a replay runs the work again on the recorded arguments and overwrites the recorded answer."""

    def __init__(self) -> None:  # noqa: D107
        self.recorded = 0

    def warm(self, work: Callable[[], object]) -> None:
        work()

    def record(self, work: Callable[[], object]) -> tuple[object, Callable[[], None]]:
        self.recorded += 1
        answer = work()

        def replay() -> None:
            for old, new in zip(tensors(answer), tensors(work()), strict=True):
                old.copy_(new)

        for tensor in tensors(answer):
            tensor.zero_()
        return answer, replay


def tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    assert isinstance(value, torch.Tensor)
    return [value]


def continuing(observations: list[Observation], chunks: np.ndarray) -> list[Observation]:
    """The observations a little later, each with less left of its chunk than the one before."""
    return [
        replace(seen, previous=PreviousChunk(old[k + 1 :], k))
        for k, (seen, old) in enumerate(zip(observations, chunks, strict=True))
    ]


@pytest.mark.parametrize("name", ["flow", "flow:student"])
def test_replayed_parts_answer_bit_by_bit_as_called_ones_and_are_recorded_once_per_batch_size(name: str) -> None:
    spec = parse_policy(f"{name}?device=cpu")
    called, replayed, recorder = make(spec), make(spec), Replays()
    replayed.use_graphs(recorder)
    sizes = (2, 1, 2)
    for seed, n in enumerate(sizes):
        observations = [observation(10 * seed + k) for k in range(n)]
        for nfe in (1, 3):
            expected = called.act(observations, noise(n, seed), nfe=nfe).actions
            np.testing.assert_array_equal(replayed.act(observations, noise(n, seed), nfe=nfe).actions, expected)
            held = continuing(observations, expected)
            continued = called.act(held, noise(n, seed + 9), nfe=nfe).actions
            np.testing.assert_array_equal(replayed.act(held, noise(n, seed + 9), nfe=nfe).actions, continued)
    # Vision and prefix; the denoise step, of which one that jumps to the end is another; and the same two guided.
    assert recorder.recorded == 2 * (2 + 2 + 2)
    assert (replayed.records_sizes, called.records_sizes) == (True, False)
    assert replayed.provenance == {"compile": "eager+graphs"}
    replayed.drop_graphs()
    assert not replayed.records_sizes


def test_graphs_on_a_cpu_are_refused() -> None:
    with pytest.raises(UsageError, match="graphs needs a CUDA device"):
        make(parse_policy(f"{CPU}&graphs=true"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("n", [1, 4])
def test_cuda_graphs_answer_bit_by_bit_as_kernels_one_by_one(n: int) -> None:
    eager, graphed = make(parse_policy("flow?device=cuda")), make(parse_policy("flow?device=cuda&graphs=true"))
    for seed in range(3):
        observations = [observation(10 * seed + k) for k in range(n)]
        expected = eager.act(observations, noise(n, seed), nfe=10).actions
        np.testing.assert_array_equal(graphed.act(observations, noise(n, seed), nfe=10).actions, expected)
        held = continuing(observations, expected)
        continued = eager.act(held, noise(n, seed + 9), nfe=10).actions
        np.testing.assert_array_equal(graphed.act(held, noise(n, seed + 9), nfe=10).actions, continued)

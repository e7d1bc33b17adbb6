"""Small random LeRobot checkpoints, saved by LeRobot itself: the real classes at patched widths."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lerobot_small import INSTRUCTIONS, SMALL, statistics

from harness.policies.lerobot import processors, standins
from harness.policies.lerobot.build import build
from harness.policies.lerobot.policy import LeRobotPolicy
from harness.spec.policy import PolicySpec

VOCABULARY = 128


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _narrow(config: Any) -> Any:
    """Shrink what LeRobot hard-codes in its PaliGemma configurations."""
    text = getattr(config, "text_config", config)
    text.vocab_size = VOCABULARY
    if hasattr(config, "vision_config"):
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = 32, 64
        vision.num_hidden_layers, vision.num_attention_heads = 1, 2
        vision.projection_dim = text.hidden_size
        config.projection_dim = text.hidden_size
    return config


def _narrow_smolvlm() -> Any:
    from transformers import CONFIG_MAPPING

    text = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": VOCABULARY,
        "pad_token_id": 2,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    return CONFIG_MAPPING["smolvlm"](text_config=text, vision_config=vision, scale_factor=2, image_token_id=5)


def narrow_lerobot(monkeypatch: pytest.MonkeyPatch, tokenizer: Path) -> None:
    """Patch LeRobot's architectures to widths that a test can afford; everything else is the real code."""
    from lerobot.policies.pi0 import modeling_pi0
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.policies.smolvla import smolvlm_with_expert
    from lerobot.processor import tokenizer_processor
    from transformers import AutoTokenizer

    def gemma(variant: str) -> SimpleNamespace:
        width = {"gemma_2b": 64, "gemma_300m": 32}[variant]
        return SimpleNamespace(width=width, depth=2, mlp_dim=64, num_heads=8, num_kv_heads=1, head_dim=16)

    for module in (modeling_pi0, modeling_pi05):
        monkeypatch.setattr(module, "get_gemma_config", gemma)
        for name in ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM"):
            real = getattr(module, name)
            monkeypatch.setattr(module, name, lambda config, real=real: real(_narrow(config)))
    processor = SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=3, global_image_token_id=4))
    monkeypatch.setattr(standins, "smolvlm_config", _narrow_smolvlm)
    monkeypatch.setattr(processors, "PALIGEMMA_VOCABULARY", VOCABULARY)
    monkeypatch.setattr(processors, "SMOLVLM_VOCABULARY", VOCABULARY)
    for name, answer in (("AutoConfig", _narrow_smolvlm), ("AutoProcessor", lambda: processor)):
        monkeypatch.setattr(
            smolvlm_with_expert, name, SimpleNamespace(from_pretrained=lambda *a, answer=answer, **k: answer())
        )
    # The hub's tokenizers are gated; every name is answered by the small local one.
    local = SimpleNamespace(from_pretrained=lambda *a, **k: AutoTokenizer.from_pretrained(str(tokenizer)))
    monkeypatch.setattr(tokenizer_processor, "AutoTokenizer", local)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch, tokenizer: Path) -> None:
    """LeRobot at small widths, for one test."""
    narrow_lerobot(monkeypatch, tokenizer)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, tiny, trained tokenizer in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    model = Tokenizer(models.BPE(unk_token=special["unk_token"]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(special.values()))
    model.train_from_iterator([*INSTRUCTIONS, "Task: State: 0123456789 ;\nAction: "], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)
    return folder


Save = Callable[..., Path]


def write_checkpoint(
    folder: Path, tokenizer: Path, policy_type: str, *, seed: int = 1, size: int = 64, **changes: Any
) -> Path:
    """Save a small random policy and its processors as LeRobot saves them.

    Args:
        folder: Where to.
        tokenizer: Folder of the tokenizer that the preprocessor names.
        policy_type: LeRobot's name of the type.
        seed: Of the weights.
        size: Declared frame size, pixels.
        **changes: Fields of the configuration that differ from `SMALL`.
    """
    import lerobot.policies  # noqa: F401
    from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
    from lerobot.policies import get_policy_class, make_pre_post_processors

    frame = PolicyFeature(FeatureType.VISUAL, (3, size, size))
    inputs = {f"observation.images.{key}": frame for key in ("image", "image2")}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (8,))
    features = {"input_features": inputs, "output_features": {"action": PolicyFeature(FeatureType.ACTION, (7,))}}
    config_class = PreTrainedConfig.get_choice_class(policy_type)
    config = config_class(device="cpu", **{**features, **SMALL[policy_type], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = get_policy_class(policy_type)(config)
        # LeRobot zero-initialises parts (adaptive norms, ACT's queries); a trained checkpoint has no zeros.
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
    policy.save_pretrained(folder)
    pre, post = make_pre_post_processors(config, dataset_stats=statistics())
    for step in pre.steps:
        if hasattr(step, "tokenizer_name"):
            step.tokenizer_name = str(tokenizer)
    pre.save_pretrained(folder)
    post.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saved() -> dict[str, Path]:
    """Checkpoints that a test of this process has written before: type and changes → folder."""
    return {}


@pytest.fixture
def save(
    narrow: None,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer: Path,
    saved: dict[str, Path],
) -> Callable[..., Path]:
    """Write a small checkpoint of a policy type, once, and copy it for each test; see `write_checkpoint`."""

    def write(policy_type: str, **changes: Any) -> Path:
        key = f"{policy_type} {sorted(changes.items())!r}"
        if key not in saved:
            saved[key] = write_checkpoint(tmp_path_factory.mktemp(policy_type), tokenizer, policy_type, **changes)
        return shutil.copytree(saved[key], tmp_path / policy_type, dirs_exist_ok=True)

    return write


def load_policy(path: Path | str, **options: Any) -> LeRobotPolicy:
    """Load a policy on the CPU through the factory, by path and options."""
    return build(PolicySpec(kind="lerobot", path=str(path), options={"device": "cpu", **options}))


@pytest.fixture
def load(narrow: None) -> Callable[..., LeRobotPolicy]:
    """Load a policy; see `load_policy`."""
    return load_policy

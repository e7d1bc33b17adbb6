"""What LeRobot fetches from the hub even for random weights, answered locally: tokenizers and SmolVLM's config."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

PALIGEMMA_VOCABULARY = 257_152
SMOLVLM_VOCABULARY = 49_280
RESERVED = 3
"""Token ids below this are padding, begin and end."""


class WordTokenizer:
    """A tokenizer without a vocabulary: a word's id is its CRC-32. For latency and for tests, never for a score."""

    def __init__(self, vocabulary: int) -> None:
        """Hash words into ids below `vocabulary`."""
        self.vocabulary = vocabulary

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        max_length: int,
        padding: str = "max_length",
        padding_side: str = "right",
        truncation: bool = True,
        return_tensors: str = "pt",
    ) -> dict[str, Tensor]:
        """Tokenize as LeRobot's `TokenizerProcessorStep` calls it.

        Returns:
            "input_ids" and "attention_mask", int64, shape (B, `max_length`, or the longest text's length).
        """
        del truncation, return_tensors
        rows = [self._ids(line)[:max_length] for line in ([text] if isinstance(text, str) else text)]
        length = max_length if padding == "max_length" else max(map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            place = slice(length - len(row), length) if padding_side == "left" else slice(0, len(row))
            ids[n, place] = torch.tensor(row)
            mask[n, place] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def _ids(self, text: str) -> list[int]:
        # Digits one by one, as PaliGemma's tokenizer splits the state that Pi0.5 writes into its prompt.
        words = re.findall(r"\d|[^\W\d]+|[^\w\s]|\n", text)
        return [RESERVED + zlib.crc32(word.encode()) % (self.vocabulary - RESERVED) for word in words]


def smolvlm_config() -> Any:
    """Configuration of SmolVLM2-500M-Video-Instruct, SmolVLA's backbone.

    Source: the model card's config; SmolVLA built from it has 450,046,176 parameters, as published.
    """
    from transformers import CONFIG_MAPPING

    text = {
        "model_type": "llama",
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
        "vocab_size": SMOLVLM_VOCABULARY,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    }
    config_class: Any = CONFIG_MAPPING["smolvlm"]
    return config_class(
        text_config=text, vision_config=vision, scale_factor=4, image_token_id=49_190, tie_word_embeddings=False
    )


def smolvlm_processor() -> Any:
    """The two token ids that SmolVLA reads of its processor."""
    return SimpleNamespace(tokenizer=SimpleNamespace(fake_image_token_id=49_189, global_image_token_id=49_152))


@contextmanager
def without_hub(vocabulary: int) -> Iterator[None]:
    """Let LeRobot build policies and processors without the hub, with a `WordTokenizer` of `vocabulary` ids.

    LeRobot hard-codes the names it fetches, so their loaders are replaced in its own modules for the time of the block.
    """
    from lerobot.policies.smolvla import smolvlm_with_expert
    from lerobot.processor import tokenizer_processor

    with ExitStack() as stack:
        stack.enter_context(_replaced(tokenizer_processor, "AutoTokenizer", lambda: WordTokenizer(vocabulary)))
        stack.enter_context(_replaced(smolvlm_with_expert, "AutoConfig", smolvlm_config))
        stack.enter_context(_replaced(smolvlm_with_expert, "AutoProcessor", smolvlm_processor))
        yield


@contextmanager
def _replaced(module: Any, name: str, make: Callable[[], Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, SimpleNamespace(from_pretrained=lambda *args, **kwargs: make()))
    try:
        yield
    finally:
        setattr(module, name, before)

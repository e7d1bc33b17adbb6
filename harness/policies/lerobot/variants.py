"""Faster ways to run the same policy: precision of the vision tower, int8, merged cameras, graphs, compilation.

Each changes how a policy computes and some change what it answers, so a probe measures the difference beside the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.errors import UsageError
from harness.policies.graphs import CudaRecorder, GraphPool, Recorder
from harness.policies.lerobot.families import Family, Site
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.spans import resolve
from harness.policies.quantize import quantize

ModelPart = Callable[..., Any]


def apply_variant(policy: Any, family: Family, options: LerobotOptions, device: torch.device) -> None:
    """Change a loaded policy in place; without any of the options nothing is touched.

    Args:
        policy: The LeRobot policy, on its device.
        family: What is known of the checkpoint's policy type.
        options: `quantize`, `vision`, `merge_cameras`, `graphs`, `compile` with `compile_scope` "parts".
        device: Torch device that the policy lies on.

    Raises:
        UsageError: An option that this type or device does not take.
        PolicyError: torchao is missing, or the policy has another layout than was read.
    """
    if options.quantize is not None:
        dead = tuple(family.dead)
        quantize(policy, options.quantize, lambda name: not (dead and f"{name}.".startswith(dead)))
    if options.vision in ("bfloat16", "float16"):
        for path in _tower(family, "vision"):
            resolve(policy, path).to(getattr(torch, options.vision))
    if options.merge_cameras:
        _tower(family, "merge_cameras")
        merge_cameras(policy, family)
    if options.compile is not None and options.compile_scope == "parts":
        _require_sites(family, "compile_scope")
        wrap_parts(policy, family, lambda part, site: torch.compile(part, mode=options.compile, dynamic=False))
    if options.graphs:
        _require_sites(family, "graphs")
        if options.compile is not None and options.compile_scope == "sampler":
            raise UsageError(
                "lerobot: graphs replays parts, so compile has to keep them apart; add compile_scope=parts."
            )
        if device.type != "cuda":
            raise UsageError(f"lerobot: graphs needs a CUDA device, and {family.type} runs on {device}; remove graphs.")
        record_parts(policy, family, CudaRecorder(device))
    if options.vision in ("float32", "tf32") and device.type == "cuda":
        set_products(policy, family, tf32=options.vision == "tf32")


def wrap_parts(policy: Any, family: Family, wrap: Callable[[ModelPart, Site], ModelPart]) -> None:
    """Replace each component's callable; a callable that serves prefix and suffix is replaced for the prefix alone."""
    for site in family.sites:
        owner_path, _, name = site.path.rpartition(".")
        owner = resolve(policy, owner_path) if owner_path else policy
        inner = resolve(owner, name)
        setattr(owner, name, _prefix_only(inner, wrap(inner, site)) if site.prefix_only else wrap(inner, site))


def record_parts(policy: Any, family: Family, recorder: Recorder) -> GraphPool:
    """Replay each component from a recording."""
    pool = GraphPool(recorder)
    wrap_parts(policy, family, lambda part, site: pool.graphed(part, f"{family.type}'s {site.span}"))
    return pool


def _prefix_only(inner: ModelPart, changed: ModelPart) -> ModelPart:
    def call(*args: Any, **kwargs: Any) -> Any:
        return (inner if kwargs["inputs_embeds"][1] is not None else changed)(*args, **kwargs)

    return call


def merge_cameras(policy: Any, family: Family) -> None:
    """Encode the images of all cameras in one batch: the tower's kernels are launched once, not once per camera."""
    encoder = resolve(policy, family.image_encoder)
    encode: ModelPart = encoder.embed_image
    path = next(site.path for site in family.sites if site.span == "vision")
    owner_path, _, name = path.rpartition(".")
    owner = resolve(policy, owner_path)
    embed_prefix: ModelPart = resolve(owner, name)

    def merged(images: list[Tensor], *args: Any, **kwargs: Any) -> Any:
        features = iter(encode(torch.cat(list(images))).chunk(len(images)))
        with _replaced(encoder, "embed_image", lambda image: next(features)):
            return embed_prefix(images, *args, **kwargs)

    setattr(owner, name, merged)


def set_products(policy: Any, family: Family, *, tf32: bool) -> None:
    """Compute the float32 products of the vision tower with or without TF32, whatever the rest does."""
    _tower(family, "vision")

    def wrap(part: ModelPart, site: Site) -> ModelPart:
        if site.span != "vision":
            return part

        def call(*args: Any, **kwargs: Any) -> Any:
            with (
                _replaced(torch.backends.cuda.matmul, "allow_tf32", tf32),
                _replaced(torch.backends.cudnn, "allow_tf32", tf32),
            ):
                return part(*args, **kwargs)

        return call

    wrap_parts(policy, family, wrap)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _tower(family: Family, option: str) -> tuple[str, ...]:
    if not family.tower:
        raise UsageError(f"lerobot: {option} is for policies with a vision tower of their own; {family.type} has none.")
    return family.tower


def _require_sites(family: Family, option: str) -> None:
    if not family.sites:
        raise UsageError(f"lerobot: {option} needs the parts of a policy, and those of {family.type} are not known.")

"""Models in memory: built at random, or loaded by LeRobot and then proved to hold the checkpoint's values."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot import snapflow
from harness.policies.lerobot.families import Family
from harness.policies.lerobot.hub import WEIGHTS_FILE, Checkpoint, first_line
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.standins import SMOLVLM_VOCABULARY, without_hub
from harness.policies.lerobot.weights import verify


@dataclass(slots=True)
class Loaded:
    """A LeRobot policy in memory."""

    policy: Any
    sha256: str = ""
    """Digest of the weights file; empty for random weights."""
    weights: str = ""
    """What is known of the weights, for the record."""
    target_time: snapflow.TargetTime | None = None
    """Handle of the SnapFlow head, when there is one."""
    head: str = ""
    """Where the head's values are from; empty without one."""
    warnings: tuple[str, ...] = ()


def build_random(config: Any, family: Family, options: LerobotOptions, label: str) -> Loaded:
    """Build a policy with weights from `options.seed`, directly on its device; the global generators are left alone.

    Raises:
        PolicyError: It does not fit into memory, or needs a package that is not here.
    """
    device = torch.device(config.device)
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), memory_guard(label, config.device):
        torch.manual_seed(options.seed)
        # On the device itself: a CPU takes minutes to draw billions of values.
        with without_hub(SMOLVLM_VOCABULARY), device, contextlib.redirect_stdout(io.StringIO()), _products_kept():
            policy = policy_class(family.type)(config)
        open_gates(policy)
        loaded = Loaded(policy, weights=f"random, seed {options.seed}")
        if options.snapflow:
            loaded.target_time, loaded.head = snapflow.attach(policy.model), "zero initialisation"
    _finish(policy, family, options)
    return loaded


@contextlib.contextmanager
def _products_kept() -> Iterator[None]:
    """Restore the precision of float32 products, which LeRobot lowers for the whole process where it compiles a policy.

    What a policy computes at is set around each of its calls (`LeRobotPolicy._numerics`); left lowered, the next policy
    of the process would be another one than in a process of its own.
    """
    before = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def open_gates(policy: Any) -> None:
    """Let every layer of a random policy contribute to its answer.

    Pi0.5's adaptive norms gate each layer's output, and start with gates of nearly zero: then another observation moves
    the answer by a thousandth, and no comparison of answers would notice that a variant breaks the prefix.
    """
    for module in policy.modules():
        if getattr(module, "cond_dim", None) is not None and getattr(module, "dense", None) is not None:
            with torch.no_grad():
                module.dense.bias[2 * module.dim :] = 1.0


def load_checkpoint(
    config: Any, family: Family, options: LerobotOptions, label: str, checkpoint: Checkpoint, names: Sequence[str]
) -> Loaded:
    """Load with LeRobot's own loader, which swallows its errors, and compare every tensor with the file afterwards.

    Args:
        config: The configuration to build.
        family: What is known of the checkpoint's policy type.
        options: `snapflow` and `dtype` matter here.
        label: Name of the policy, for messages.
        checkpoint: Where the weights are.
        names: Tensors in the file.

    Raises:
        PolicyError: Not loaded whole, out of memory, or a backbone that cannot be fetched.
    """
    path = checkpoint.folder / WEIGHTS_FILE
    head = snapflow.head_names(names) if family.type == "pi05" else {}
    attach = bool(head) if options.snapflow is None else options.snapflow
    loaded = Loaded(None)
    said = io.StringIO()
    with memory_guard(label, config.device), contextlib.redirect_stdout(said):
        skip = without_initialisation() if family.tested else contextlib.nullcontext()
        with torch.random.fork_rng(devices=[]), skip, _products_kept():
            build = policy_class(family.type).from_pretrained
            loaded.policy = build(str(checkpoint.folder), config=config, strict=False)
        if attach:
            loaded.target_time, loaded.head = _attach_head(loaded.policy.model, path, head)
    _finish(loaded.policy, family, options)
    try:
        report = verify(
            loaded.policy,
            path,
            expected_sha256=checkpoint.weights_sha256,
            may_ignore=head.values() if not attach else (),
            may_lack=snapflow.HEAD_TENSORS if attach and not head else (),
            rename=head if attach else None,
        )
    except PolicyError as error:
        reasons = [line for line in said.getvalue().splitlines() if line.lower().startswith(("warning", "could not"))]
        raise PolicyError(f"{error} LeRobot said: {reasons[0]}" if reasons else str(error)) from error
    loaded.sha256, loaded.weights = report.sha256, f"verified, {report.tensors} tensors"
    if attach and not head:
        loaded.warnings = ("The checkpoint has no SnapFlow head: it is zero, and NFE 1 is the naive single step.",)
    if head and not attach:
        loaded.warnings = ("The checkpoint has a SnapFlow head, which snapflow=false leaves out.",)
    return loaded


@contextlib.contextmanager
def without_initialisation() -> Iterator[None]:
    """Build modules without drawing the random values that a checkpoint is about to replace.

    Drawing them is most of the time of a load (SmolVLA on one core: 11 s against 0.15 s). That none of them stays is
    proved afterwards, tensor by tensor. PyTorch's initialisers and transformers' copies of them are replaced for the
    time of the block.
    """
    from transformers.initialization import TORCH_INIT_FUNCTIONS

    def leave(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return tensor

    names = [name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(torch.nn.init, name, leave))
        stack.enter_context(mock.patch.dict(TORCH_INIT_FUNCTIONS, dict.fromkeys(TORCH_INIT_FUNCTIONS, leave)))
        yield


def _attach_head(model: Any, path: Path, head: dict[str, str]) -> tuple[snapflow.TargetTime, str]:
    """Attach the head, with the checkpoint's values where it has them."""
    from safetensors import safe_open

    if not head:
        return snapflow.attach(model), "zero initialisation"
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(source) for name, source in head.items()}
    target_time = snapflow.attach(model, hidden=tensors[f"model.{snapflow.HEAD[0]}.weight"].shape[0])
    with torch.no_grad():
        for name, tensor in tensors.items():
            model.get_parameter(name.removeprefix("model.")).copy_(tensor)
    return target_time, "checkpoint"


def _finish(policy: Any, family: Family, options: LerobotOptions) -> None:
    policy.requires_grad_(False).eval()
    if options.dtype is None or family.dtype_field is not None:
        return
    dtype, found = getattr(torch, options.dtype), next(policy.parameters()).dtype
    if family.type == "smolvla":
        # What LeRobot itself does when it loads the backbone's own weights: the expert stays in float32.
        policy.model.vlm_with_expert.vlm.to(dtype)
    elif dtype != found:
        raise UsageError(f"lerobot: {family.type} has no dtype setting; it runs in {found}. Remove dtype.")


def policy_class(policy_type: str) -> Any:
    """LeRobot's policy class of a type.

    Raises:
        ImportError: A package that the type needs is not installed.
    """
    from lerobot.policies.factory import get_policy_class

    return get_policy_class(policy_type)


@contextlib.contextmanager
def memory_guard(label: str, device: str) -> Iterator[None]:
    """Turn the failures of building a model into messages with a remedy.

    Raises:
        PolicyError: Out of memory, a missing package, or anything else that LeRobot raises while it builds.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(label, device) from error
    except ImportError as error:
        raise PolicyError(f"{label} needs a package that is not installed ({first_line(error)}).") from error
    except RuntimeError as error:
        if "allocate memory" in str(error) or "out of memory" in str(error).lower():
            raise _out_of_memory(label, device) from error
        raise PolicyError(f"{label} cannot be built ({first_line(error)}).") from error
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{label} cannot be built ({first_line(error)}). If it fetches a backbone from the hub, give a local copy "
            "with vlm=FOLDER."
        ) from error


def _out_of_memory(label: str, device: str) -> PolicyError:
    return PolicyError(
        f"{label} does not fit into the memory of {device}. Load it with dtype=bfloat16, on a larger device, or with "
        "device=cpu; Pi0.5 needs 9 GB in bfloat16 and 17 GB in float32."
    )

"""What can be known of a `lerobot` request before torch is imported: its options, its type, where its files are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from harness.errors import NoPolicyError, UsageError
from harness.policies.lerobot.families import FAMILIES, family_of
from harness.policies.lerobot.hub import find_local, look_up, looks_local
from harness.policies.lerobot.options import parse_options
from harness.policies.registry import PolicyRequest


def check(spec: PolicyRequest, local: bool) -> None:
    """Check a request as far as that costs neither torch nor a download.

    Args:
        spec: Path and options that were asked for.
        local: Whether the policy will be built on this machine, so that its files have to be here.

    Raises:
        UsageError: No path, an unknown type or option.
        PolicyError: There is no such folder or repository, or the hub cannot be reached and the cache has nothing.
    """
    options = parse_options(spec.options)
    path = require_path(spec)
    if options.env is not None and local:
        require_lock(options.env)
    if options.weights == "random":
        family_of(path)
        return
    refuse_type(path)
    if not local:
        return
    if looks_local(path):
        find_local(path, options.revision)
    elif find_spec("huggingface_hub") is not None:
        look_up(path, options.revision, options.redirect)


def require_lock(lock: str) -> Path:
    """The lock file.

    Raises:
        NoPolicyError: It is not there.
    """
    file = Path(lock).expanduser().absolute()
    if not file.is_file():
        raise NoPolicyError(
            f"lerobot: env is {lock!r}, and there is no such lock file; write one with `uv pip compile`."
        )
    return file


def require_path(spec: PolicyRequest) -> str:
    """The path of a request.

    Raises:
        UsageError: There is none.
    """
    if not spec.path:
        raise UsageError("lerobot needs a path: lerobot:OWNER/NAME, lerobot:FOLDER or lerobot:pi05?weights=random.")
    return spec.path


def refuse_type(path: str) -> None:
    """Refuse the name of a policy type where a checkpoint is meant.

    Raises:
        UsageError: It is one, and no folder of that name is here.
    """
    if path in FAMILIES and not Path(path).exists():
        raise UsageError(
            f"lerobot:{path} is a policy type, not a checkpoint; add ?weights=random or name a checkpoint."
        )

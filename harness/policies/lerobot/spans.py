"""Timers at the split points of LeRobot's policies: the components run unchanged, each inside its span."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from harness.errors import PolicyError
from harness.policies.lerobot.families import Site

Enter = Callable[[str], AbstractContextManager[Any]]


def resolve(root: Any, path: str) -> Any:
    """Follow a dotted path of attributes.

    Raises:
        PolicyError: The path breaks; the type of the policy has another layout than this adapter was read against.
    """
    found = root
    for name in path.split("."):
        if not hasattr(found, name):
            raise PolicyError(
                f"{type(root).__name__} has no {path!r} (stopped at {name!r}): this LeRobot lays the policy out "
                "differently from the tested version."
            )
        found = getattr(found, name)
    return found


def install(policy: Any, sites: Sequence[Site], enter: Enter) -> None:
    """Wrap each site so that a call runs inside `with enter(span)`.

    Args:
        policy: A LeRobot policy; the wrappers are attributes of its own modules, other instances keep theirs.
        sites: Methods of the model that are timed as components.
        enter: Opens a span by component name; looked up at each call, so that a probe can install its timer later.

    Raises:
        PolicyError: A site does not exist.
    """
    for site in sites:
        owner_path, _, name = site.path.rpartition(".")
        owner = resolve(policy, owner_path) if owner_path else policy
        inner = resolve(owner, name)
        # Set in the instance's own dictionary: nn.Module refuses to replace a child module by a function, but every
        # site is a method, which the class keeps.
        setattr(owner, name, _timed(inner, site, enter))


def _timed(inner: Callable[..., Any], site: Site, enter: Enter) -> Callable[..., Any]:
    @functools.wraps(inner)
    def call(*args: Any, **kwargs: Any) -> Any:
        if site.prefix_only and kwargs["inputs_embeds"][1] is not None:
            return inner(*args, **kwargs)
        with enter(site.span):
            return inner(*args, **kwargs)

    return call

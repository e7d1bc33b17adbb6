"""The Python reference: autodoc directives for every public name."""

from __future__ import annotations

import inspect

import harness


def render() -> str:
    """One directive for each name of `harness.__all__`, in that order, without the version."""
    return "\n\n".join(_directive(name) for name in harness.__all__ if not name.startswith("__"))


def _directive(name: str) -> str:
    kind = "autoclass" if inspect.isclass(getattr(harness, name)) else "autofunction"
    options = "\n   :members:" if kind == "autoclass" else ""
    return f"```{{eval-rst}}\n.. {kind}:: harness.{name}{options}\n```"

"""How a verb's help reads."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


def without_flag_types(params: list[Any]) -> list[Any]:
    """Leave the type of flags out of their help: typer writes `<bool>` behind what takes no value."""
    for param in params:
        if getattr(param, "is_bool_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class Verb(TyperCommand):
    """A command of the harness."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options, as the help shows them."""
        return without_flag_types(super().get_params(ctx))

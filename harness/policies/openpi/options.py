"""Options of an `openpi` policy, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import UsageError, unknown_name

TOKEN_ENV = "VLA_HARNESS_TOKEN"  # noqa: S105 - the name of a variable, no secret
"""Environment variable from which server and client read the token, unless they are told another."""
CONTROL_MODES = ("relative", "absolute")


@dataclass(frozen=True, slots=True)
class OpenpiOptions:
    """What may follow the `?` of `openpi://…`, or stand under `options:` in YAML."""

    token_env: str = TOKEN_ENV
    """Environment variable that holds the server's token; read where the policy is used. Never the token itself: the
    text of a policy is printed and recorded."""
    connect_s: float = 10.0
    """How long a server that does not answer yet is waited for at the start, seconds."""
    reconnect_s: float = 60.0
    """How long a decision waits for a server that was lost to come back, seconds."""
    answer_s: float = 600.0
    """How long an answer may take, seconds; openpi's servers compile during their first one. The suite's
    `limits.decision_s` holds besides."""
    replan: int | None = None
    """Replan interval, instead of the one that the server states; a server that states none is replanned every
    `DEFAULT_REPLAN` actions, as openpi's own LIBERO client does it."""
    control_mode: str = "relative"
    """Control mode of a server that states none."""


_NUMBERS = ("connect_s", "reconnect_s", "answer_s")


def parse_options(given: Mapping[str, Any]) -> OpenpiOptions:
    """Read the options of a policy spec.

    Raises:
        UsageError: Unknown option (answered with the nearest known one), or a value that the option does not take.
    """
    names = [entry.name for entry in fields(OpenpiOptions)]
    for name, value in given.items():
        if name not in names:
            raise unknown_name("option of an openpi policy", name, names)
        if name in _NUMBERS and not (_is_number(value) and value > 0):
            raise UsageError(f"openpi: {name} is {value!r}; it is a number of seconds above 0.")
    options = OpenpiOptions(**given)
    if options.replan is not None and not (type(options.replan) is int and options.replan >= 1):
        raise UsageError(f"openpi: replan is {options.replan!r}; it is an integer of at least 1.")
    if options.control_mode not in CONTROL_MODES:
        raise UsageError(f"openpi: control_mode is {options.control_mode!r}; it is one of {', '.join(CONTROL_MODES)}.")
    return options


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

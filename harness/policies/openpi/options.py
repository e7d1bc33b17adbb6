"""Options of an `openpi` policy, checked before anything is sent."""

from __future__ import annotations

from harness.policies.options import Count, PolicyOptions, Seconds
from harness.spec.observation import ControlMode

TOKEN_ENV = "VLA_HARNESS_TOKEN"  # noqa: S105 - the name of a variable, no secret
"""Environment variable from which server and client read the token, unless they are told another."""


class OpenpiOptions(PolicyOptions):
    """What may follow the `?` of `openpi://…`, or stand under `options:` in YAML."""

    token_env: str = TOKEN_ENV
    """Environment variable that holds the server's token; read where the policy is used. Never the token itself: the
    text of a policy is printed and recorded."""
    connect_s: Seconds = 10.0
    """How long a server that does not answer yet is waited for at the start, seconds."""
    reconnect_s: Seconds = 60.0
    """How long a decision waits for a server that was lost to come back, seconds."""
    answer_s: Seconds = 600.0
    """How long an answer may take, seconds; openpi's servers compile during their first one. The suite's
    `limits.decision_s` holds besides."""
    replan: Count | None = None
    """Replan interval, instead of the one that the server states; a server that states none is replanned every
    `DEFAULT_REPLAN` actions, as openpi's own LIBERO client does it."""
    control_mode: ControlMode = "relative"
    """Control mode of a server that states none."""

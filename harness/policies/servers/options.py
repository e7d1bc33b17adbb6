"""Options that every client of a policy server takes."""

from __future__ import annotations

from harness.policies.options import Count, PolicyOptions, Seconds
from harness.spec.action_space import ControlMode

TOKEN_ENV = "VLA_HARNESS_TOKEN"  # noqa: S105 - the name of a variable, no secret
"""Environment variable from which server and client read the token, unless they are told another."""


class ServerOptions(PolicyOptions):
    """What may follow the `?` of an address, or stand under `options:` in YAML."""

    connect_s: Seconds = 10.0
    """How long a server that does not answer yet is waited for at the start, seconds."""
    reconnect_s: Seconds = 60.0
    """How long a decision waits for a server that was lost to come back, seconds."""
    answer_s: Seconds = 600.0
    """How long an answer may take, seconds; some servers compile during their first one. The suite's
    `limits.decision_s` holds besides."""
    replan: Count | None = None
    """Replan interval, instead of the one that the server states or that is usual with it."""
    control_mode: ControlMode = "relative"
    """Control mode of a server that states none."""

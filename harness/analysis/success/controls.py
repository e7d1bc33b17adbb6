"""Controls: policies whose success rate is known beforehand, so that a wrong one convicts the harness or simulator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import yaml

from harness.spec.timing import SYNCHRONOUS

Role = Literal["positive", "negative"]

ROLES: dict[str, Role] = {"scripted": "positive", "noop": "negative", "random": "negative"}
"""Policy kind → what it controls for: the expert has to solve the tasks, the others must not."""

POSITIVE_MIN = 0.90
"""A positive control that solves less convicts the harness or the simulator."""

NEGATIVE_MAX = 0.05
"""A negative control that solves more convicts the harness or the simulator."""


@dataclass(frozen=True)
class ControlFault:
    """A control whose rate is impossible if harness and simulator work."""

    policy_id: str
    role: Role
    suite: str
    successes: int
    n: int
    rate: float


def positive_control(policy_id: str | None) -> bool:
    """Whether a policy's name is that of the positive control, with or without options."""
    return ROLES.get((policy_id or "").partition("?")[0]) == "positive"


def control_roles(policy_ids: Iterable[str], suites: Iterable[str | None] = ()) -> dict[str, Role]:
    """Which policies of a ledger are controls.

    Args:
        policy_ids: Policies as the ledger names them.
        suites: YAML texts of the runs' suites, whose policies state their kind beside their label; a policy that no
            suite mentions is known by its name. In the stub world nothing is a control: it hands out successes.

    Returns:
        Policy → role, for controls only.
    """
    kinds = {policy: policy.partition("?")[0] for policy in policy_ids}
    for text in suites:
        suite = yaml.safe_load(text) if isinstance(text, str) else None
        if not isinstance(suite, dict):
            continue
        for entry in suite.get("policies") or []:
            if isinstance(entry, dict) and entry.get("label") in kinds:
                kinds[entry["label"]] = "" if suite.get("world") == "stub" else str(entry.get("kind"))
    return {policy: ROLES[kind] for policy, kind in kinds.items() if kind in ROLES}


def control_faults(by_suite: pd.DataFrame, roles: dict[str, Role]) -> list[ControlFault]:
    """Controls that did what they cannot do.

    Args:
        by_suite: From `success_by_suite`; what a control does under a delay convicts nobody.
        roles: From `control_roles`.
    """
    faults = []
    for row in by_suite[by_suite["clock"] == SYNCHRONOUS].to_dict("records"):
        role, rate = roles.get(row["policy_id"]), float(row["rate"])
        # Without scored episodes the rate is NaN, and no comparison holds.
        if (role == "positive" and rate < POSITIVE_MIN) or (role == "negative" and rate > NEGATIVE_MAX):
            faults.append(
                ControlFault(row["policy_id"], role, row["suite"], int(row["successes"]), int(row["n"]), rate)
            )
    return faults

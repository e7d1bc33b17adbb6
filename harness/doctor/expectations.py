"""What a policy answers to the shipped observations, kept beside its checkpoint: as it should, and under each fault.

The answers under faults are taken when the policy is known to be well. Later one question is enough to say which of
them, if any, has happened, also of faults that cannot be undone, such as frames of too few pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.doctor.faults import FAULTS
from harness.doctor.observations import load_observations, observations_sha256, probe_noise
from harness.errors import HarnessError, PolicyError, UsageError
from harness.policies.base import Policy
from harness.rollout.actions import check_answer
from harness.spec.observation import Observation
from harness.strict_json import read_object

FILE = "probe.json"
FORMAT = 1
LENGTH = 10
"""Actions of a chunk that are kept."""
DIGITS = 5
WELL = "well"
"""Name of the answer without a fault."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """A policy's answers."""

    policy_id: str
    weights_sha256: str | None
    nfe: int | None
    answers: Mapping[str, NDArray[np.float32]]
    """`WELL` or a fault's name → actions, shape (N, T, 7)."""


def ask(policy: Policy, observations: Sequence[Observation], nfe: int | None = None) -> NDArray[np.float32]:
    """A policy's answers, one observation at a time, shape (N, T, 7), T at most `LENGTH`.

    Raises:
        PolicyError: It raises, or answers what is no array of actions.
    """
    noise = probe_noise(policy.info, len(observations))
    answers = []
    for number, seen in enumerate(observations):
        drawn = None if noise is None else noise[number : number + 1]
        try:
            answered = policy.act([seen], drawn, nfe=nfe)
        except Exception as error:
            raise PolicyError(f"{policy.info.policy_id} raised at a probe: {type(error).__name__}: {error}.") from error
        # NaN is a finding of its own.
        chunk = check_answer(policy.info, answered, 1, finite=False)
        answers.append(chunk[0, :LENGTH])
        if hasattr(policy, "end_episode"):
            policy.end_episode(seen.episode_key)
    return np.stack(answers)


def visible(policy: Policy) -> tuple[Observation, ...]:
    """The shipped observations, of which every policy may see all but object poses.

    Raises:
        PolicyError: The policy reads object poses, which the shipped observations lack.
    """
    if policy.info.privileged:
        raise PolicyError(
            f"{policy.info.policy_id} reads object poses: it is a control, and there is nothing to probe."
        )
    return load_observations()


def make_expectations(policy: Policy) -> Expectations:
    """Ask a policy that is known to be well, without a fault and under each."""
    seen = visible(policy)
    well = ask(policy, seen)
    answers = {WELL: well}
    for name, fault in FAULTS.items():
        told = [fault.see(each) for each in seen]
        changed = any(not _same(one, other) for one, other in zip(told, seen, strict=True))
        answers[name] = fault.answer(ask(policy, told) if changed else well)
    info = policy.info
    return Expectations(info.policy_id, info.stated_identity.weights, info.default_nfe, answers)


def write_expectations(expectations: Expectations, folder: str | Path) -> Path:
    """Write `probe.json` into a checkpoint's folder.

    Raises:
        UsageError: It cannot be written there.
    """
    path = Path(folder) / FILE
    data: dict[str, Any] = {
        "format": FORMAT,
        "policy_id": expectations.policy_id,
        "checkpoint_sha256": expectations.weights_sha256,
        "nfe": expectations.nfe,
        "observations_sha256": observations_sha256(),
        "answers": {name: np.round(a.astype(float), DIGITS).tolist() for name, a in expectations.answers.items()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, separators=(",", ":")) + "\n")
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror}. Name a folder that can be written.") from error
    return path


def read_expectations(folder: str | Path) -> Expectations | None:
    """Read `probe.json` of a checkpoint's folder; None where there is none.

    Raises:
        HarnessError: It does not parse, or is about other observations than the shipped ones.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        data = read_object(path.read_bytes())
        answers = {name: np.array(values, dtype=np.float32) for name, values in data["answers"].items()}
        held = (data["format"], data["observations_sha256"])
        found = Expectations(data["policy_id"], data["checkpoint_sha256"], data["nfe"], answers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(f"{path} does not parse ({error!r}); write it again with --write-probe.") from error
    if held != (FORMAT, observations_sha256()) or WELL not in answers:
        raise HarnessError(
            f"{path} is about other observations than this version's; write it again with --write-probe."
        )
    return found


def _same(one: Observation, other: Observation) -> bool:
    return (
        one.instruction == other.instruction
        and np.array_equal(one.state, other.state)
        and all(np.array_equal(one.images[camera], other.images[camera]) for camera in other.images)
    )

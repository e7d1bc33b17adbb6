"""Is this policy about to score 0 %? Asked in seconds, before any rollout.

With expectations beside the checkpoint (`harness doctor --policy P --write-probe`), the answers say whether anything is
wrong, and what. Without, only what no working policy does is found: answers out of all range, blindness, and weights
that were never trained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from harness.doctor.check import Check, CheckStatus
from harness.doctor.expectations import WELL, Expectations, ask, visible
from harness.doctor.faults import FAULTS, Actions
from harness.policies.base import Policy
from harness.spec.observation import Observation

ALIKE = 0.03
"""Relative difference of answers up to which they are the same: bfloat16 and another device may cost a per cent."""
EXACT = 0.001
"""Relative difference up to which nothing is wrong, and above which a fault is looked for."""
CLEARER = 4.0
"""How many times nearer the answers under a fault have to be than those without."""
UNRELATED = 0.5
"""Correlation below which answers have nothing to do with the expected ones."""
SATURATED = 0.5
"""Share of motion components at the limit beyond which actions are no actions: experts' are there for a fifth."""
UNDECIDED = 0.3
"""Size of gripper commands below which the gripper neither opens nor closes."""
STILL = 0.01
"""Root mean square of motion below which a policy does not move."""
BLIND = 0.001
"""Relative change of answers below which an input was not looked at."""
UNTOUCHED = 0.99
"""Share of biases at zero and norm scales at one from which weights are those of an initialiser."""


def check_policy(policy: Policy, expectations: Expectations | None) -> list[Check]:
    """Every check of a policy.

    Raises:
        PolicyError: It cannot be asked.
    """
    seen = visible(policy)
    answers = ask(policy, seen, expectations.nfe if expectations is not None else None)
    if not np.isfinite(answers).all():
        # Nothing can be told from NaN: it compares as neither alike nor different.
        names = (*(["answers"] if expectations else []), "gripper", *(f"looks at {name}" for name in _inputs(policy)))
        unknown = [Check(name, CheckStatus.WARN, "not looked at: actions are NaN or infinite") for name in names]
        return [policy_weights(policy), action_range(answers), *unknown]
    checks = [policy_weights(policy), *([expected_answers(policy, answers, expectations)] if expectations else [])]
    return [*checks, action_range(answers), gripper(answers), *sensitivity(policy, seen, answers)]


def policy_weights(policy: Policy) -> Check:
    """Weights that nobody trained: declared as random, or with biases and norm scales where initialisers put them."""
    checkpoint = policy.info.checkpoint or ""
    remedy = "load a checkpoint: flow:PATH, lerobot:REPO_OR_PATH"
    if checkpoint.startswith("random") or "weights=random" in f"{checkpoint} {policy.info.policy_id}":
        return Check("weights", CheckStatus.FAIL, f"random weights ({checkpoint or policy.info.policy_id})", remedy)
    untouched = _untouched(policy)
    if untouched is not None and untouched > UNTOUCHED:
        found = f"random weights: {untouched:.0%} of biases and norm scales are exactly 0 or 1"
        return Check("weights", CheckStatus.FAIL, found, remedy)
    return Check("weights", CheckStatus.OK, checkpoint or "none")


def expected_answers(policy: Policy, answers: Actions, expectations: Expectations) -> Check:
    """Compare answers with those that the checkpoint is known to give, and name the fault that explains them."""
    well = expectations.answers[WELL]
    if answers.shape != well.shape:
        found = f"chunks of {answers.shape[1]} actions, expected {well.shape[1]}"
        return Check("answers", CheckStatus.FAIL, found, "the checkpoint's config.json does not belong to its weights")
    distance = _distance(answers, well)
    known = {name: _distance(answers, each) for name, each in expectations.answers.items() if name in FAULTS}
    nearest = min(known, key=lambda name: known[name], default=None)
    if nearest is not None and distance > EXACT and known[nearest] * CLEARER <= distance:
        fault = FAULTS[nearest]
        return Check("answers", CheckStatus.FAIL, f"{fault.cause}: answers are those to such input", fault.remedy)
    if distance <= ALIKE:
        return Check("answers", CheckStatus.OK, f"as expected, within {distance:.2%}")
    return _unexplained(policy, answers, expectations, distance)


def action_range(answers: Actions) -> Check:
    """Motion that saturates, or is none: unnormalised or twice normalised actions."""
    motion = answers[..., :6]
    remedy = "check the action statistics (mean and std, or quantiles) that postprocessing applies"
    if not np.isfinite(answers).all():
        return Check("action range", CheckStatus.FAIL, "NaN or infinite actions", remedy)
    saturated, size = float((np.abs(motion) >= 1.0).mean()), float(np.sqrt((motion**2).mean()))
    found = f"motion {size:.2f} rms, {saturated:.0%} at or over the limit"
    if saturated > SATURATED:
        return Check("action range", CheckStatus.FAIL, f"unnormalised actions: {found}", remedy)
    if size < STILL:
        return Check("action range", CheckStatus.FAIL, f"no motion: {found}", remedy)
    return Check("action range", CheckStatus.OK, found)


def gripper(answers: Actions) -> Check:
    """A gripper that never opens nor closes, though some of the observations are of a grasp or its end."""
    size = float(np.abs(answers[..., 6]).max())
    if size < UNDECIDED:
        remedy = "random or unnormalised weights answer so; LIBERO's gripper opens at -1 and closes at 1"
        return Check("gripper", CheckStatus.WARN, f"undecided: no command above {size:.2f}", remedy)
    return Check("gripper", CheckStatus.OK, f"commands up to {size:.2f}")


def sensitivity(policy: Policy, seen: tuple[Observation, ...], answers: Actions) -> list[Check]:
    """Inputs that a policy declares and does not look at: a key that is not mapped, a feature that is dropped."""
    other = [seen[(number + len(seen) // 2) % len(seen)] for number in range(len(seen))]
    checks = []
    for name, change in _inputs(policy).items():
        told = [change(one, two) for one, two in zip(seen, other, strict=True)]
        moved = _distance(ask(policy, told), answers)
        if moved < BLIND:
            status = CheckStatus.FAIL if name.startswith("camera") else CheckStatus.WARN
            remedy = f"the policy does not look at it: check how {name} is mapped to its inputs"
            checks.append(Check(f"looks at {name}", status, f"answers change by {moved:.2%}", remedy))
        else:
            checks.append(Check(f"looks at {name}", CheckStatus.OK, f"answers change by {moved:.0%}"))
    return checks


def _inputs(policy: Policy) -> dict[str, Callable[[Observation, Observation], Observation]]:
    """What a policy declares to look at → the observation with that input taken from another one."""
    inputs: dict[str, Callable[[Observation, Observation], Observation]] = {
        f"camera {camera}": lambda one, two, camera=camera: replace(  # type: ignore[misc]
            one, images={**one.images, camera: two.images[camera]}
        )
        for camera in policy.info.cameras
    }
    if policy.info.checkpoint is not None:
        inputs["state"] = lambda one, two: replace(one, state=two.state)
        inputs["instruction"] = lambda one, two: replace(one, instruction=two.instruction)
    return inputs


def _unexplained(policy: Policy, answers: Actions, expectations: Expectations, distance: float) -> Check:
    """Name what no fault of the input explains: a linear map of actions, other weights, or just another number."""
    well = expectations.answers[WELL]
    off = f"answers are {distance:.0%} off"
    if _linear(answers, well, distance):
        remedy = "apply the checkpoint's action statistics once, in postprocessing"
        return Check(
            "answers", CheckStatus.FAIL, f"unnormalised actions: {off}, but linear in the expected ones", remedy
        )
    other = policy.info.stated_identity.weights != expectations.weights_sha256
    correlation = float(np.corrcoef(answers.ravel(), well.ravel())[0, 1]) if answers.std() > 0 else 0.0
    if other or correlation < UNRELATED:
        which = "other weights than the expectations are of" if other else "random weights, or inputs of another kind"
        remedy = "load the checkpoint that the probe was made of, or write the probe again"
        return Check("answers", CheckStatus.FAIL, f"{which}: {off}, correlation {correlation:.2f}", remedy)
    remedy = "compare NFE, dtype and library versions with those of the probe"
    return Check(
        "answers", CheckStatus.WARN, f"{off}, correlation {correlation:.2f}; no known fault explains it", remedy
    )


def _distance(one: Actions, other: Actions) -> float:
    """Root mean square difference, relative to that of the second's spread about its own mean."""
    spread = np.sqrt(((other - other.mean(axis=(0, 1))) ** 2).mean())
    return float(np.sqrt(((one - other) ** 2).mean()) / max(float(spread), 1e-9))


def _linear(answers: Actions, well: Actions, distance: float) -> bool:
    """Whether components are linear functions of the expected ones, where neither is cut off at a limit.

    A line fits whatever is nearly right already, so it has to fit much better than no change at all.
    """
    missed, total = 0.0, 0.0
    for component in range(answers.shape[2]):
        got, wanted = answers[..., component].ravel(), well[..., component].ravel()
        inside = (np.abs(wanted) < 1.0) & (np.abs(got) != 1.0)
        if inside.sum() < 3 or wanted[inside].std() < 1e-6:
            continue
        design = np.stack([wanted[inside], np.ones(int(inside.sum()))], axis=1)
        residual = got[inside] - design @ np.linalg.lstsq(design, got[inside], rcond=None)[0]
        missed += float((residual**2).sum())
        total += float(((got[inside] - got[inside].mean()) ** 2).sum())
    share = float(np.sqrt(missed / total)) if total > 0 else 1.0
    return share <= ALIKE and share * CLEARER <= distance


def _untouched(policy: Policy) -> float | None:
    """Share of the vectors (biases, norm scales) of a policy's network that hold only 0 or only 1; None without any."""
    torch = sys.modules.get("torch")
    modules = [each for each in vars(policy).values() if torch is not None and isinstance(each, torch.nn.Module)]
    vectors = [tensor for module in modules for tensor in module.parameters() if tensor.ndim == 1]
    if not vectors:
        return None
    constant = [bool((vector == 0).all()) or bool((vector == 1).all()) for vector in vectors]
    return sum(constant) / len(constant)

"""Checks on what a policy answers, before anything moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.rollout.faults import PolicyActionError
from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace
from harness.spec.observation import PolicyInfo

SHOWN = 5
"""Offending values that a message lists."""


@dataclass(frozen=True, slots=True)
class CheckedChunk:
    """Actions that may be executed."""

    actions: NDArray[np.float32]
    """Shape (T, D); every component in its range, where it has one."""
    clipped: NDArray[np.bool_]
    """Shape (T,): which actions had a component out of range, as reference evaluators clip it in silence."""


def check_actions(
    actions: object, chunk_length: int, decision: int, space: ActionSpace = LIBERO_ACTIONS["relative"]
) -> CheckedChunk:
    """Check one decision's chunk and clip it to the world's range.

    Args:
        actions: What the policy returned for one observation; should have shape (chunk_length, D).
        chunk_length: T, as the policy declared it.
        decision: Index of the decision, for the message.
        space: What an action is in the world, D numbers.

    Raises:
        PolicyActionError: Another shape, no numbers, NaN or infinity; names the offending values and indices.
    """
    expected = (chunk_length, space.dim)
    try:
        chunk = np.asarray(actions, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise PolicyActionError(
            f"Decision {decision} returned a {type(actions).__name__} that is no array of numbers ({error}); "
            f"return float32 actions of shape {expected}."
        ) from error
    if chunk.shape != expected:
        raise PolicyActionError(
            f"Decision {decision} returned actions of shape {chunk.shape}, not {expected} (chunk length × action "
            "dimension); fix the policy, or the chunk_length it declares."
        )
    finite = np.isfinite(chunk)
    if not finite.all():
        bad = np.argwhere(~finite)
        listing = ", ".join(f"[{t}, {d}] = {chunk[t, d]}" for t, d in bad[:SHOWN])
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise PolicyActionError(
            f"Decision {decision} returned values that are no actions: {listing}{more}. Look for a missing "
            "normalisation statistic or an overflow in the policy."
        )
    inside = space.clip(chunk)
    return CheckedChunk(inside, (inside != chunk).any(axis=1))


def check_answer(info: PolicyInfo, chunks: object, batch: int, *, finite: bool = True) -> NDArray[np.float32]:
    """Check what `act` returned for a batch: the kind of object, its shape, and that its values are numbers.

    Args:
        info: What the policy says of itself.
        chunks: What `act` returned; should be `ActionChunks`.
        batch: B, observations of the decision.
        finite: Whether values that are no numbers are refused too.

    Returns:
        The actions, shape (B, info.chunk_length, info.action_dim).

    Raises:
        PolicyActionError: In one sentence, what was returned and what to return.
    """
    expected = (batch, info.chunk_length, info.action_dim)
    wanted = f"return ActionChunks(actions) with float32 actions of shape {expected} (batch, chunk_length, action_dim)"
    actions = getattr(chunks, "actions", None)
    if actions is None:
        shape = f" of shape {np.shape(chunks)}" if isinstance(chunks, np.ndarray | list | tuple) else ""
        raise PolicyActionError(f"{info.policy_id} returned a {type(chunks).__name__}{shape} from act; {wanted}.")
    try:
        found = np.asarray(actions, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise PolicyActionError(
            f"{info.policy_id} returned actions that are a {type(actions).__name__} and no array of numbers "
            f"({error}); {wanted}."
        ) from error
    if found.shape != expected:
        raise PolicyActionError(f"{info.policy_id} returned actions of shape {found.shape}; {wanted}.")
    if finite and not np.isfinite(found).all():
        first = tuple(int(place) for place in np.argwhere(~np.isfinite(found))[0])
        raise PolicyActionError(
            f"{info.policy_id} returned {int((~np.isfinite(found)).sum())} values that are NaN or infinite, the first "
            f"at {first}; look for a missing normalisation statistic or an overflow in the policy."
        )
    return found

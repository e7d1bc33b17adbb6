"""What Ray raises, in this project's words: causes are unwrapped here and nowhere else."""

from __future__ import annotations

from typing import Any

from harness.errors import ControllerLost, HarnessError, NodeError


def cause_of(error: BaseException) -> BaseException:
    """What a remote call raised in its own process; the error itself when the process or node was lost."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def harness_error(error: BaseException) -> HarnessError | None:
    """The typed error that a remote call raised, if it raised one."""
    cause = cause_of(error)
    return cause if isinstance(cause, HarnessError) else None


def reason_of(error: BaseException) -> str:
    """One line that says why: of a lost process, how it ended; of one that could not begin, what it raised."""
    cause = cause_of(error)
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    if "creation task" in lines[0]:
        return f"it could not begin: {lines[-1].strip().rstrip('.')}"
    return next((line for line in lines if "exit detail" in line), lines[0]).strip().rstrip(".")


def ask_controller(ray: Any, ref: Any) -> Any:
    """Wait for an answer of the controller's.

    Raises:
        ControllerLost: Its process is gone.
    """
    from ray.exceptions import RayActorError

    try:
        return ray.get(ref)
    except RayActorError as error:
        raise ControllerLost(f"The process that leads the run (its controller) was lost: {reason_of(error)}.") from None


def as_node_error(error: Exception) -> NodeError | None:
    """What to tell of an error that Ray raised somewhere in a run; None for errors of other origin."""
    from ray.exceptions import RayError

    if not isinstance(error, (RayError, ConnectionError)):
        return None
    return NodeError(f"Ray has failed: {type(cause_of(error)).__name__}: {reason_of(error)}.")

"""What can go wrong in an episode. The class name is `episodes.error_type`; retry decisions go by it."""

from __future__ import annotations

from harness.errors import HarnessError, NodeError, PolicyError, SimulatorError
from harness.errors import PolicyServerDied as PolicyServerDied
from harness.errors import PolicyServerLost as PolicyServerLost


class PolicyActionError(PolicyError):
    """A policy returned something that is no action: another shape, NaN or infinity."""


class PolicyRaised(PolicyError):
    """A policy raised an exception."""


class PolicyTimeout(PolicyError):
    """A policy did not answer within the limit for a decision."""


class EpisodeTimeout(HarnessError):
    """An episode did not end within its wall-clock limit (not to be confused with the outcome "timeout")."""


class WorkerDied(NodeError):
    """The process that ran an episode died."""


def explain_fault(error: BaseException) -> tuple[str, str]:
    """Split an exception of an episode into (`error_type`, `error_message`).

    Whatever is not the harness's own came out of the simulator: policies are wrapped where they are called.
    """
    if isinstance(error, HarnessError):
        return type(error).__name__, str(error)
    return SimulatorError.__name__, f"The simulator raised {describe_exception(error)}."


def describe_exception(error: BaseException) -> str:
    """One line: type, message, and where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}{where}"

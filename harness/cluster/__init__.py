"""Ray: controller, rollout workers, policy servers, probe leases.

Importing this package imports neither Ray nor what only the driver needs: workers import it too.
"""

from typing import TYPE_CHECKING, Any

from harness.schedule.progress import PolicyProgress, Progress
from harness.spec.policy import PolicyAtNfe

if TYPE_CHECKING:
    from harness.cluster.run import RunResult, run

__all__ = ["PolicyProgress", "Progress", "RunResult", "PolicyAtNfe", "run"]


def __getattr__(name: str) -> Any:
    if name in ("RunResult", "run"):
        from importlib import import_module

        driver = import_module("harness.cluster.run")
        # Importing the module has bound the name `run` to it; callers mean the function.
        globals().update(RunResult=driver.RunResult, run=driver.run)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What a suite or a task varies, read from its name: LIBERO-PRO's suites and LIBERO-Plus's tasks. Pure."""

from __future__ import annotations

import re

BASE_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
"""The suites of the LIBERO paper; every other suite varies one of them."""

PRO = {
    "object": "objects look otherwise",
    "swap": "objects have changed places",
    "lan": "instruction in other words",
    "task": "another task in the same scene",
}
"""LIBERO-PRO's perturbations by the ending of a suite; "with_X" adds a distractor. Source: arXiv 2510.03827."""

_SUFFIX = re.compile(
    r"(?:_(?:table|tb|light|add|language)_\d+|(?:_moved)?_level\d+_sample\d+|_view(?:_-?\d+)+_initstate_\d+|_noise_\d+)+$"
)
"""What LIBERO-Plus appends to the name of a task. Taken off, its 10,030 names are 40 (LIBERO-plus at 4976dc3)."""


def perturbation(suite: str) -> tuple[str, str] | None:
    """(base suite, what is changed) of a LIBERO-PRO suite; None for a suite that varies none.

    Args:
        suite: e.g. "libero_spatial_swap".
    """
    for base in BASE_SUITES:
        if suite.startswith(f"{base}_"):
            return base, suite.removeprefix(f"{base}_")
    return None


def base_task(name: str) -> str:
    """The name of the task that a LIBERO-Plus variant varies; the name itself where it varies none."""
    return _SUFFIX.sub("", name)


def is_reworded(name: str) -> bool:
    """Whether a LIBERO-Plus variant's instruction is what was changed."""
    return re.search(r"_language_\d+", name[len(base_task(name)) :]) is not None

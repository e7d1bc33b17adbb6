"""The training step in a checkpoint's name, as public trainers write it. Pure."""

from __future__ import annotations

import re

_NUMBER = r"(\d+(?:\.\d+)?)([kKmM]?)(?![A-Za-z\d])"
_SUFFIX = {"": 1, "k": 1_000, "m": 1_000_000}
_KEYED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # step-005000-epoch-00-loss=0.0987 (Prismatic), steps_10000 (starVLA), epoch=3-step=1200 (Lightning), step_5k
        rf"(?:steps?|iter(?:ation)?s?|updates?)[-_=]*{_NUMBER}",
        r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)([kKmM]?)[-_]?(?:steps?|iter(?:ation)?s?|updates?)(?![A-Za-z])",
        # checkpoint-500 (Hugging Face Trainer, GR00T), …--50000_chkpt (OpenVLA-OFT)
        rf"(?:checkpoint|chkpt|ckpt)[-_=]*{_NUMBER}",
        r"(?<![A-Za-z\d.])(\d+)()[-_](?:checkpoint|chkpt|ckpt)(?![A-Za-z])",
    )
)
"""What says that a number is the step, the strongest first: a number beside it wins over every other."""
_EPOCH = re.compile(rf"epochs?[-_=]*{_NUMBER}", re.IGNORECASE)
_PLAIN = re.compile(r"(?<![A-Za-z\d.])(?<!\de-)(\d+)(?![A-Za-z\d]|\.\d)")
"""A whole number by itself: not the 16 of bf16, not the 7 of 7b, no part of 0.9999 or of 5e-4."""
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d{2}([-_.]?)(?:0[1-9]|1[0-2])\1(?:[0-2]\d|3[01])(?:[-_T][0-2]\d[0-5]\d[0-5]\d)?(?!\d)"
)
_TIME = re.compile(r"(?<!\d)[0-2]\d[-_:.][0-5]\d[-_:.][0-5]\d(?!\d)")
_SHARD = re.compile(r"-\d+-of-\d+$")


class AmbiguousNameError(ValueError):
    """A name holds several numbers, and nothing says which of them is the step."""


def step_in(name: str) -> int | None:
    """The training step in a checkpoint's name, without the ending of a file.

    A number beside "step" wins, then one beside "checkpoint", then the only whole number; an epoch counts where
    there is no other number. Numbers glued to letters (bf16, 7b), parts of decimals, dates and times are no steps.

    Returns:
        The step; None for a name without one.

    Raises:
        AmbiguousNameError: Several numbers could be it; names them.
    """
    if _SHARD.search(name):
        return None
    for pattern in _KEYED:
        if found := {_value(*match.groups()) for match in pattern.finditer(name)}:
            return _only(found)
    rest = _TIME.sub("", _DATE.sub("", name))
    whole = {int(number) for number in _PLAIN.findall(_EPOCH.sub("", rest))}
    epochs = {_value(*match.groups()) for match in _EPOCH.finditer(rest)}
    found = whole | epochs
    return _only(found) if found else None


def _value(number: str, suffix: str) -> int:
    value = float(number) * _SUFFIX[suffix.lower()]
    if value != int(value):
        raise AmbiguousNameError(f"has {number} for a step, which is no whole number")
    return int(value)


def _only(found: set[int]) -> int:
    if len(found) > 1:
        listing = ", ".join(map(str, sorted(found)))
        raise AmbiguousNameError(f"has several numbers that may be the step ({listing}); write step_N into the name")
    return found.pop()

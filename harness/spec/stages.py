"""Stages on the way to a goal: what worlds declare, ledgers hold and scores weigh."""

from __future__ import annotations

NO_STAGE = "none"
STAGES = (NO_STAGE, "touched", "grasped", "lifted", "over_target")
"""The earliest first: a finger touches the thing, both fingers hold it, it is lifted, it is above where it has to go.
What cannot be carried (a drawer, a knob) can only be touched."""

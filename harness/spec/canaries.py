"""When unlike nodes are compared before their rows are pooled, and what becomes of those that differ too much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.spec.resolve import SpecModel

CanaryMode = Literal["auto", "always", "never"]
"""When canaries are run."""


class Canaries(SpecModel):
    """Keyed episodes, a keyed frame and a keyed decision that every node repeats before a run of unlike nodes."""

    run: CanaryMode = "auto"
    """"auto": where the run's nodes differ in instruction set, renderer or accelerator; "always"; "never"."""
    outside: Literal["label", "quarantine"] = "label"
    """What becomes of a node outside the tolerance: its episodes say so (`episodes.canary`), or it gets none."""
    position: Annotated[float, Field(ge=0)] = 1e-3
    """Largest difference of a generalised position (m, rad) at the end of an episode, between classes. Nodes of one
    class must agree to the bit."""
    frame: Annotated[int, Field(ge=0, le=255)] = 16
    """Largest difference of one value of a frame, levels of 255, between classes."""
    action: Annotated[float, Field(ge=0)] = 0.02
    """Largest difference of one number of an action, action units, between classes."""

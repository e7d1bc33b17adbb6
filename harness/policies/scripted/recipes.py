"""What the expert knows of objects and places, as data, and how it reads its job from an instruction."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness.errors import PolicyError

SUPPORTED_SUITES = ("libero_spatial", "libero_object")

INSTRUCTION = re.compile(r"pick (?:up )?the (?P<what>.+) and place it (?:on|in) the (?P<where>plate|basket)\.?")
"""Both wordings of a task: the BDDL file's ("Pick the akita black bowl …") and the benchmark's ("pick up the …")."""


@dataclass(frozen=True, slots=True)
class Grasp:
    """How to take an object from above."""

    body: str
    """The object in `Observation.privileged`."""
    below: float
    """From the object's lowest point to its origin when it stands, m."""
    above: float
    """From its origin to its highest point, m."""
    offset: tuple[float, float, float]
    """From the object's origin to the point between the fingertips, m; y is the way the fingers close, z is up."""
    hover: float
    """Height over the grasp from which to descend, m: the open fingers pass over the object and its neighbours."""
    spread: int
    """How far the fingers close before they come down, as `Expert.closure`: a narrow object needs no wide hand, which
    would bump into neighbours and take longer to close."""
    early: float
    """Height over the grasp at which the fingers begin to close, m: they lag their command by two control steps."""
    turns: tuple[float, ...]
    """Turns of the hand and of `offset` about the vertical worth trying, rad, best first; at 0 the fingers close along
    world y, or along `along`. A second attempt takes another one; π is the same hand at the object's other side."""
    along: str | None = None
    """Body along whose x axis the fingers close."""
    pull: float = 0.0
    """How far to draw the object away from the origin of `along` before it is lifted, m."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to bring an object. Heights are those of the object's lowest point over the origin of the place, m."""

    body: str
    """The place in `Observation.privileged`."""
    carry: float
    """Height while travelling: over the rim of the place and over whatever stands in between."""
    release: float
    """Height at which the fingers open."""
    glide: float
    """Horizontal distance over which the object comes down from `carry` to `release`; 0 behind a wall."""
    tolerance: float
    """Horizontal distance from the origin at which lowering begins, m: well inside the success region."""


@dataclass(frozen=True, slots=True)
class Job:
    """One task: an object and its place."""

    grasp: Grasp
    place: Destination


def _can(body: str) -> Grasp:
    # 6.2 cm wide between fingers that open to 7.8: no room to close early. Round: any turn will do.
    return Grasp(body, below=0.038, above=0.038, offset=(0.0, 0.0, 0.01), hover=0.07, spread=0, early=0.02, turns=ASIDE)


def _flat(body: str, below: float) -> Grasp:
    # Boxes of 2 to 3 cm lying down, 4 to 4.6 cm wide: the fingertips go as low as the floor lets them. A box that is
    # not square to the fingers turns with them while they close.
    return Grasp(body, below=below, above=below, offset=(0.0, 0.0, 0.0), hover=0.06, spread=2, early=0.02, turns=ASIDE)


def _tall(body: str, below: float, above: float, height: float) -> Grasp:
    # Cartons and bottles of 11 to 15 cm, 4 to 5.5 cm wide: the palm, 4 cm above the fingertips, must stay over the top.
    return Grasp(
        body, below=below, above=above, offset=(0.0, 0.0, height), hover=0.06, spread=1, early=0.02, turns=ASIDE
    )


ASIDE = (0.0, -0.4, 0.4, -0.7, 0.7)
"""Turns that keep the 20 cm wide palm off a tall neighbour."""

BOWL = Grasp(
    # In libero_spatial the goal is always the first of two equal bowls. It is 5 cm tall and hollow, with its rim at a
    # radius of 5.3 cm, wider than the hand: one finger goes inside, one outside.
    "akita_black_bowl_1",
    below=0.0,
    above=0.052,
    offset=(0.0, 0.05, 0.035),
    hover=0.06,
    spread=3,
    early=0.02,
    turns=(0.0, math.pi, 0.8, -0.8),
)

GRASPS: Mapping[str, Grasp] = {
    # The drawer leaves 2.5 cm before and behind the bowl, too little for a finger, and 5 cm to its sides; the top of
    # the cabinet overhangs the bowl by up to a centimetre.
    "black bowl in the top": replace(BOWL, along="wooden_cabinet_1", pull=0.02, turns=(0.0, math.pi)),
    "black bowl": BOWL,
    "alphabet soup": _can("alphabet_soup_1"),
    "tomato sauce": _can("tomato_sauce_1"),
    "cream cheese": _flat("cream_cheese_1", below=0.009),
    "butter": _flat("butter_1", below=0.009),
    "chocolate pudding": _flat("chocolate_pudding_1", below=0.013),
    "milk": _tall("milk_1", below=0.07, above=0.061, height=0.03),
    "orange juice": _tall("orange_juice_1", below=0.07, above=0.061, height=0.03),
    "salad dressing": _tall("salad_dressing_1", below=0.073, above=0.073, height=0.04),
    "ketchup": _tall("ketchup_1", below=0.072, above=0.073, height=0.04),
    "bbq sauce": _tall("bbq_sauce_1", below=0.055, above=0.052, height=0.02),
}
"""How an instruction names the object → how to take it; the first that fits. Sizes are those of the assets' collision
geometry."""

HEIGHTS: Mapping[str, float] = {grasp.body: grasp.above for grasp in GRASPS.values()}
"""Object → from its origin to its highest point, m."""

PLACES: Mapping[str, Destination] = {
    # A bowl counts within 3 cm of the plate's centre and in contact with it.
    "plate": Destination("plate_1", carry=0.10, release=0.012, glide=0.09, tolerance=0.012),
    # The wall is 14.6 cm high and the inside 12 cm wide; an object counts once its origin is 13.5 cm over the floor.
    "basket": Destination("basket_1", carry=0.165, release=0.06, glide=0.0, tolerance=0.03),
}


def read_job(instruction: str, bodies: Iterable[str]) -> Job:
    """Read object and place from a task's instruction.

    Args:
        instruction: The task in words.
        bodies: Names of the objects whose poses are known.

    Raises:
        PolicyError: The task is not one of the supported suites, or poses are missing.
    """
    match = INSTRUCTION.fullmatch(instruction.strip().lower())
    what = match["what"].removeprefix("akita ") if match else ""
    grasp = next((grasp for name, grasp in GRASPS.items() if what == name or what.startswith(f"{name} ")), None)
    if match is None or grasp is None:
        raise PolicyError(
            f"Policy 'scripted' cannot do {instruction!r}: it supports {' and '.join(SUPPORTED_SUITES)} only."
        )
    job = Job(grasp, PLACES[match["where"]])
    missing = sorted({job.grasp.body, job.place.body, job.grasp.along or job.place.body} - set(bodies))
    if missing:
        raise PolicyError(
            f"Policy 'scripted' needs the poses of {', '.join(missing)}, which the observation lacks; "
            f"give it privileged observations of a task of {' or '.join(SUPPORTED_SUITES)}."
        )
    return job

"""LIBERO-Plus (sylvestf/LIBERO-plus): variants of LIBERO's tasks in seven categories, from the user's own checkout.

Its 10,030 variants are in no registry. Their names are those of the base tasks with a suffix that says what was changed
("…_light_5", "…_view_0_0_100_0_0_initstate_3_noise_2"), and `task_classification.json` gives each its category.

An evaluator that takes the instruction from a file's name, as LIBERO's own does, tells the policy the suffix as well:
"put the bowl on the plate light 5". That leak is found here (LIBERO-plus issues #57 and #61).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.sim.resources import bddl_language, instruction_from_name
from harness.spec.perturbations import base_task, is_reworded

CLASSIFICATION = Path("libero/libero/benchmark/task_classification.json")
BDDL_FILES = Path("libero/libero/bddl_files")

SIZES: Mapping[str, int] = {"libero_spatial": 2402, "libero_object": 2518, "libero_goal": 2591, "libero_10": 2519}
"""Variants of each suite: 10,030 in all. Source: LIBERO-plus at 4976dc3, benchmark/__init__.py, `task_num`."""

CATEGORIES: Mapping[str, int] = {
    "Background Textures": 1076,
    "Camera Viewpoints": 1599,
    "Language Instructions": 1537,
    "Light Conditions": 1142,
    "Objects Layout": 1525,
    "Robot Initial States": 1550,
    "Sensor Noise": 1601,
}
"""Variants of each category, over the four suites. Source: LIBERO-plus at 4976dc3, `task_classification.json`."""


@dataclass(frozen=True, slots=True)
class PlusVariant:
    """One variant of a task."""

    suite: str
    name: str
    category: str
    difficulty: int | None
    """1 (easiest) to 5; None where the file gives none."""

    @property
    def base(self) -> str:
        """Name of the task that it varies."""
        return base_task(self.name)

    @property
    def leaked(self) -> str:
        """What a file's name says beyond the base task's words; "" where it says no more."""
        told, own = instruction_from_name(self.name), instruction_from_name(self.base)
        return told.removeprefix(own).strip()


@dataclass(frozen=True, slots=True)
class PlusDirectory:
    """A checkout of LIBERO-Plus."""

    root: Path
    variants: tuple[PlusVariant, ...]

    def sizes(self) -> Mapping[str, int]:
        """Suite → its variants."""
        return Counter(each.suite for each in self.variants)

    def categories(self) -> Mapping[str, int]:
        """Category → its variants."""
        return Counter(each.category for each in self.variants)

    def differing(self) -> list[str]:
        """Where its sizes are not the published ones, a sentence each."""
        found = {**self.sizes(), **self.categories()}
        return [
            f"{name} has {found.get(name, 0)} variants, published are {published}"
            for name, published in {**SIZES, **CATEGORIES}.items()
            if found.get(name, 0) != published
        ]

    def missing(self) -> list[PlusVariant]:
        """Variants that have no BDDL file: neither their own nor one that they share."""
        return [each for each in self.variants if self._bddl(each) is None]

    def leaks(self) -> list[PlusVariant]:
        """Variants whose file name would tell a policy what was changed; not those whose words are the perturbation."""
        return [each for each in self.variants if each.leaked and not is_reworded(each.name)]

    def instruction(self, variant: PlusVariant) -> str:
        """The words to tell a policy: the BDDL file's where they are the perturbation, else the base task's.

        Raises:
            UsageError: A reworded variant has no BDDL file.
        """
        if not is_reworded(variant.name):
            return instruction_from_name(variant.base)
        path = self._bddl(variant)
        if path is None:
            raise UsageError(f"{variant.name} has no BDDL file below {self.root / BDDL_FILES}; complete the checkout.")
        return bddl_language(path)

    def _bddl(self, variant: PlusVariant) -> Path | None:
        folder = self.root / BDDL_FILES / variant.suite
        names = (variant.name, re.sub(r"_view_.*$", "", variant.name), variant.base)
        return next((path for name in names if (path := folder / f"{name}.bddl").is_file()), None)


def read_plus(directory: str | Path) -> PlusDirectory:
    """Read a checkout of LIBERO-Plus.

    Raises:
        UsageError: It is none, or its classification cannot be read.
    """
    root = Path(directory).expanduser()
    path = root / CLASSIFICATION
    if not path.is_file():
        raise UsageError(
            f"{root} is no checkout of LIBERO-Plus: it lacks {CLASSIFICATION}. Clone sylvestf/LIBERO-plus and name its "
            "top folder."
        )
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        variants = tuple(
            PlusVariant(str(suite), str(each["name"]), str(each["category"]), each.get("difficulty_level"))
            for suite, listed in told.items()
            for each in listed
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no classification of LIBERO-Plus ({error!r}); take the file of its main branch."
        ) from error
    return PlusDirectory(root, variants)

"""A checkout of LIBERO-Plus: are its variants the published ones, and would file names tell a policy too much."""

from __future__ import annotations

from pathlib import Path

from harness.doctor.check import Check, CheckStatus
from harness.sim.libero_plus import CATEGORIES, SIZES, PlusDirectory, read_plus


def check_plus(directory: Path) -> list[Check]:
    """Check sizes, files and instructions.

    Raises:
        UsageError: The folder is no checkout of LIBERO-Plus.
    """
    plus = read_plus(directory)
    return [*_sizes(plus), _files(plus), _instructions(plus)]


def _sizes(plus: PlusDirectory) -> list[Check]:
    checks = []
    for what, found, published in (("suites", plus.sizes(), SIZES), ("categories", plus.categories(), CATEGORIES)):
        told = ", ".join(f"{name} {found.get(name, 0)} of {n}" for name, n in published.items())
        well = all(found.get(name, 0) == n for name, n in published.items())
        remedy = "" if well else "rates of other variants do not compare with published ones: update the checkout"
        checks.append(Check(f"LIBERO-Plus {what}", CheckStatus.OK if well else CheckStatus.WARN, told, remedy))
    return checks


def _files(plus: PlusDirectory) -> Check:
    missing = plus.missing()
    if not missing:
        return Check("LIBERO-Plus files", CheckStatus.OK, f"a BDDL file for each of {len(plus.variants)} variants")
    told = f"{len(missing)} of {len(plus.variants)} variants have no BDDL file, the first {missing[0].name}"
    return Check("LIBERO-Plus files", CheckStatus.FAIL, told, "complete the checkout (git lfs, assets.zip)")


def _instructions(plus: PlusDirectory) -> Check:
    leaks = plus.leaks()
    if not leaks:
        return Check("LIBERO-Plus instructions", CheckStatus.OK, "no file name says what was changed")
    told = f"{len(leaks)} of {len(plus.variants)} file names say what was changed, e.g. '… {leaks[0].leaked}'"
    remedy = (
        "an evaluator that takes the instruction from the file name tells it the policy; this harness takes the base "
        "task's words, and the BDDL file's where they are the perturbation"
    )
    return Check("LIBERO-Plus instructions", CheckStatus.WARN, told, remedy)

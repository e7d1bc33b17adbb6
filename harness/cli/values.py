"""Parsing of option values that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from harness.errors import UsageError, unknown_name
from harness.spec.policy import OptionValue, PolicySpec, parse_policy

if TYPE_CHECKING:
    from harness.spec.suite import Quantization


def require_ledgers(*paths: str | None) -> None:
    """Refuse what is no ledger on this machine, before pandas is loaded; buckets are asked when they are read.

    Raises:
        NoLedgerError: Names the path.
    """
    from harness.ledger.parts import locate_ledger

    for path in paths:
        if path is not None and "://" not in path:
            locate_ledger(path)


def parse_nfe(text: str) -> tuple[int, ...]:
    """Parse "1,2,10" into NFE values.

    Raises:
        UsageError: Not whole numbers ≥ 1, or one given twice.
    """
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--nfe is {text!r}; write whole numbers with commas between them, e.g. --nfe 1,10.") from None
    if min(values) < 1:
        raise UsageError(f"--nfe has {min(values)}; NFE counts function evaluations and is at least 1.")
    if len(set(values)) < len(values):
        raise UsageError(f"--nfe {text} names a value twice.")
    return values


_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9}


EmbedVideos = Annotated[
    str,
    typer.Option(
        help="Carry videos inside the page up to this size, e.g. 20MB; others are copied beside it.",
        show_default="linked where they lie",
    ),
]
"""How much of a page may be videos; see `parse_embed`."""


def parse_embed(text: str, html: str) -> int | None:
    """Parse "20MB" of --embed-videos into bytes; None for an empty text.

    Raises:
        UsageError: Neither a number of bytes nor one with kB, MB or GB; or there is no page to carry them.
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]b)?", text.strip().lower())
    if found is None:
        raise UsageError(f"--embed-videos is {text!r}; write a size such as 500kB, 20MB or 1GB.")
    if not html:
        raise UsageError("--embed-videos is about the page: say where it goes with --html FILE.")
    return int(float(found[1]) * _UNITS.get(found[2], 1))


def parse_quantize(text: str) -> tuple[Quantization, ...]:
    """Parse "none,int8" into values of the axis.

    Raises:
        UsageError: An unknown one, answered with the nearest known one, or one given twice.
    """
    from harness.spec import suite

    known: tuple[Quantization, ...] = get_args(suite.Quantization)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise unknown_name("quantisation", name, known)
    if len(set(names)) < len(names):
        raise UsageError(f"--quantize {text} names a value twice.")
    return tuple(value for name in names for value in known if value == name)


def parse_profiles(text: str) -> tuple[str, ...]:
    """Parse "a100-sxm-80gb,dgx-spark-gb10" into names of hardware profiles.

    Raises:
        UsageError: An unknown one, answered with the nearest known one, or one given twice.
    """
    from harness.spec.profile import load_profile

    found = tuple(load_profile(name.strip()).name for name in text.split(","))
    if len(set(found)) < len(found):
        raise UsageError(f"--on {text} names a profile twice.")
    return found


def parse_profile(text: str, command: str) -> tuple[str]:
    """Parse the one hardware profile of a command that judges one policy.

    Raises:
        UsageError: An unknown profile, or several.
    """
    found = parse_profiles(text)
    if len(found) > 1:
        raise UsageError(f"`harness {command}` judges one policy in one place, but --on names {', '.join(found)}.")
    return (found[0],)


def parse_policies(texts: Sequence[str]) -> tuple[PolicySpec, ...]:
    """Parse policies and check that their kinds exist.

    Raises:
        UsageError: An unknown kind, answered with the nearest known one, or one policy given twice.
    """
    from harness.policies.registry import POLICIES

    specs = tuple(parse_policy(text) for text in texts)
    for spec in specs:
        if spec.kind not in POLICIES.kinds():
            raise unknown_name("policy", spec.kind, POLICIES.kinds())
    labels = [spec.label for spec in specs]
    repeated = [label for label in labels if labels.count(label) > 1]
    if repeated:
        raise UsageError(f"--policy {repeated[0]} is given twice.")
    return specs


def parse_axes(named: Mapping[str, str], others: Sequence[str]) -> dict[str, tuple[OptionValue | None, ...]]:
    """Parse the axes of a probe: option → values, where "none" leaves the option out.

    Args:
        named: Option of the policy → "VALUE,VALUE", for the axes that have an option of their own.
        others: "OPTION=VALUE,VALUE".

    Raises:
        UsageError: Not of that form, no value, or an axis given twice.
    """
    texts = dict(named)
    for other in others:
        name, found, values = other.partition("=")
        if not (name and found and values):
            raise UsageError(f"--vary is {other!r}; write OPTION=VALUE,VALUE, e.g. --vary merge_cameras=none,true.")
        if name in texts:
            raise UsageError(f"The axis {name} is given twice; put all of its values into one list.")
        texts[name] = values
    axes = {name: tuple(_axis_value(value) for value in text.split(",")) for name, text in texts.items()}
    for name, values_of in axes.items():
        if "" in values_of:
            raise UsageError(f"The axis {name} is {texts[name]!r}; write values with commas between them.")
    return axes


def _axis_value(text: str) -> OptionValue | None:
    """A value as it would be read behind the `?` of a policy."""
    return None if text.lower() == "none" else parse_policy(f"policy?value={text}").options["value"]


def parse_margin(text: str) -> float:
    """Parse "3pp" (points of a per cent) into a fraction.

    Raises:
        UsageError: Another form, or not above 0 and below 100.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*pp", text.strip())
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError(f"--margin is {text!r}; write points of success, e.g. --margin 3pp.")
    return float(match[1]) / 100

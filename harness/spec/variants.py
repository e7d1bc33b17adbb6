"""The variants of a policy that a probe times: every combination of its axes, each with its reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from harness.spec.policy import OptionValue, PolicySpec

NUMERIC_OPTIONS = ("dtype", "compile", "compile_scope", "graphs", "quantize", "vision", "merge_cameras", "tf32")
"""Options that change how a policy computes and not what it is asked: the reference runs without them, that is eagerly
and in the checkpoint's dtype."""

QUANTIZED_KINDS = ("flow", "lerobot")
"""Kinds of policies that `quantize` is an axis of; the others run as they are beside them."""

Axes = Mapping[str, Sequence[OptionValue | None]]
"""Option → values; None leaves the option out."""


@dataclass(frozen=True, slots=True)
class ProbeVariant:
    """One way to run a policy."""

    spec: PolicySpec
    """What to build; its label names this variant."""
    text: str
    """The options that set it apart from its reference, e.g. "dtype=bfloat16,graphs=true"; empty for the reference."""
    reference: PolicySpec
    """What its answers are compared with."""


def variants(policies: Sequence[PolicySpec], axes: Axes) -> list[ProbeVariant]:
    """Expand policies by axes, each variant once, references before what is compared with them.

    Args:
        policies: As written; options given there hold wherever an axis does not say otherwise.
        axes: Empty for the policies alone.
    """
    found: dict[str, ProbeVariant] = {}
    for policy in policies:
        for options in _combinations(axes):
            variant = _variant(policy, options)
            found.setdefault(variant.spec.label, variant)
    return sorted(found.values(), key=lambda variant: bool(variant.text))


def quantized(policies: Sequence[PolicySpec], values: Sequence[str]) -> list[PolicySpec]:
    """Expand policies by quantisation, each variant once; one that says its own stays as it is.

    Args:
        policies: As written.
        values: "none" leaves a policy unquantised; empty for the policies alone.
    """
    axes: Axes = {"quantize": [None if value == "none" else value for value in values]} if values else {}
    found: dict[str, PolicySpec] = {}
    for policy in policies:
        varied = policy.kind in QUANTIZED_KINDS and "quantize" not in policy.options
        for spec in [each.spec for each in variants([policy], axes)] if varied else [policy]:
            found.setdefault(spec.label, spec)
    return list(found.values())


def spread(policies: Sequence[PolicySpec], profiles: Sequence[str]) -> list[PolicySpec]:
    """Make a policy of each hardware profile that one is to run on; on a single profile its name stays.

    Args:
        policies: As written; one that says its own profiles keeps to them.
        profiles: For those that say none; empty leaves them wherever there is room.
    """
    found = []
    for policy in policies:
        wanted = tuple(policy.on or profiles)
        for profile in wanted if len(wanted) > 1 else [None]:
            changes = {"on": wanted} if profile is None else {"on": (profile,), "label": f"{policy.label} on {profile}"}
            found.append(policy.model_copy(update=changes))
    return found


def _combinations(axes: Axes) -> Iterator[dict[str, OptionValue | None]]:
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _variant(policy: PolicySpec, changes: Mapping[str, OptionValue | None]) -> ProbeVariant:
    merged = {**policy.options, **changes}
    options = {name: value for name, value in merged.items() if value is not None}
    spec = _with_options(policy, options)
    plain = {name: value for name, value in options.items() if name not in NUMERIC_OPTIONS}
    numeric = {name: value for name, value in options.items() if name in NUMERIC_OPTIONS}
    return ProbeVariant(spec, _text(numeric), _with_options(policy, plain))


def _with_options(policy: PolicySpec, options: Mapping[str, OptionValue]) -> PolicySpec:
    if dict(options) == policy.options:
        return policy
    bare = PolicySpec(kind=policy.kind, path=policy.path, options=dict(options), on=policy.on)
    if policy.label == policy.text:
        return bare
    # A name of the user's own stays, with what differs from what the user called so.
    added = {name: value for name, value in options.items() if policy.options.get(name) != value}
    dropped = [name for name in policy.options if name not in options]
    note = ",".join(filter(None, [_text(added), *(f"no {name}" for name in dropped)]))
    return bare.model_copy(update={"label": f"{policy.label} [{note}]"})


def _text(options: Mapping[str, OptionValue]) -> str:
    return ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()
    )

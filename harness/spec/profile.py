"""Hardware profiles: what a device can do on paper, with a source for every figure, and which node it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from harness.errors import SpecError, UsageError, unknown_name
from harness.spec.resolve import SpecModel, find, load_yaml, names, parse

KIND = "hardware_profiles"
CPU_PROFILE = "cpu"
"""Name of the shipped profile of a node without accelerator."""

Dtype = Literal["bf16", "fp16", "fp16_acc16", "tf32", "fp32", "int8", "fp8", "fp4"]
"""Number format of a matmul. All but `fp16_acc16` accumulate as PyTorch does (in 32 bits)."""


class Figure(SpecModel):
    """One number and how far to trust it."""

    value: Annotated[float, Field(gt=0)]
    """The number, in the unit that the field's name says."""
    source: Annotated[str, Field(min_length=4)]
    """Where it is from: a document or an address."""
    confidence: Literal["datasheet", "measured", "third_party", "inferred"]
    """"datasheet": the vendor prints it; "measured": somebody ran it; "third_party": others print it, the vendor's page
    was not seen; "inferred": computed from other figures."""


class MatchRules(SpecModel):
    """Which nodes a profile is for. Every rule given must hold."""

    accelerator: tuple[str, ...] = ()
    """Regular expressions, one of which matches the whole accelerator name, case ignored; empty: no accelerator."""
    memory_gb: tuple[float, float] | None = None
    """Range of the node's memory, 1e9 bytes: tells apart modules of one name whose memory is shared with the CPU."""
    host: tuple[str, ...] = ()
    """Regular expressions, one of which matches the whole node id, case ignored; empty: any."""

    @field_validator("accelerator", "host")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression ({error})") from error
        return patterns

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.memory_gb is not None and not 0 <= self.memory_gb[0] < self.memory_gb[1]:
            raise ValueError(f"memory_gb {list(self.memory_gb)} is no ascending range")
        return self


class PowerMode(SpecModel):
    """The same device in another power mode. Figures that are not stated are unknown: they are not inherited."""

    title: str
    """Name for people."""
    power_w: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    tflops: dict[Dtype, Figure] = Field(default_factory=dict)


class HardwareProfile(SpecModel):
    """What a device can do, and how to recognise it. Figures that nobody states are absent."""

    name: str
    """The file's name, and the value of the Ray label `hardware`."""
    title: str
    """Name for people."""
    kind: Literal["gpu", "soc", "cpu"]
    """"gpu": a card with its own memory; "soc": memory shared with the CPU; "cpu": no accelerator."""
    memory_gb: Figure | None = None
    """Memory of the device, 1e9 bytes."""
    bandwidth_gb_s: Figure | None = None
    """Peak memory bandwidth, 1e9 bytes a second."""
    tflops: dict[Dtype, Figure] = Field(default_factory=dict)
    """Peak *dense* matmul rate by number format, 1e12 operations a second."""
    power_w: Figure | None = None
    """Board or module power limit, W."""
    l2_mb: Figure | None = None
    """Last-level cache of the accelerator, MB."""
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d$")] | None = None
    """CUDA compute capability."""
    match: MatchRules = MatchRules()
    """How to recognise it."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels for whoever starts a Ray node with this hardware (`ray start --labels`)."""
    variants: dict[str, PowerMode] = Field(default_factory=dict)
    """Power modes by suffix: profile `x` with variant `30w` is also found as `x-30w`."""
    notes: str = ""
    """Conflicts between sources, and what a figure leaves out."""

    def variant(self, suffix: str) -> HardwareProfile:
        """This profile in a power mode."""
        chosen = self.variants[suffix]
        return self.model_copy(
            update={
                "name": f"{self.name}-{suffix}",
                "title": chosen.title,
                "power_w": chosen.power_w,
                "bandwidth_gb_s": chosen.bandwidth_gb_s,
                "tflops": chosen.tflops,
                "variants": {},
            }
        )

    def contradictions(self, node: Mapping[str, Any]) -> list[str]:
        """Say why a node cannot be this device.

        Args:
            node: A row of the ledger's `nodes` table: accelerator, memory_bytes, node_id.

        Returns:
            One phrase per rule that does not hold; empty when all hold. Every node has a CPU, so a "cpu" profile
            contradicts none.
        """
        if self.kind == "cpu":
            return []
        accelerator, rules, found = node.get("accelerator"), self.match, []
        if accelerator is None:
            found.append("it has no accelerator")
        elif not _matches(rules.accelerator, accelerator):
            found.append(f"its accelerator is {accelerator!r}")
        memory = node.get("memory_bytes")
        if rules.memory_gb is not None and memory is not None:
            low, high = rules.memory_gb
            if not low <= memory / 1e9 <= high:
                found.append(f"its memory is {memory / 1e9:.1f} GB, not {low:g} to {high:g}")
        if rules.host and not _matches(rules.host, str(node.get("node_id", ""))):
            found.append(f"its id is {node.get('node_id')!r}")
        return found


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.fullmatch(pattern, text.strip(), re.IGNORECASE) for pattern in patterns)


class ProfileMatch(NamedTuple):
    """The profile of a node, or why there is none."""

    profile: HardwareProfile | None
    reasons: tuple[str, ...]
    """Why no profile, or not one alone, fits; empty when one does."""


def load_profile(name: str) -> HardwareProfile:
    """Load a profile by name, by name and power mode (`jetson-agx-orin-64gb-30w`), or by path.

    Raises:
        SpecError: The file does not validate, or its `name` is not the file's.
        UsageError: No such profile; the nearest known name is suggested.
    """
    if "/" in name or Path(name).suffix in {".yaml", ".yml"}:
        return _read(find(KIND, "hardware profile", name))
    known = names(KIND)
    if name in known:
        return _read(known[name])
    for stem in known:
        if name.startswith(f"{stem}-"):
            profile = _read(known[stem])
            suffix = name.removeprefix(f"{stem}-")
            if suffix in profile.variants:
                return profile.variant(suffix)
    raise unknown_name("hardware profile", name, profile_names())


def profile_names() -> list[str]:
    """Names of every profile and of every power mode."""
    found = []
    for stem, path in names(KIND).items():
        found.append(stem)
        found += [f"{stem}-{suffix}" for suffix in _read(path).variants]
    return sorted(found)


def _read(path: Path) -> HardwareProfile:
    profile = parse(HardwareProfile, load_yaml(path), str(path))
    if profile.name != path.stem:
        raise SpecError(f"{path}: name is {profile.name!r}; it must be the file's name, {path.stem!r}.")
    return profile


def match_profile(node: Mapping[str, Any]) -> HardwareProfile | None:
    """Find the profile of a node; None when none or several fit (`explain_match` says why)."""
    return explain_match(node).profile


def explain_match(node: Mapping[str, Any]) -> ProfileMatch:
    """Find the profile of a node, or say why there is none.

    A node without an accelerator is the profile of kind "cpu"; an accelerator that no profile names is nothing.

    Args:
        node: A row of the ledger's `nodes` table.
    """
    profiles = [_read(path) for path in names(KIND).values()]
    accelerator = node.get("accelerator")
    if accelerator is None:
        fitting = [profile for profile in profiles if profile.kind == "cpu"]
    else:
        fitting = [p for p in profiles if p.kind != "cpu" and not p.contradictions(node)]
    if len(fitting) == 1:
        return ProfileMatch(fitting[0], ())
    if fitting:
        return ProfileMatch(None, (f"several profiles fit: {', '.join(p.name for p in fitting)}; name one",))
    near = [
        f"{profile.name} does not fit: {', '.join(profile.contradictions(node))}"
        for profile in profiles
        if accelerator is not None and _matches(profile.match.accelerator, accelerator)
    ]
    what = f"accelerator {accelerator!r}" if accelerator is not None else "a node without an accelerator"
    return ProfileMatch(None, tuple(near) or (f"no hardware profile names {what}",))


def require_profile(name: str, node: Mapping[str, Any]) -> HardwareProfile:
    """Load the profile that a user named for this node.

    Raises:
        UsageError: The node is something else; both are named.
    """
    profile = load_profile(name)
    contradictions = profile.contradictions(node)
    if contradictions:
        match = match_profile(node)
        instead = f"it matches {match.name}" if match is not None else "it matches no profile"
        raise UsageError(
            f"Hardware {name!r} contradicts node {node.get('node_id')!r}: {', '.join(contradictions)}; {instead}. "
            "Leave --hardware out, or add a profile for this device to ./hardware_profiles."
        )
    return profile

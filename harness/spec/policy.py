"""PolicySpec: which policy, in YAML or as text on a command line."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from pydantic import Field, model_validator

from harness.spec.resolve import SpecModel, parse

OptionValue = str | int | float | bool

SERVER_KINDS = ("openpi", "vla-eval", "lerobot-grpc", "gr00t", "vlacpp")
"""Kinds that are written as an address: a policy behind a server of that protocol."""

UNNAMED_POLICY = "unnamed policy"
"""How episodes of an imported file that names no policy are called."""


class PolicyAtNfe(NamedTuple):
    """A policy at a number of function evaluations: what one row of a table of results is about."""

    policy_id: str | None
    """Label of the policy; None in a ledger that was imported without a name."""
    nfe: int | None
    """Denoising steps; None for a policy without a denoising loop."""

    @property
    def label(self) -> str:
        """The one spelling in every table and message: "flow @ NFE 10"; the policy alone when it has no NFE."""
        name = self.policy_id or UNNAMED_POLICY
        return name if self.nfe is None else f"{name} @ NFE {self.nfe}"


class PolicySpec(SpecModel):
    """A policy: its kind, what it loads, and its options.

    Text forms: `scripted`, `noop`, `random`, `flow[:PATH]`, `lerobot:REPO_OR_PATH[@REVISION]`,
    `lerobot:pi05?weights=random`, `openpi://HOST:PORT[/PATH]`, `wss://HOST[:PORT][/PATH]` (openpi over TLS), and the
    other `SERVER_KINDS` likewise. In YAML either the text or a mapping.
    """

    kind: str
    """Registered kind: scripted, noop, random, flow, lerobot, openpi, …"""
    path: str | None = None
    """What the kind loads: a path, a hub repository, a host and port."""
    options: dict[str, OptionValue] = Field(default_factory=dict)
    """Options of the kind, e.g. weights, dtype, device."""
    label: str = ""
    """Name in ledgers and reports; by default the text form."""
    on: tuple[str, ...] = ()
    """Hardware profiles of the nodes that it is to run on; several make a policy of each. Empty: anywhere."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, str):
            return _split(data)
        return {**data, "on": (data["on"],)} if isinstance(data, dict) and isinstance(data.get("on"), str) else data

    @model_validator(mode="after")
    def _default_label(self) -> PolicySpec:
        if not self.kind:
            raise ValueError("a policy needs a kind, e.g. scripted or lerobot:REPO")
        for text in (self.kind, self.path or "", self.label, *map(str, self.options.values())):
            if holds_control(text):
                raise ValueError(f"{text!r} holds a line break or another control character; leave it out")
        if not self.label:
            object.__setattr__(self, "label", self.text)
        return self

    @property
    def text(self) -> str:
        """The text form, which parses back to an equal spec."""
        separator = "://" if self.kind in SERVER_KINDS else ":"
        body = self.kind + (f"{separator}{self.path}" if self.path else "")
        query = "&".join(f"{key}={_text(value)}" for key, value in self.options.items())
        return f"{body}?{query}" if query else body


def holds_control(text: str) -> bool:
    """Whether a text holds a line break or another control character: no name of a policy may."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)


def parse_policy(text: str) -> PolicySpec:
    """Parse the text form of a policy.

    Raises:
        SpecError: No kind, or a control character; whether the kind exists is the registry's business.
    """
    return parse(PolicySpec, text, "policy")  # type: ignore[arg-type]  # the text form is read as a mapping is


def _split(text: str) -> dict[str, Any]:
    """Split "kind:path?a=b" into fields."""
    body, _, query = text.partition("?")
    # `openpi://HOST` is an address; `flow:s3://BUCKET/FOLDER` is a kind and its path.
    address = re.match(r"[^:]*://", body) is not None
    kind, separator, path = body.partition("://") if address else body.partition(":")
    if kind in ("ws", "wss") and "://" in body:
        kind, path = "openpi", body
    options = {key: _value(raw) for key, raw in parse_qsl(query, keep_blank_values=True)}
    return {"kind": kind, "path": path if separator and path else None, "options": options}


def _text(value: OptionValue) -> str:
    """An option as `_value` reads it back."""
    return str(value).lower() if isinstance(value, bool) else quote(str(value), safe="/:@,")


def _value(raw: str) -> OptionValue:
    """A query value as the narrowest of bool, int, float, text."""
    if raw.lower() in {"true", "false"}:
        return raw.lower() == "true"
    for kind in (int, float):
        try:
            return kind(raw)
        except ValueError:
            continue
    return raw

"""Whose ledger a directory holds: one suite under one protocol, and nobody else's rows."""

from __future__ import annotations

from typing import Any

import yaml

from harness.errors import OtherLedgerError, UsageError
from harness.ledger.parts import read_rows
from harness.ledger.schema import TABLES
from harness.ledger.storage import Location
from harness.spec.manifest import BLIND
from harness.strict_json import read_object

SUITE_IDENTITY = ("name", "world", "tasks")
"""What makes two suites one ledger's; the protocol has its own digest. Policies, NFE, videos, limits and probes may
change from run to run: a second policy joins the first in its ledger."""


def check_claim(location: Location, suite_yaml: str, protocol_json: str, protocol_sha256: str, *, resume: bool) -> None:
    """Compare what lies in a directory with the run that wants it.

    Raises:
        UsageError: A ledger of the same suite and protocol, and `resume` is False.
        OtherLedgerError: A ledger of another suite or protocol (names both).
    """
    if not location.exists():
        return
    held = [table for table in TABLES if location.parts(table)]
    if not held:
        return
    for run in read_rows(location, "runs", ["run_id", "suite", "protocol", "protocol_sha256"]):
        _require_same_suite(location, run, suite_yaml)
        if run["protocol_sha256"] != protocol_sha256:
            differences = _differences(run["protocol"], protocol_json)
            raise OtherLedgerError(
                f"{location.label!r} holds run {run['run_id']!r} under protocol {_short(run['protocol_sha256'])}, not "
                f"{_short(protocol_sha256)}: {differences}. Give another --out."
                + (f" {BLIND}" if "renderer: 'none' against" in differences else "")
            )
    if not resume:
        raise UsageError(
            f"{location.label!r} already holds a ledger ({', '.join(held)}). "
            "Continue it with --resume, or give another --out."
        )
    if "runs" not in held:
        raise OtherLedgerError(
            f"{location.label!r} holds {', '.join(held)} but no table 'runs', so nobody knows which suite they belong "
            "to. Give another --out."
        )


def _require_same_suite(location: Location, run: dict[str, Any], suite_yaml: str) -> None:
    held, wanted = _parse(run["suite"]), _parse(suite_yaml)
    differing = ", ".join(key for key in SUITE_IDENTITY if held.get(key) != wanted.get(key))
    if not differing:
        return
    names = [str(suite.get("name", "without a name")) for suite in (held, wanted)]
    raise OtherLedgerError(
        f"{location.label!r} holds run {run['run_id']!r} of suite {names[0]!r}, not of suite {names[1]!r} "
        f"(they differ in: {differing}). Give another --out."
    )


def _parse(suite_yaml: str | None) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(suite_yaml or "")
    except yaml.YAMLError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"name": (suite_yaml or "").strip()[:80]}


def _differences(held_json: str | None, wanted_json: str) -> str:
    try:
        held, wanted = read_object(held_json or "{}", finite=False), read_object(wanted_json, finite=False)
    except ValueError:
        return "their manifests cannot be read"
    lines = []
    for suite in sorted(held.keys() | wanted.keys()):
        old, new = held.get(suite), wanted.get(suite)
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                lines.append(f"{suite}: {_presence(old)} against {_presence(new)}")
            continue
        lines += [
            f"{suite}.{key}: {old.get(key)!r} against {new.get(key)!r}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
    return "; ".join(lines) or "their manifests are equal, their hashes are not"


def _presence(value: object) -> str:
    if value is None:
        return "absent"
    return "present" if isinstance(value, dict) else repr(value)


def _short(sha256: str | None) -> str:
    return (sha256 or "none")[:12]

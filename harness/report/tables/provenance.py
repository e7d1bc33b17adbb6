"""What ran, where, and under which protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.analysis.summary import Summary
from harness.ledger.reader import read_manifests
from harness.report.format import count, gibibytes, moment, number, text
from harness.report.tables.table import Table, records


def run_table(summary: Summary) -> Table:
    """The runs of a ledger."""
    rows = tuple(
        (
            text(row["run_id"]),
            text(row["status"]),
            moment(row["started_at"]),
            moment(row["ended_at"]),
            text(row["git_revision"]),
            text(row["protocol_sha256"])[:12],
        )
        for row in records(summary.ledger.runs)
    )
    return Table("Runs", ("run", "status", "started", "ended", "git revision", "protocol"), rows, 6)


def policy_table(summary: Summary) -> Table:
    """What ran: each policy's checkpoint, digest of its weights, and dtype."""
    columns = ["policy_id", "checkpoint", "checkpoint_sha256", "dtype"]
    rows = tuple(
        (text(row["policy_id"]), text(row["checkpoint"]), text(row["checkpoint_sha256"])[:12], text(row["dtype"]))
        for row in records(summary.ledger.episodes[columns].drop_duplicates())
    )
    return Table("Policies", ("policy", "checkpoint", "sha256 of the weights", "dtype"), rows, 4)


def origin_table(summary: Summary) -> Table:
    """Where policies came from and how they were served, as they said it themselves."""
    rows = tuple(
        (label, key, value) for label, record in summary.records.items() for key, value in _origin_facts(record)
    )
    return Table("Origin of policies", ("policy", "key", "value"), rows, 3)


def _origin_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(str(key), str(value)) for key, value in (record.get("provenance") or {}).items()]
    serving = dict(record.get("serving") or {})
    measured = serving.pop("measured_ms", {})
    facts += [(f"serving: {key}", str(value)) for key, value in serving.items()]
    if measured:
        ordered = sorted(measured.items(), key=lambda item: int(item[0]))
        facts.append(("serving: ms by batch", ", ".join(f"{size}: {number(ms)}" for size, ms in ordered)))
    return facts


def node_table(summary: Summary) -> Table:
    """The machines that did the work, with the ceilings measured on them."""
    rows = tuple(
        (
            text(row["node_id"]),
            text(row["hardware"]),
            text(row["cpu"]),
            count(row["cores"]),
            gibibytes(row["memory_bytes"]),
            text(row["accelerator"]),
            text(row["driver"]),
            number(row["copy_gb_s"]),
            number(row["matmul_tflop_s"]),
            number(row["launch_us"]),
        )
        for row in records(summary.ledger.nodes.drop_duplicates("node_id", keep="last"))
    )
    columns = ("node", "hardware", "CPU", "cores", "memory", "accelerator", "driver")
    note = (
        "Copy bandwidth (read + write), matrix product rate and launch cost were measured on the node, not looked up."
    )
    return Table("Nodes", (*columns, "copy GB/s", "matmul TFLOP/s", "launch µs"), rows, 3, note)


def version_table(summary: Summary) -> Table:
    """Versions of software by run and node, one row per package; differing versions are all named."""
    found: dict[str, dict[str, None]] = {}
    for versions in [*summary.ledger.runs["versions"], *summary.ledger.nodes["versions"]]:
        for name, version in (versions or {}).items():
            found.setdefault(name, {})[str(version)] = None
    rows = tuple((name, " and ".join(found[name])) for name in sorted(found))
    return Table("Versions", ("package", "version"), rows, 2)


def protocol_tables(summary: Summary) -> list[Table]:
    """The protocol manifests, which decide a score besides the checkpoint: one table per suite."""
    manifests: dict[str, dict[str, Any]] = {}
    for protocol in summary.ledger.runs["protocol"].dropna():
        manifests |= read_manifests(protocol)
    return [
        Table(
            f"Protocol: {suite}",
            ("key", "value"),
            tuple((key, value if isinstance(value, str) else json.dumps(value)) for key, value in manifest.items()),
            2,
        )
        for suite, manifest in manifests.items()
    ]

"""The verbs by name, with all that `harness --help` needs of them, so that it imports none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class VerbEntry(NamedTuple):
    """Where a verb is, and what it is for."""

    module: str
    """In `harness.cli`; it holds `command` and `EXAMPLES`, or `app` where the verb has verbs of its own."""
    help: str
    """The first paragraph of its docstring, or its app's help; a test holds them equal."""


VERBS: Mapping[str, VerbEntry] = {
    "run": VerbEntry(
        "run",
        "Run a suite: LIBERO rollouts fanned out over Ray, then its latency probes, then a report.",
    ),
    "probe": VerbEntry(
        "probe",
        "Time a policy's decision by component: preprocess, vision, prefix, each denoise step, postprocess.",
    ),
    "prefix": VerbEntry(
        "prefix",
        "Print T(NFE), the prefix derived and measured, and which floor limits each component.",
    ),
    "predict": VerbEntry(
        "predict",
        "Predict end-to-end latency, with a band, and whether the policy fits into memory.",
    ),
    "serve": VerbEntry(
        "serve",
        "Serve a policy over openpi's websocket protocol, to `openpi://HOST:PORT` or to openpi's own client.",
    ),
    "report": VerbEntry(
        "report",
        "Print success with intervals, where the time went, latency by component, and provenance.",
    ),
    "replay": VerbEntry("replay", "Run one episode of a ledger again, filmed, and say whether it ended as before."),
    "compare": VerbEntry("compare", "Compare success and latency, episode by episode."),
    "agree": VerbEntry(
        "agree",
        "Set the actions of two policies side by side: the same observations, met by the teacher, and the same noise.",
    ),
    "delay": VerbEntry(
        "delay",
        "Find the largest delay of decisions under which success stays within a margin of the synchronous run's.",
    ),
    "gate": VerbEntry(
        "gate",
        "Judge a candidate by rules: PASS (exit code 0), FAIL (1) or INCONCLUSIVE (2), with a reason per rule.",
    ),
    "audit": VerbEntry(
        "audit",
        "Audit claimed gains: provable on the benchmark's episodes? Do they survive resampled placements and "
        "other words?",
    ),
    "baseline": VerbEntry(
        "baseline",
        "Accept ledgers as baselines, list them, and look for step changes over many nights.",
    ),
    "import": VerbEntry(
        "import_",
        "Import LeRobot's eval_info.json; several files (one per suite, say) make one ledger.",
    ),
    "export": VerbEntry(
        "export",
        "Write protocol, suite, episodes, versions, hardware, raw latency and fixture of a ledger into one archive.",
    ),
    "reproduce": VerbEntry(
        "reproduce",
        'Run the episodes of an archive again and say "same" or "differs by …".',
    ),
    "list": VerbEntry(
        "listing",
        "List what can be named: suites, policies, worlds, checkpoints, gates, profiles, architectures, tasks, "
        "columns.",
    ),
    "validate": VerbEntry(
        "validate",
        "Check suite files, their policies and their protocols, without running anything; every problem is told.",
    ),
    "watch": VerbEntry(
        "watch",
        "Watch a training run and evaluate its checkpoints, without ever making training wait.",
    ),
    "nightly": VerbEntry(
        "nightly",
        "Run the nightly suite and judge it: exit code 0 PASS, 1 FAIL, 2 INCONCLUSIVE, whatever becomes of --notify.",
    ),
    "ledger": VerbEntry("ledger", "Copy ledgers, with every byte verified; compact and merge them."),
    "cluster": VerbEntry("cluster", "Look at the nodes of a Ray cluster."),
    "checkpoint": VerbEntry("checkpoint", "Bring checkpoints to safety and back, with every byte verified."),
    "plan": VerbEntry(
        "plan",
        "Plan a run (`harness plan SUITE …`), a server, or which device to buy; nothing is run.",
    ),
    "doctor": VerbEntry(
        "doctor",
        "Check this machine for the failures that are known to cost days: GL, versions, disk, LIBERO's resources.",
    ),
}

"""`harness.plan`: a suite, its policies and nodes, and what the run will take. The public entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import NoLedgerError, UsageError
from harness.ledger.reader import Ledger
from harness.notebook import ShownInNotebooks
from harness.planning.evidence import RunEvidence, read_evidence
from harness.planning.forecast import Forecast, forecast
from harness.planning.nodes_file import NodeKind, NodesFile, load_nodes
from harness.planning.simulate import Setting
from harness.policies.registry import POLICIES
from harness.schedule.plan import SuiteCounts, TimingKey, plan_episodes
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite, load_suite, parse_policy
from harness.spec.changes import SuiteChanges
from harness.spec.policy import PolicyAtNfe, PolicySpec
from harness.spec.profile import load_profile
from harness.spec.timing import SYNCHRONOUS
from harness.time_source import TimeSource, WallTime
from harness.worlds.registry import get_world

SEARCHED = "reports"
"""Folder whose ledgers are drawn from when none is named."""
CALIBRATE = (
    "Calibrate first, in about two minutes: `harness run seed --policy POLICY --episodes 1 --out reports/calibration`."
)
MUST_AGREE = ("control_hz", "max_steps", "settle_steps")
"""Keys of the protocol that decide how long an episode takes."""


@dataclass(frozen=True, slots=True)
class SuitePlan(ShownInNotebooks):
    """What a run of a suite will take."""

    suite: str
    forecast: Forecast
    nodes: NodesFile
    cost: float | None
    """In the currency of the prices; None where a price is not known."""
    unpriced: tuple[str, ...]
    """Profiles without a price."""
    energy_kwh: float | None
    """At most: the profiles' power limits over the whole time; None where one is not known."""
    ledgers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        made = self.forecast
        return {
            "suite": self.suite,
            "episodes": made.episodes,
            "workers": made.workers,
            "finish_s": made.finish_s,
            "low_s": made.low_s,
            "high_s": made.high_s,
            "binds": [{"until_s": until, "what": what, "share": share} for until, what, share in made.bound],
            "shares": dict(made.shares),
            "utilisation": dict(made.utilisation),
            "server_busy": made.server_busy,
            "cost": self.cost,
            "energy_kwh_at_most": self.energy_kwh,
            "replications": made.replications,
            "assumed": list(made.notes),
            "ledgers": list(self.ledgers),
        }


def plan(
    suite: Suite | str,
    *,
    policies: Sequence[PolicySpec | str] | None = None,
    nfe: Sequence[int] | None = None,
    episodes: int | None = None,
    nodes: NodesFile | str | os.PathLike[str] | None = None,
    like: str | None = None,
    ledgers: Sequence[str] = (),
    workers: int | None = None,
    budget_s: float = 8.0,
    seed: int = 0,
    time: TimeSource | None = None,
) -> SuitePlan:
    """Forecast a run: finish time with a 90 % band, what binds, utilisation, cost. Nothing is run.

    Args:
        suite: A suite or its name.
        policies: Policies in place of the suite's.
        nfe: NFE values in place of the suite's.
        episodes: Init states of each task.
        nodes: Where it would run: a nodes file, or what is in one.
        like: A ledger: as it ran, on its nodes.
        ledgers: What durations are drawn from; empty: `like`, or every ledger below ./reports.
        workers: Rollout workers; None: as the scheduler places them.
        budget_s: Time for simulating.
        seed: Of all draws.
        time: Stopwatch; None for the machine's.

    Raises:
        UsageError: Nothing to plan from or for; ledgers of another protocol; no such name.
    """
    changed = changed_suite(suite, policies, nfe, episodes)
    found, sources = gather(ledgers or ([like] if like else []))
    where = nodes_of(nodes, like, found)
    units = plan_units(changed)
    require_same_protocol(changed, found)
    made = forecast(
        units,
        found,
        Setting(
            where.resources(),
            workers,
            {node.node_id: kind.start_s for node, kind in where.members()},
            changed.max_attempts,
        ),
        light=decides_in_workers(changed),
        max_steps={each.suite: changed.protocol.max_steps_of(each.suite) for each in changed.tasks},
        seconds=(time or WallTime()).seconds,
        budget_s=budget_s,
        seed=seed,
    )
    cost, unpriced = cost_of(where, made.finish_s)
    return SuitePlan(changed.name, made, where, cost, unpriced, energy_of(where, made.finish_s), sources)


def changed_suite(
    suite: Suite | str, policies: Sequence[PolicySpec | str] | None, nfe: Sequence[int] | None, episodes: int | None
) -> Suite:
    """A suite with what the command line puts in place of its own.

    Raises:
        UsageError: It names no policy, or nothing to roll out.
    """
    loaded = load_suite(suite) if isinstance(suite, str) else suite
    specs = tuple(parse_policy(each) if isinstance(each, str) else each for each in policies or ())
    changed = SuiteChanges(specs, tuple(nfe or ()), episodes=episodes).apply(loaded)
    if not changed.tasks:
        raise UsageError(f"Suite {changed.name!r} has no tasks: probes alone are not planned.")
    if not changed.policies:
        raise UsageError(f"Suite {changed.name!r} names no policy; give one with --policy, e.g. --policy flow.")
    return changed


def plan_units(suite: Suite) -> tuple[EpisodeUnit, ...]:
    """The suite unrolled as a run would, under keys that nobody else uses."""
    world = get_world(suite.world)
    sampled = suite.protocol.placements == "sampled"
    counts = {}
    for task_set in suite.tasks:
        described = world.describe(task_set.suite)
        states = (10**9,) * len(described.tasks) if sampled else described.n_init_states
        counts[task_set.suite] = SuiteCounts(states, "plan")
    variants = [
        (spec.label, value)
        for spec in suite.policies
        for value in ((suite.nfe or (None,)) if _has_nfe(spec) else (None,))
    ]
    timings = {PolicyAtNfe(*variant): _timings(suite) for variant in variants}
    return plan_episodes(suite.tasks, counts, variants, timings)


def _timings(suite: Suite) -> tuple[TimingKey, ...]:
    """Clocks × sources of delays; which of them a policy cannot do is not known before it is loaded."""
    sources: list[str | None] = [each.source for each in suite.latency]
    return tuple(
        (clock, source)
        for clock in suite.clock
        for source in ([None] if clock == SYNCHRONOUS or not sources else sources)
    )


def _has_nfe(spec: PolicySpec) -> bool:
    return spec.kind not in ("scripted", "noop", "random")


def decides_in_workers(suite: Suite) -> Callable[[str], bool]:
    """Policy label → whether rollout workers decide for themselves."""
    kinds = {spec.label: POLICIES.is_light(spec.kind) for spec in suite.policies}
    return lambda label: kinds.get(label, False)


def gather(paths: Sequence[str]) -> tuple[list[RunEvidence], tuple[str, ...]]:
    """Evidence of ledgers, or of every one below ./reports when none is named.

    Raises:
        UsageError: There is none.
    """
    named = list(paths) or [str(path) for path in find_ledgers(Path(SEARCHED))]
    if not named:
        raise UsageError(f"No ledger to plan from: none was named, and none is below ./{SEARCHED}. {CALIBRATE}")
    found = [run for path in named for run in read_evidence(Ledger(path))]
    if not found:
        raise UsageError(f"No ledger to plan from: {', '.join(named)} holds no finished episode. {CALIBRATE}")
    return found, tuple(dict.fromkeys(run.ledger for run in found))


def find_ledgers(folder: Path, most: int = 40) -> list[Path]:
    """Ledgers with episodes below a folder, the newest first."""
    places = [path.parent for path in folder.glob("**/episodes") if path.is_dir() and any(path.glob("part-*.parquet"))]
    return sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)[:most]


def nodes_of(
    nodes: NodesFile | str | os.PathLike[str] | None, like: str | None, found: Sequence[RunEvidence]
) -> NodesFile:
    """The nodes of a plan.

    Raises:
        UsageError: Neither a nodes file nor a ledger was named.
        NoLedgerError: `like` holds no run with nodes.
    """
    if isinstance(nodes, NodesFile):
        return nodes
    if nodes is not None:
        return load_nodes(Path(nodes))
    if like is None:
        raise UsageError("Where would it run? Name a nodes file (--nodes), a ledger (--like) or a cluster (--address).")
    table = Ledger(like).nodes
    runs = [run for run in found if run.ledger == like]
    if not len(table) or not runs:
        raise NoLedgerError(f"{like!r} holds no run with nodes; name another ledger, or a nodes file with --nodes.")
    last = table[table["run_id"] == runs[-1].run_id]
    kinds = [
        NodeKind(
            profile=str(row["hardware"]) if isinstance(row["hardware"], str) else "cpu",
            cores=int(row["cores"]),
            gpus=int(isinstance(row["accelerator"], str)),
            memory_gb=float(row["memory_bytes"]) / 1e9,
        )
        for row in last.to_dict("records")
    ]
    return NodesFile(nodes=tuple(kinds))


def require_same_protocol(suite: Suite, runs: Sequence[RunEvidence]) -> None:
    """Refuse ledgers whose episodes are of other lengths than the planned ones.

    Raises:
        UsageError: Names the ledger, the key and both values, when no ledger agrees.
    """
    protocol = suite.protocol
    told = []
    for task_set in suite.tasks:
        wanted: Mapping[str, Any] = {
            "control_hz": protocol.control_hz,
            "settle_steps": protocol.settle_steps,
            "max_steps": protocol.max_steps_of(task_set.suite),
        }
        for run in runs:
            held = run.protocols.get(task_set.suite)
            if held is None:
                return
            wrong = [key for key in MUST_AGREE if key in held and held[key] != wanted[key]]
            if not wrong:
                return
            told.append((run.ledger, wrong[0], held[wrong[0]], wanted[wrong[0]]))
    if told:
        ledger, key, held_value, value = told[0]
        raise UsageError(
            f"{ledger} was run under another protocol: {key} is {held_value} there and {value} in suite "
            f"{suite.name!r}. Name a ledger of this protocol with --from."
        )


def cost_of(nodes: NodesFile, seconds: float) -> tuple[float | None, tuple[str, ...]]:
    """(cost in the prices' currency, profiles without a price)."""
    unpriced = tuple(kind.profile for kind in nodes.nodes if kind.price_per_hour is None)
    if unpriced:
        return None, unpriced
    return sum(kind.count * (kind.price_per_hour or 0.0) for kind in nodes.nodes) * seconds / 3600, ()


def energy_of(nodes: NodesFile, seconds: float) -> float | None:
    """Accelerators at their power limit for the whole time, kWh; None where a limit is not known."""
    total = 0.0
    for kind in nodes.nodes:
        power = load_profile(kind.profile).power_w
        if power is None:
            return None
        total += kind.count * max(kind.gpus, 1) * power.value * seconds / 3.6e6
    return total

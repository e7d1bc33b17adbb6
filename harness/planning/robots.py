"""How many robots one policy server feeds: its queue in simulated time, by the rules that batch a real one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError, unknown_name
from harness.ledger import Ledger
from harness.schedule.batching import Waiting, bucket_of, choose_batch, next_batch, patience
from harness.spec.policy import PolicyAtNfe

Arrivals = Literal["periodic", "poisson"]
"""Each robot asks at its rate from a phase of its own; or requests come at random at that mean rate."""
ARRIVALS: tuple[Arrivals, ...] = get_args(Arrivals)

REQUESTS, EACH = 5000, 40
"""Least requests of one simulation, and of each robot: a 99th percentile of 5,000 rests on 50."""
RECENT = 64
"""Gaps between arrivals that a server looks back on."""
LEAST_SAMPLES = 20
"""Samples of a batch size below which its median is not looked at, where another has as many."""
SEEDS = 5
"""Simulations of each number of robots; the objective has to hold in all."""
SOON_S = 1e-6
"""No server waits for less."""
MOST = 100_000
"""Robots beyond which nobody looks."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of the answers within a time."""

    quantile: float
    """In (0, 1)."""
    limit_ms: float

    @property
    def text(self) -> str:
        """As it is written, e.g. "p99 ≤ 100 ms"."""
        return f"p{100 * self.quantile:g} ≤ {self.limit_ms:g} ms"


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """What a decision takes on a server, as measured."""

    variant: PolicyAtNfe
    hardware: str
    by_batch: Mapping[int, NDArray[np.float64]]
    """Batch size → durations, ms."""
    source: str
    """Where they come from, in words."""


@dataclass(frozen=True, slots=True)
class _Service:
    """Durations to draw from: a median of each batch size, and how far single decisions lay from theirs.

    The spread is that of all sizes together: of some there are but a few samples, and one that was slow would make a
    larger batch look quicker than a smaller one.
    """

    medians_ms: Mapping[int, float]
    ratios: NDArray[np.float64]

    @classmethod
    def of(cls, by_batch: Mapping[int, NDArray[np.float64]]) -> _Service:
        enough = {size: each for size, each in by_batch.items() if len(each) >= LEAST_SAMPLES} or dict(by_batch)
        medians = {size: float(np.median(enough[size])) for size in sorted(enough)}
        ratios = np.concatenate([enough[size] / medians[size] for size in medians])
        # A larger batch takes no less than a smaller one; what was measured otherwise is chance.
        rising = np.maximum.accumulate(list(medians.values()))
        return cls(dict(zip(medians, map(float, rising), strict=True)), ratios)

    def of_batch_s(self, most: int) -> list[float]:
        """Median duration of a batch of 0, 1, … `most` decisions, seconds."""
        sizes = list(self.medians_ms)
        return [self.medians_ms[bucket_of(max(n, 1), sizes)] / 1e3 for n in range(most + 1)]


@dataclass(frozen=True, slots=True)
class Load:
    """A number of robots at one server."""

    robots: int
    p50_ms: float
    quantile_ms: float
    """The objective's quantile, the worst of the simulations."""
    busy: float
    """Share of time in which the server computes."""
    batch: float
    """Mean decisions in one batch."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many robots one server feeds."""

    arrivals: Arrivals
    robots: int
    """The most with which the objective holds; 0: not even one."""
    loads: tuple[Load, ...]
    """Loads about the answer, ascending."""


def parse_objective(text: str) -> Objective:
    """Parse "p99=100ms".

    Raises:
        UsageError: It is no percentile with a duration.
    """
    from harness.spec.timing import milliseconds

    name, equals, limit = text.partition("=")
    try:
        share = float(name.strip().removeprefix("p")) / 100
    except ValueError:
        share = 0.0
    if not equals or not name.strip().startswith("p") or not 0 < share < 1:
        raise UsageError(f"--slo is {text!r}; write a percentile and a time, e.g. --slo p99=100ms.")
    found = milliseconds(limit)
    if found <= 0:
        raise UsageError(f"--slo is {text!r}: no answer takes 0 ms; give a longer time.")
    return Objective(share, found)


def service_times(paths: Sequence[str], policy: str, nfe: int | None, hardware: str | None) -> ServiceTimes:
    """Read what a policy's decisions took on a device: in batches of a run that served it, else as a probe timed it.

    Args:
        paths: Ledgers of probes or runs.
        policy: Its label.
        nfe: NFE; None for the only one, or for a policy without.
        hardware: Device by profile; None for the only one.

    Raises:
        NoLedgerError: No ledger at a path.
        UsageError: Nothing of it is there (names what is), or more than one NFE or device.
    """
    ledger = Ledger(*paths)
    probed = ledger.latency[ledger.latency["component"] == "e2e"]
    probed = probed.assign(ms=probed["latency_ms"], kind="probe")
    served = ledger.decisions[ledger.decisions["transport_ms"].notna()]
    served = served.assign(ms=served["infer_ms"], kind="run")
    names = sorted({*probed["policy_id"].dropna(), *served["policy_id"].dropna()})
    if policy not in names:
        raise unknown_name("timed policy", policy, names)
    for rows in (served, probed):
        mine = rows[rows["policy_id"] == policy]
        mine = mine[mine["nfe"] == nfe] if nfe is not None else mine
        mine = mine[mine["hardware"] == hardware] if hardware is not None else mine
        if mine.empty:
            continue
        _require_one("NFE", "--nfe", mine["nfe"].dropna().unique().tolist(), policy)
        _require_one("device", "--device", mine["hardware"].dropna().unique().tolist(), policy)
        found = {int(cast("int", size)): part["ms"].to_numpy(float) for size, part in mine.groupby("batch_size")}
        first = mine.iloc[0]
        at = None if mine["nfe"].isna().all() else int(mine["nfe"].dropna().iloc[0])
        sizes = ", ".join(map(str, sorted(found)))
        how = {"run": "decisions of a run", "probe": "samples of a probe"}[first["kind"]]
        told = f"{len(mine):,} {how}, batches of {sizes}"
        return ServiceTimes(PolicyAtNfe(policy, at), str(first["hardware"]), found, told)
    everything = [*zip(probed["policy_id"], probed["nfe"], probed["hardware"], strict=True)]
    everything += zip(served["policy_id"], served["nfe"], served["hardware"], strict=True)
    there = sorted({f"NFE {at} on {where}" for name, at, where in everything if name == policy})
    asked = " ".join([*([f"at NFE {nfe}"] if nfe is not None else []), *([f"on {hardware}"] if hardware else [])])
    raise UsageError(
        f"Nothing says what {policy!r} takes {asked}; there is {', '.join(there)}. Probe it there (`harness probe`)."
    )


def _require_one(what: str, option: str, values: list[object], policy: str) -> None:
    if len(values) > 1:
        raise UsageError(
            f"{policy!r} was timed at more than one {what}: {', '.join(map(str, values))}. Say which: {option}."
        )


def capacity(
    times: ServiceTimes, *, hz: float, objective: Objective, arrivals: Arrivals, network_ms: float = 0.0, seed: int = 0
) -> Capacity:
    """Find the most robots that one server feeds.

    Args:
        times: What decisions take.
        hz: Decisions a second of each robot.
        objective: What has to hold.
        arrivals: How requests come.
        network_ms: Added to every answer, there and back.
        seed: Of phases, gaps and the draw of durations.
    """
    seen: dict[int, Load] = {}

    def holds(robots: int) -> bool:
        if robots not in seen:
            seen[robots] = _load(times, robots, hz, objective, arrivals, network_ms, seed)
        return seen[robots].quantile_ms <= objective.limit_ms

    low, high = 0, 1
    while high < MOST and holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    about = sorted({max(low // 2, 1), max(low, 1), low + 1, max(low, 1) * 2})
    for robots in about:
        holds(robots)
    return Capacity(arrivals, low, tuple(seen[robots] for robots in about))


def _load(
    times: ServiceTimes,
    robots: int,
    hz: float,
    objective: Objective,
    arrivals: Arrivals,
    network_ms: float,
    seed: int,
) -> Load:
    found = []
    for number in range(SEEDS):
        rng = np.random.default_rng([seed, number, robots])
        asked = _asked_s(robots, hz, arrivals, rng)
        found.append(_serve(times, asked, robots, rng))
    waits = [waits_ms + network_ms for waits_ms, _, _ in found]
    return Load(
        robots,
        float(np.median(np.concatenate(waits))),
        max(float(np.quantile(each, objective.quantile)) for each in waits),
        float(np.mean([busy for _, busy, _ in found])),
        float(np.mean([batch for _, _, batch in found])),
    )


def _asked_s(robots: int, hz: float, arrivals: Arrivals, rng: np.random.Generator) -> NDArray[np.float64]:
    """When requests come, seconds, ascending."""
    n = max(-(-REQUESTS // robots), EACH)
    if arrivals == "poisson":
        return np.cumsum(rng.exponential(1 / (hz * robots), n * robots))
    phases = rng.uniform(0, 1 / hz, robots)
    return np.sort((phases[:, None] + np.arange(n)[None, :] / hz).ravel())


def _serve(
    times: ServiceTimes, asked: NDArray[np.float64], robots: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float, float]:
    """One server: (what each request waited for its answer, ms; share of time busy; mean batch)."""
    service = _Service.of(times.by_batch)
    max_batch, longest_s = choose_batch({size: ms / 1e3 for size, ms in service.medians_ms.items()})
    usual_s, ratios = service.of_batch_s(max_batch), rng.choice(service.ratios, len(asked)).tolist()
    came = asked.tolist()
    waits = np.empty(len(asked))
    queue: deque[int] = deque()
    gaps: deque[float] = deque(maxlen=RECENT)
    now, coming, busy_s, batches = 0.0, 0, 0.0, 0
    while coming < len(asked) or queue:
        if not queue:
            now = max(now, came[coming])
        while coming < len(asked) and came[coming] <= now:
            if coming:
                gaps.append(came[coming] - came[coming - 1])
            queue.append(coming)
            coming += 1
        wait_s = patience(gaps, longest_s) if longest_s else 0.0
        waiting: dict[int | None, Waiting] = {None: Waiting(came[queue[0]], len(queue))}
        _, left_s = next_batch(waiting, now, max_batch=max_batch, max_wait_s=wait_s, n_clients=robots)
        if left_s > SOON_S and coming < len(asked):
            now = min(now + left_s, came[coming])
            continue
        batch = [queue.popleft() for _ in range(min(len(queue), max_batch))]
        took_s = usual_s[len(batch)] * ratios[batches]
        now += took_s
        busy_s += took_s
        batches += 1
        waits[batch] = (now - asked[batch]) * 1e3
    return waits, busy_s / now, len(asked) / batches

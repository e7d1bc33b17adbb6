"""Inputs of a simulated run, drawn again from the raw samples of the runs that are nearest to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.errors import UsageError
from harness.planning.evidence import REAL_TIME, EpisodeSample, RunEvidence, ServedTimes
from harness.schedule.order import TaskId
from harness.schedule.plan import TimingKey
from harness.schedule.units import EpisodeUnit
from harness.spec.policy import PolicyAtNfe
from harness.spec.profile import CPU_PROFILE

ONE_RUN, PRIOR_RUNS = 0.15, 2
"""Spread of the logarithm of a run's time between hosts of one profile, as long as no ledger says otherwise, and how
many runs that word counts for (`between_runs`)."""
OTHER_LOAD, OTHER_SUITE, OTHER_NFE, OTHER_POLICY, OTHER_MACHINE, OTHER_CLOCK = 0.08, 0.15, 0.1, 0.2, 0.3, 0.3
"""What is added to it, in squares, for what the samples differ in (`OTHER_LOAD` for each factor of two). Set by hand
from held-out runs (`tests/benchmarks/bench_plan.py`), and rounded up."""
SHARED_CORE = 0.45
"""Physics takes (load ratio) to this power longer as a node's threads fill up: two threads of one core share it."""
MIN_SAMPLES = 5
NO_GPU = (CPU_PROFILE, "unknown")
"""What ledgers call a node without an accelerator."""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What one policy of a plan is drawn from."""

    samples: tuple[EpisodeSample, ...]
    by_task: Mapping[TaskId, tuple[EpisodeSample, ...]]
    lengths: Mapping[TaskId, tuple[EpisodeSample, ...]]
    """Own episodes from elsewhere, of tasks that the samples lack, or of all where the samples are another policy's or
    under another clock: their steps, decisions and success count, not their times."""
    pace: Mapping[str, float]
    """Suite that the samples lack → what a step takes there beside one of theirs."""
    solved_steps: tuple[int, ...]
    """Control steps of successes, of this policy wherever it was played, else of the samples."""
    served: ServedTimes | None
    run: RunEvidence
    """Where the samples are from."""
    known_success: bool
    """Whether the samples are this policy's own, so that its rate of success is known."""
    spread: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Basis:
    """Everything that a simulated run draws from."""

    policies: Mapping[PolicyAtNfe, PolicySource]
    startup_s: tuple[float, ...]
    end_s: float
    build_s: tuple[float, ...]
    idle_s: tuple[float, ...]
    error_rate: float
    max_steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """Spread of the logarithm of the whole run's time."""
        return max(source.spread for source in self.policies.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed."""
        return tuple(dict.fromkeys(note for source in self.policies.values() for note in source.notes))


def find_basis(
    units: Iterable[EpisodeUnit],
    runs: Sequence[RunEvidence],
    *,
    hardware: str,
    load: float,
    cores: float | None = None,
    light: Callable[[str], bool] | None = None,
    max_steps: Mapping[str, int] | None = None,
    choice: int = 0,
) -> Basis:
    """Choose what to draw from.

    Args:
        units: The plan.
        runs: Evidence; the nearest in policy, machine, suite and load is taken.
        hardware: Profile of the planned nodes.
        load: Planned workers on each core.
        cores: Cores of one planned node; None: any.
        light: Policy label → whether workers decide for themselves; None: as its samples did.
        max_steps: LIBERO suite → length of a timeout, where the plan says so.
        choice: Which of several runs that are equally near; any number.

    Raises:
        UsageError: No run has an episode, or a policy needs a server and nobody has timed one like it.
    """
    usable = [run for run in runs if run.episodes]
    if not usable:
        raise UsageError(
            "No episode to plan from. Calibrate first, in about two minutes: "
            "`harness run seed --policy POLICY --episodes 1 --out reports/calibration`, then plan with "
            "`--from reports/calibration`."
        )
    wanted: dict[PolicyAtNfe, _Wanted] = {}
    for unit in units:
        asked = wanted.setdefault(unit.policy_at_nfe, _Wanted())
        asked.suites.add(unit.suite)
        asked.timings.add((unit.clock, unit.latency_source))
    there = _Place(hardware, load, cores, between_runs(usable, hardware))
    policies = {
        variant: _policy_source(variant, asked, usable, there, light, choice) for variant, asked in wanted.items()
    }
    served = any(source.served for source in policies.values())
    names = {variant.policy_id for variant in policies}

    def apart(run: RunEvidence) -> tuple[bool, bool, bool, float]:
        others = names.isdisjoint(held.policy_id for held in run.episodes)
        return run.hardware != hardware, bool(run.served) != served, others, there.cores_apart(run)

    # Start-up and builds of one run belong together: a machine that keeps nothing yet is slow in both.
    near = sorted((run for run in usable if run.startup_s), key=apart) or usable
    alike = [run for run in near if apart(run)[:3] == apart(near[0])[:3]][:6]
    chosen = alike[choice % len(alike)]
    sources = [source.run for source in policies.values()]
    if sources[0].startup_s and apart(sources[0])[:3] == apart(near[0])[:3]:
        chosen = sources[0]
    builders = [run for run in near if run.build_s][:6]
    build = chosen.build_s or (builders[choice % len(builders)].build_s if builders else (1.5,))
    idle = [seconds for run in near[:2] for seconds in run.idle_s] or [0.01]
    return Basis(
        policies,
        startup_s=(float(np.median(chosen.startup_s)) if chosen.startup_s else 15.0,),
        end_s=chosen.end_s,
        build_s=build,
        idle_s=tuple(idle),
        error_rate=float(np.mean([source.run.error_rate for source in policies.values()])),
        max_steps=max_steps or {},
    )


def between_runs(runs: Sequence[RunEvidence], hardware: str) -> float:
    """How much hosts of one profile differ: spread of the logarithm of what a control step's physics takes.

    Over runs with as many cores and workers each, pooled, and drawn towards `ONE_RUN` where there are few.
    """
    groups: dict[tuple[int, int], list[float]] = {}
    for run in runs:
        samples = [sample for members in run.episodes.values() for sample in members]
        steps, physics_s = sum(each.steps for each in samples), sum(each.physics_s for each in samples)
        if run.hardware == hardware and steps and physics_s > 0:
            groups.setdefault((run.cores, run.workers), []).append(math.log(physics_s / steps))
    squares = sum((value - np.mean(members)) ** 2 for members in groups.values() for value in members)
    freedom = sum(len(members) - 1 for members in groups.values())
    return math.sqrt((PRIOR_RUNS * ONE_RUN**2 + float(squares)) / (PRIOR_RUNS + freedom))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is planned of one policy."""

    suites: set[str] = field(default_factory=set)
    timings: set[TimingKey] = field(default_factory=set)

    @property
    def in_real_time(self) -> set[bool]:
        """Whether its episodes wait for a real clock: some may, and some not."""
        return {clock == REAL_TIME for clock, _ in self.timings}


@dataclass(frozen=True, slots=True)
class _Place:
    """What is planned to run on."""

    hardware: str
    load: float
    cores: float | None
    between: float
    """See `between_runs`."""

    def cores_apart(self, run: RunEvidence) -> float:
        """Factors of two between the cores."""
        return 0.0 if self.cores is None else round(abs(math.log2(max(self.cores, 1) / max(run.cores, 1))), 1)

    def load_apart(self, run: RunEvidence) -> float:
        return round(abs(math.log2(max(self.load, 1e-3) / max(run.load, 1e-3))), 1)


def _policy_source(
    variant: PolicyAtNfe,
    wanted: _Wanted,
    runs: Sequence[RunEvidence],
    place: _Place,
    light: Callable[[str], bool] | None,
    choice: int,
) -> PolicySource:
    local = light(variant.policy_id) if light is not None and variant.policy_id else None
    ranked = sorted(
        (
            (_distance(variant, held, wanted, run, place), -index, held)
            for index, run in enumerate(runs)
            for held in run.episodes
            if local is None or (held not in run.served) == local
        ),
        key=lambda entry: entry[:2],
    )
    if not ranked or (ranked[0][0][0] >= 3 and local is None):
        raise UsageError(
            f"Nobody has timed a policy like {variant.label!r}"
            + (": the ledgers hold no served policy. " if local is False else ". ")
            + "Calibrate first, in about two minutes: `harness run seed --policy "
            f"{variant.policy_id} --episodes 1 --out reports/calibration`, then plan with `--from reports/calibration`."
        )
    alike = [entry for entry in ranked if entry[0] == ranked[0][0]]
    _, index, held = alike[choice % len(alike)]
    run = runs[-index]
    ratio = place.load / run.load if run.load > 0 else 1.0
    # Two threads share a core, and beyond one worker a thread all share in turn.
    played = run.episodes[held]
    alike_clock = [sample for sample in played if sample.in_real_time in wanted.in_real_time]
    samples = _scaled(alike_clock or played, ratio if ratio > 1 and run.load >= 1 else ratio**SHARED_CORE)
    by_task: dict[TaskId, list[EpisodeSample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    elsewhere = wanted.suites - {task[0] for task in by_task}
    own = held.policy_id == variant.policy_id
    own_timing = own and wanted.timings <= {sample.timing for sample in played}
    lengths = _lengths(variant, elsewhere if own_timing else wanted.suites, wanted.timings, runs)
    known = own_timing or wanted.suites <= {task[0] for task in lengths}
    pace = _pace(elsewhere, {task[0] for task in by_task}, runs)
    spread, notes = _doubts(variant, held, known, elsewhere - pace.keys(), run, place, ratio, len(alike))
    if own and not known:
        notes.append(
            f"{variant.label}: not played under this clock and these delays yet; the band is over every rate of "
            "success from 0 to 100 %"
        )
    if not alike_clock:
        spread = math.hypot(spread, OTHER_CLOCK)
        notes.append(f"{variant.label}: timed under another kind of clock ({run.ledger}): real time, or none")
    return PolicySource(
        samples,
        {task: tuple(members) for task, members in by_task.items()},
        lengths,
        pace,
        _solved_steps(variant, wanted.suites, runs) or tuple(each.steps for each in samples if each.success),
        run.served.get(held),
        run,
        known,
        spread,
        tuple(notes),
    )


def _lengths(
    variant: PolicyAtNfe, suites: set[str], timings: set[TimingKey], runs: Sequence[RunEvidence]
) -> dict[TaskId, tuple[EpisodeSample, ...]]:
    """The policy's own episodes of suites, under clocks and delays, from wherever they were played."""
    found: dict[TaskId, list[EpisodeSample]] = {}
    played = [
        (held, samples) for run in runs for held, samples in run.episodes.items() if held.policy_id == variant.policy_id
    ]
    exact = [(held, samples) for held, samples in played if held.nfe == variant.nfe]
    for _, samples in exact or played:
        for sample in samples:
            if sample.task[0] in suites and sample.timing in timings:
                found.setdefault(sample.task, []).append(sample)
    return {task: tuple(members) for task, members in found.items()}


def _pace(suites: set[str], held: set[str], runs: Sequence[RunEvidence]) -> dict[str, float]:
    """Suite that the samples lack → what a step of its physics takes beside one of theirs, median over runs of both."""
    found: dict[str, list[float]] = {suite: [] for suite in suites}
    for run in runs:
        totals: dict[str, list[float]] = {}
        for sample in (each for members in run.episodes.values() for each in members):
            total = totals.setdefault(sample.task[0], [0.0, 0.0])
            total[0] += sample.physics_s
            total[1] += sample.steps
        cost = {suite: seconds / steps for suite, (seconds, steps) in totals.items() if steps and seconds > 0}
        theirs = [cost[suite] for suite in held if suite in cost]
        for suite in suites & cost.keys() if theirs else ():
            found[suite].append(cost[suite] / float(np.mean(theirs)))
    return {suite: float(np.median(ratios)) for suite, ratios in found.items() if ratios}


def _solved_steps(variant: PolicyAtNfe, suites: set[str], runs: Sequence[RunEvidence]) -> tuple[int, ...]:
    """Under another clock a policy may succeed seldom, and then late; successes from everywhere say how long one is."""
    return tuple(
        sample.steps
        for run in runs
        for held, samples in run.episodes.items()
        if held.policy_id == variant.policy_id
        for sample in samples
        if sample.success and sample.task[0] in suites
    )


def _distance(
    variant: PolicyAtNfe, held: PolicyAtNfe, wanted: _Wanted, run: RunEvidence, place: _Place
) -> tuple[int, int, int, int, float, float]:
    """How far samples are from what is planned: policy, machine, suite, clock, load, cores, each smaller for nearer."""
    if held.policy_id == variant.policy_id and variant.nfe in (None, held.nfe):
        policy = 0
    elif held.policy_id == variant.policy_id:
        policy = 1
    elif _kind(held) == _kind(variant):
        policy = 2
    else:
        policy = 3
    if held in run.served and (run.hardware in NO_GPU) != (place.hardware in NO_GPU):
        # A GPU's decisions say less of a CPU's than those at another NFE.
        policy += 2
    samples = run.episodes[held]
    if wanted.in_real_time.isdisjoint(sample.in_real_time for sample in samples):
        # A step of a real clock takes its period, and another policy under that clock says more.
        policy += 4
    other = int(run.hardware != place.hardware)
    suites = len(wanted.suites - {sample.task[0] for sample in samples})
    timings = len(wanted.timings - {sample.timing for sample in samples})
    return policy, other, suites, timings, place.load_apart(run), place.cores_apart(run)


def _kind(variant: PolicyAtNfe) -> str:
    return (variant.policy_id or "").partition(":")[0].partition("?")[0]


def _doubts(
    variant: PolicyAtNfe,
    held: PolicyAtNfe,
    known: bool,
    elsewhere: set[str],
    run: RunEvidence,
    place: _Place,
    ratio: float,
    n_alike: int,
) -> tuple[float, list[str]]:
    # The planned host is off by as much as the timed one; several that are alike are each one way it may go.
    parts, notes = [place.between * math.sqrt(2 / n_alike)], []
    if held.policy_id != variant.policy_id:
        parts.append(OTHER_POLICY)
        lengths = (
            "lengths of its episodes are from elsewhere"
            if known
            else ("no episode of it is known, and the band is over every rate of success from 0 to 100 %")
        )
        notes.append(f"{variant.label}: speed is that of {held.label} ({run.ledger}); {lengths}")
    elif variant.nfe not in (None, held.nfe):
        parts.append(OTHER_NFE)
        notes.append(f"{variant.label}: timed as {held.label}")
    if run.hardware != place.hardware:
        parts.append(OTHER_MACHINE)
        notes.append(f"{variant.label}: timed on {run.hardware}, and taken to be as quick on {place.hardware}")
    if elsewhere:
        parts.append(OTHER_SUITE)
        notes.append(f"{variant.label}: {', '.join(sorted(elsewhere))} was not timed; its other suites stand for it")
    if abs(ratio - 1) > 0.1:
        parts.append(OTHER_LOAD * abs(math.log2(ratio)))
    return math.hypot(*parts), notes


def _scaled(samples: Sequence[EpisodeSample], factor: float) -> tuple[EpisodeSample, ...]:
    """As long as on a busier node; a step of a real clock takes its period on any."""
    return tuple(
        sample
        if sample.in_real_time
        else EpisodeSample(
            sample.task,
            sample.success,
            sample.steps,
            sample.decisions,
            sample.reset_s * factor,
            sample.physics_s * factor,
            sample.render_s * factor,
            sample.wait_s * factor,
            sample.wall_s * factor,
            sample.timing,
        )
        for sample in samples
    )


class Draws:
    """One replication's draws: which episodes, batches and builds happen to come."""

    def __init__(self, basis: Basis, seed: int, success: float | None = None) -> None:
        """Begin.

        Args:
            basis: What to draw from.
            seed: Of this replication.
            success: Rate of success of policies whose own is not known; None for a draw of the rate itself.
        """
        self._basis, self._rng = basis, np.random.default_rng(seed)
        self._success = float(self._rng.random()) if success is None else success
        self._batches: dict[tuple[PolicyAtNfe, int], Sequence[float]] = {}

    def episode(self, unit: EpisodeUnit) -> EpisodeSample:
        """An episode of a unit: of its own task where that was run often enough."""
        source = self._basis.policies[unit.policy_at_nfe]
        own = source.by_task.get(unit.task, ())
        pool = own if len(own) >= MIN_SAMPLES or (own and source.known_success) else source.samples
        sample = self._one(pool)
        if there := source.lengths.get(unit.task):
            played = self._one(there)
            sample = _stretched(sample, played.steps, played.success, played.decisions)
        if unit.suite in source.pace:
            sample = _scaled([sample], source.pace[unit.suite])[0]
        limit = self._basis.max_steps.get(unit.suite)
        if not source.known_success:
            solved = bool(self._rng.random() < self._success)
            longest = limit or max(each.steps for each in source.samples)
            steps = self._one(source.solved_steps) if solved and source.solved_steps else longest
            return _stretched(sample, steps, solved)
        if not sample.success and limit and limit != sample.steps:
            return _stretched(sample, limit, False)
        return sample

    def error(self) -> bool:
        """Whether the infrastructure fails an attempt."""
        return self._basis.error_rate > 0 and bool(self._rng.random() < self._basis.error_rate)

    def startup_s(self) -> float:
        """From the run's start to a worker's first question."""
        return self._one(self._basis.startup_s)

    def build_s(self) -> float:
        """Opening a task."""
        return self._one(self._basis.build_s)

    def idle_s(self) -> float:
        """Between two episodes."""
        return self._one(self._basis.idle_s)

    def transport_s(self, variant: PolicyAtNfe) -> float:
        """To a server and back."""
        served = self._basis.policies[variant].served
        return self._one(served.transport_s) if served is not None and served.transport_s else 0.0

    def batch_s(self, variant: PolicyAtNfe, size: int) -> float:
        """Seconds of a batch: samples of this size, else of the nearest, in proportion to what size costs."""
        key = (variant, size)
        if key not in self._batches:
            served = self._basis.policies[variant].served
            assert served is not None  # noqa: S101
            self._batches[key] = batch_samples(served.infer_s, size)
        return self._one(self._batches[key])

    def _one[T](self, pool: Sequence[T]) -> T:
        return pool[int(self._rng.random() * len(pool))]


def batch_samples(infer_s: Mapping[int, Sequence[float]], size: int) -> Sequence[float]:
    """Samples of a batch size; of one that was not timed, the nearest one's along the line through the medians."""
    if len(infer_s.get(size, ())) >= MIN_SAMPLES:
        return infer_s[size]
    timed = {n: float(np.median(values)) for n, values in infer_s.items() if len(values) >= MIN_SAMPLES}
    timed = timed or {n: float(np.median(values)) for n, values in infer_s.items()}
    nearest = min(timed, key=lambda n: abs(n - size))
    slope = float(np.polyfit(list(timed), list(timed.values()), 1)[0]) if len(timed) > 1 else 0.0
    factor = max(timed[nearest] + max(slope, 0.0) * (size - nearest), 0.5 * timed[nearest]) / timed[nearest]
    return [value * factor for value in infer_s[nearest]]


def _stretched(sample: EpisodeSample, steps: int, success: bool, decisions: int | None = None) -> EpisodeSample:
    """The sample's speed over another number of steps; decisions in proportion, where nobody says how many."""
    factor = steps / max(sample.steps, 1)
    rest = sample.wall_s - sample.reset_s
    return EpisodeSample(
        sample.task,
        success,
        steps,
        decisions or max(round(sample.decisions * factor), 1),
        sample.reset_s,
        sample.physics_s * factor,
        sample.render_s * factor,
        sample.wait_s * factor,
        sample.reset_s + rest * factor,
        sample.timing,
    )

"""Inputs of a simulated run, drawn again from the raw samples of the runs that are nearest to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.errors import UsageError
from harness.planning.evidence import EpisodeSample, RunEvidence, ServedTimes
from harness.schedule.order import TaskId
from harness.schedule.units import EpisodeUnit
from harness.spec.policy import PolicyAtNfe
from harness.spec.profile import CPU_PROFILE

ONE_RUN, SAME = 0.15, 0.08
"""Spread of the logarithm of a run's time around the truth, where one run is known that is alike, and where several are
that each count as one possible world: machines of one name differ by a fifth."""
OTHER_LOAD, OTHER_SUITE, OTHER_NFE, OTHER_POLICY, OTHER_MACHINE = 0.08, 0.15, 0.1, 0.2, 0.3
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
    """Episodes of tasks that were played elsewhere only: their steps count, not their times."""
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
    wanted: dict[PolicyAtNfe, set[str]] = {}
    for unit in units:
        wanted.setdefault(unit.policy_at_nfe, set()).add(unit.suite)
    there = _Place(hardware, load, cores)
    policies = {
        variant: _policy_source(variant, suites, usable, there, light, choice) for variant, suites in wanted.items()
    }
    served = any(source.served for source in policies.values())

    def apart(run: RunEvidence) -> tuple[bool, bool, float]:
        return run.hardware != hardware, bool(run.served) != served, there.cores_apart(run)

    near = sorted(usable, key=apart)
    alike = [run for run in near if apart(run)[:2] == apart(near[0])[:2] and run.startup_s][:6] or near[:1]
    chosen = alike[choice % len(alike)]
    build = chosen.build_s or tuple(seconds for run in near[:6] for seconds in run.build_s) or (1.5,)
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


@dataclass(frozen=True, slots=True)
class _Place:
    """What is planned to run on."""

    hardware: str
    load: float
    cores: float | None

    def cores_apart(self, run: RunEvidence) -> float:
        """Factors of two between the cores."""
        return 0.0 if self.cores is None else round(abs(math.log2(max(self.cores, 1) / max(run.cores, 1))), 1)

    def load_apart(self, run: RunEvidence) -> float:
        return round(abs(math.log2(max(self.load, 1e-3) / max(run.load, 1e-3))), 1)


def _policy_source(
    variant: PolicyAtNfe,
    suites: set[str],
    runs: Sequence[RunEvidence],
    place: _Place,
    light: Callable[[str], bool] | None,
    choice: int,
) -> PolicySource:
    local = light(variant.policy_id) if light is not None and variant.policy_id else None
    ranked = sorted(
        (
            (_distance(variant, held, suites, run, place), -index, held)
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
    samples = _scaled(run.episodes[held], ratio if ratio > 1 and run.load >= 1 else ratio**SHARED_CORE)
    by_task: dict[TaskId, list[EpisodeSample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    elsewhere = suites - {task[0] for task in by_task}
    spread, notes = _doubts(variant, held, elsewhere, run, place.hardware, ratio, len(alike))
    return PolicySource(
        samples,
        {task: tuple(members) for task, members in by_task.items()},
        _lengths(variant, elsewhere, runs),
        run.served.get(held),
        run,
        held.policy_id == variant.policy_id,
        spread,
        tuple(notes),
    )


def _lengths(
    variant: PolicyAtNfe, suites: set[str], runs: Sequence[RunEvidence]
) -> dict[TaskId, tuple[EpisodeSample, ...]]:
    """The policy's episodes of suites that the chosen run has not, from wherever they were played."""
    found: dict[TaskId, list[EpisodeSample]] = {}
    for run in runs:
        for held, samples in run.episodes.items():
            if held.policy_id == variant.policy_id:
                for sample in samples:
                    if sample.task[0] in suites:
                        found.setdefault(sample.task, []).append(sample)
    return {task: tuple(members) for task, members in found.items()}


def _distance(
    variant: PolicyAtNfe, held: PolicyAtNfe, suites: set[str], run: RunEvidence, place: _Place
) -> tuple[int, int, int, float, float]:
    """How far samples are from what is planned: policy, machine, suite, load, cores, each smaller for nearer."""
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
    there = {sample.task[0] for sample in run.episodes[held]}
    other = int(run.hardware != place.hardware)
    return policy, other, len(suites - there), place.load_apart(run), place.cores_apart(run)


def _kind(variant: PolicyAtNfe) -> str:
    return (variant.policy_id or "").partition(":")[0].partition("?")[0]


def _doubts(
    variant: PolicyAtNfe,
    held: PolicyAtNfe,
    elsewhere: set[str],
    run: RunEvidence,
    hardware: str,
    ratio: float,
    n_alike: int,
) -> tuple[float, list[str]]:
    parts, notes = [ONE_RUN if n_alike == 1 else SAME], []
    if held.policy_id != variant.policy_id:
        parts.append(OTHER_POLICY)
        notes.append(
            f"{variant.label}: no episode of it is known; speed is that of {held.label} ({run.ledger}), and the band "
            "is over every rate of success from 0 to 100 %"
        )
    elif variant.nfe not in (None, held.nfe):
        parts.append(OTHER_NFE)
        notes.append(f"{variant.label}: timed as {held.label}")
    if run.hardware != hardware:
        parts.append(OTHER_MACHINE)
        notes.append(f"{variant.label}: timed on {run.hardware}, and taken to be as quick on {hardware}")
    if elsewhere:
        parts.append(OTHER_SUITE)
        notes.append(f"{variant.label}: {', '.join(sorted(elsewhere))} was not timed; its other suites stand for it")
    if abs(ratio - 1) > 0.1:
        parts.append(OTHER_LOAD * abs(math.log2(ratio)))
    return math.hypot(*parts), notes


def _scaled(samples: Sequence[EpisodeSample], factor: float) -> tuple[EpisodeSample, ...]:
    return tuple(
        EpisodeSample(
            sample.task,
            sample.success,
            sample.steps,
            sample.decisions,
            sample.reset_s * factor,
            sample.physics_s * factor,
            sample.render_s * factor,
            sample.wait_s * factor,
            sample.wall_s * factor,
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
        if not own and (there := source.lengths.get(unit.task)):
            played = self._one(there)
            sample = _stretched(sample, played.steps, played.success)
        limit = self._basis.max_steps.get(unit.suite)
        if not source.known_success:
            solved = bool(self._rng.random() < self._success)
            lengths = [each.steps for each in source.samples if each.success]
            steps = self._one(lengths) if solved and lengths else limit or max(each.steps for each in source.samples)
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


def _stretched(sample: EpisodeSample, steps: int, success: bool) -> EpisodeSample:
    """The sample's speed over another number of steps."""
    factor = steps / max(sample.steps, 1)
    rest = sample.wall_s - sample.reset_s
    return EpisodeSample(
        sample.task,
        success,
        steps,
        max(round(sample.decisions * factor), 1),
        sample.reset_s,
        sample.physics_s * factor,
        sample.render_s * factor,
        sample.wait_s * factor,
        sample.reset_s + rest * factor,
    )

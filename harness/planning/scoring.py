"""Forecasts against what then happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.ledger.schema import PLAN_STATUSES
from harness.planning.evidence import EpisodeSample, RunEvidence
from harness.planning.forecast import Forecast, forecast
from harness.planning.simulate import Setting
from harness.schedule.keys import episode_key
from harness.schedule.placement import NodeResources
from harness.schedule.units import EpisodeUnit

PLANNED, NO_DATA, LATE, FAILED = PLAN_STATUSES


@dataclass(frozen=True, slots=True)
class ScoredPlan:
    """One run and its plan."""

    run_id: str
    status: str
    took_s: float | None
    """Wall time, seconds; None for a run that did not end."""
    planned_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    why: str = ""

    @property
    def error(self) -> float | None:
        """(planned - took) / took."""
        return None if self.planned_s is None or not self.took_s else self.planned_s / self.took_s - 1

    @property
    def inside(self) -> bool | None:
        """Whether the band holds what happened."""
        if self.low_s is None or self.high_s is None or self.took_s is None:
            return None
        return self.low_s <= self.took_s <= self.high_s


@dataclass(frozen=True, slots=True)
class PlanScore:
    """Plans over several runs."""

    plans: tuple[ScoredPlan, ...]

    @property
    def statuses(self) -> dict[str, int]:
        """Status → plans, so that what could not be planned does not vanish."""
        return dict(Counter(plan.status for plan in self.plans))

    @property
    def n(self) -> int:
        """Plans that can be compared with what happened."""
        return len(self._errors)

    @property
    def mape(self) -> float | None:
        """Mean absolute error relative to what happened; None without any."""
        return sum(map(abs, self._errors)) / len(self._errors) if self._errors else None

    @property
    def coverage(self) -> float | None:
        """Share of runs inside their band; None without any."""
        inside = [plan.inside for plan in self.plans if plan.inside is not None]
        return sum(inside) / len(inside) if inside else None

    @property
    def _errors(self) -> list[float]:
        return [plan.error for plan in self.plans if plan.error is not None]


def units_of(run: RunEvidence) -> tuple[EpisodeUnit, ...]:
    """The plan of a run that was made, from what it finished."""
    found = []
    for variant, samples in run.episodes.items():
        seen: Counter[tuple[str, int]] = Counter()
        for sample in samples:
            found.append(_unit(run, variant.policy_id or "", variant.nfe, sample, seen[sample.task]))
            seen[sample.task] += 1
    return tuple(found)


def _unit(run: RunEvidence, policy: str, nfe: int | None, sample: EpisodeSample, n: int) -> EpisodeUnit:
    suite, task = sample.task
    key = episode_key(run.run_id, suite, task, n, 0)
    return EpisodeUnit(policy, nfe, suite, task, n, 0, key, run.run_id, *sample.timing)


def setting_of(run: RunEvidence) -> Setting:
    """Where a run was made, as one node."""
    gpus = 0 if run.hardware in ("cpu", "unknown") else 1
    node = NodeResources("node", "node", run.cores, gpus, run.cores * 16e9, run.hardware)
    return Setting((node,), workers=run.workers)


def hold_out(
    runs: Sequence[RunEvidence], *, seconds: Callable[[], float], budget_s: float = 1.0, least: int = 0
) -> PlanScore:
    """Forecast every run from all others, and compare.

    Args:
        runs: Runs; those that did not end by themselves are counted by their status only.
        seconds: Stopwatch.
        budget_s: Time for each forecast.
        least: Runs that finished fewer episodes are left out.
    """
    plans = []
    for run in runs:
        if run.status != "finished" or run.wall_s is None:
            plans.append(ScoredPlan(run.run_id, f"run {run.status}", None))
            continue
        units = units_of(run)
        if len(units) < least:
            continue
        try:
            made = predict_run(run, runs, seconds=seconds, budget_s=budget_s)
        except UsageError as error:
            plans.append(ScoredPlan(run.run_id, NO_DATA, run.wall_s, why=str(error)))
            continue
        plans.append(ScoredPlan(run.run_id, PLANNED, run.wall_s, made.finish_s, made.low_s, made.high_s))
    return PlanScore(tuple(plans))


def predict_run(
    run: RunEvidence, runs: Sequence[RunEvidence], *, seconds: Callable[[], float], budget_s: float
) -> Forecast:
    """Forecast a run from the others; whether its policies are served is known before a run, how quick they are not."""
    others = [other for other in runs if other.run_id != run.run_id]
    served = {variant.policy_id for variant in run.served}
    return forecast(
        units_of(run),
        others,
        setting_of(run),
        light=lambda policy: policy not in served,
        max_steps=run.max_steps,
        seconds=seconds,
        budget_s=budget_s,
    )

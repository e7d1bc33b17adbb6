"""Plans as tables and sentences."""

from __future__ import annotations

from harness.planning.mixes import Mix
from harness.planning.scoring import PlanScore
from harness.planning.suite_plan import SuitePlan
from harness.report.format import percent
from harness.report.tables.table import Table


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12.3 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def plan_sentence(plan: SuitePlan) -> str:
    """The answer: "demo: 80 episodes with 2 workers take 3.1 min [2.4–4.0] (90 % band)"."""
    made = plan.forecast
    cost = f", cost {plan.cost:.2f}" if plan.cost is not None else ""
    energy = f", at most {plan.energy_kwh:.2f} kWh" if plan.energy_kwh is not None else ""
    return (
        f"{plan.suite}: {made.episodes} episodes with {made.workers} workers take {duration(made.finish_s)} "
        f"[{duration(made.low_s)} – {duration(made.high_s)}] (90 % band){cost}{energy}"
    )


def plan_tables(plan: SuitePlan) -> list[Table]:
    """What binds over time, and how busy nodes are."""
    made = plan.forecast
    binds = Table(
        "What binds",
        ("until", "most of the workers' time goes to", "share"),
        tuple((duration(until), what, percent(share)) for until, what, share in made.bound),
        2,
        "Over all: " + ", ".join(f"{what} {percent(share)}" for what, share in made.shares.items() if share >= 0.005),
    )
    shown = list(made.utilisation.items())[:12]
    more = len(made.utilisation) - len(shown)
    busy = Table(
        "Utilisation",
        ("node", "cores busy"),
        tuple((node, percent(share)) for node, share in shown),
        1,
        (f"And {more} more nodes. " if more else "")
        + (f"Policy servers compute {percent(made.server_busy)} of the time." if made.server_busy is not None else ""),
    )
    return [binds, busy]


def mixes_table(front: list[Mix], chosen: Mix | None) -> Table:
    """The Pareto front of time against cost."""
    rows = tuple(
        (
            f"{mix.name}{' ←' if mix is chosen else ''}",
            duration(mix.forecast.finish_s),
            f"{duration(mix.forecast.low_s)} – {duration(mix.forecast.high_s)}",
            f"{mix.cost:.2f}",
            percent(mix.probability),
        )
        for mix in front
    )
    columns = ("nodes", "time", "90 % band", "cost", "makes the deadline")
    note = "Mixes that no other beats in both time and cost; cost in the prices' currency, for the median time."
    return Table("Time against cost", columns, rows, 1, note)


def score_table(score: PlanScore) -> Table:
    """Each run against its plan."""
    rows = tuple(
        (
            plan.run_id,
            plan.status,
            "–" if plan.took_s is None else duration(plan.took_s),
            "–" if plan.planned_s is None else duration(plan.planned_s),
            "–" if plan.low_s is None or plan.high_s is None else f"{duration(plan.low_s)} – {duration(plan.high_s)}",
            "–" if plan.error is None else f"{100 * plan.error:+.0f} %",
            {True: "yes", False: "no", None: "–"}[plan.inside],
        )
        for plan in score.plans
    )
    columns = ("run", "plan", "took", "planned", "90 % band", "error", "inside")
    return Table("Plans against what happened", columns, rows, 2, score_sentence(score))


def score_sentence(score: PlanScore) -> str:
    """Error, coverage, and plans by status."""
    statuses = ", ".join(f"{n} {status}" for status, n in sorted(score.statuses.items()))
    if score.mape is None or score.coverage is None:
        return f"Nothing to score. Plans by status: {statuses or 'none'}."
    return (
        f"Mean absolute error {100 * score.mape:.1f} %, band covers {percent(score.coverage)} of {score.n} runs. "
        f"Plans by status: {statuses}."
    )

"""`harness plan`: how long a run will take, where and at what cost; and how such plans did."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from harness.cli import plan_buy
from harness.cli.examples import examples
from harness.cli.values import parse_nfe, parse_policies
from harness.cli.verb import Verb, json_target, tell_json, without_flag_types
from harness.errors import EXIT_FAILED, UsageError
from harness.screen import Screen
from harness.time_source import WallTime

if TYPE_CHECKING:
    from harness.planning.mixes import Mix
    from harness.planning.nodes_file import NodesFile
    from harness.planning.scoring import PlanScore

DEFAULT = "suite"


class _PlanVerbs(TyperGroup):
    """What is planned; without a verb of its own, a suite."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [DEFAULT, *_each_scored(args)]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))


def _each_scored(args: list[str]) -> list[str]:
    """`--score A B` as `--score A --score B`, so that a shell's pattern may name ledgers."""
    scored, told = False, list[str]()
    for each in args:
        if each.startswith("-"):
            scored = each == "--score"
        elif scored and told[-1] != "--score":
            told.append("--score")
        told.append(each)
    return told


app = typer.Typer(
    cls=_PlanVerbs,
    help="Plan a run (`harness plan SUITE …`), a server, or which device to buy; nothing is run.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def _verbs() -> None:
    """Plan a run (`harness plan SUITE …`), a server, or which device to buy; nothing is run."""


@app.command(
    DEFAULT,
    cls=Verb,
    epilog=examples(
        "harness plan libero_spatial --policy scripted --nodes nodes.yaml",
        "harness plan demo --like reports/examples/demo",
        "harness plan libero_10 --policy flow --deadline 07:00 --choose-from catalogue.yaml",
        "harness plan --describe auto",
        "harness plan --score reports/monday reports/tuesday",
    ),
)
def suite_command(
    ctx: typer.Context,
    suite: Annotated[str, typer.Argument(help="Name or path of a suite.")] = "",
    policy: Annotated[list[str] | None, typer.Option("--policy", "-p", help="Policy; repeatable.")] = None,
    nfe: Annotated[str | None, typer.Option(help="NFE values.", show_default="the suite's")] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Init states of each task.", show_default="as the suite says")
    ] = None,
    nodes: Annotated[str | None, typer.Option(help="Nodes file: where it would run.")] = None,
    like: Annotated[str | None, typer.Option(help="Ledger: as it ran, on its nodes.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster: auto, or HOST:PORT.")] = None,
    ledgers: Annotated[
        list[str] | None,
        typer.Option("--from", help="Ledger to draw durations from; repeatable.", show_default="all below ./reports"),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="as placed")] = None,
    deadline: Annotated[str | None, typer.Option(help="07:00, 2026-12-01T07:00, 90min or 8h.")] = None,
    choose_from: Annotated[str | None, typer.Option(help="Nodes file of what can be had, with prices.")] = None,
    probability: Annotated[float, typer.Option(min=0.01, max=0.99, help="Of making the deadline.")] = 0.9,
    figure: Annotated[str | None, typer.Option(help="Draw time against cost: a PNG, PDF or SVG file.")] = None,
    describe: Annotated[str | None, typer.Option(help="Print a nodes file of this Ray cluster.")] = None,
    score: Annotated[list[str] | None, typer.Option(help="Ledger whose plans are scored; repeatable.")] = None,
) -> None:
    """Forecast a run: finish time with a 90 % band, what binds over time, utilisation, cost, energy.

    A simulation that calls the scheduler's own rules, with durations drawn from ledgers.
    """
    if describe is not None:
        from harness.planning.nodes_file import to_yaml

        described = _live_nodes(describe)
        tell_json(ctx, lambda: {"nodes": [node.model_dump(mode="json") for node in described.nodes]})
        if json_target(ctx) != "-":
            Screen().write(to_yaml(described))
        return
    if score:
        _tell_score(ctx, score)
        return
    if not suite:
        raise UsageError("Which suite? `harness plan SUITE`, e.g. `harness plan seed --policy scripted`.")
    from harness.spec import load_suite

    load_suite(suite)
    specs = parse_policies(policy or [])
    steps = parse_nfe(nfe) if nfe else ()
    if deadline is not None or choose_from is not None:
        if deadline is None or choose_from is None:
            raise UsageError("--deadline and --choose-from go together: until when, and from which nodes.")
        _choose(suite, specs, steps, episodes, ledgers or [], deadline, choose_from, probability, figure, ctx)
        return
    if figure is not None:
        raise UsageError("--figure draws time against cost; it needs --deadline and --choose-from.")
    if sum(where is not None for where in (nodes, like, address)) > 1:
        raise UsageError("--nodes, --like and --address each say where it would run; give one of them.")
    from harness.planning.suite_plan import plan
    from harness.report.tables.plan import plan_sentence, plan_tables
    from harness.report.terminal import print_table

    made = plan(
        suite,
        policies=specs,
        nfe=steps,
        episodes=episodes,
        nodes=_live_nodes(address) if address is not None else nodes,
        like=like,
        ledgers=ledgers or (),
        workers=workers,
    )
    tell_json(ctx, made.as_json)
    screen = Screen()
    screen.say(plan_sentence(made))
    for table in plan_tables(made):
        print_table(table, screen)
    if made.unpriced:
        screen.say(f"No cost: {', '.join(made.unpriced)} has no price_per_hour in the nodes file.")
    for note in made.forecast.notes:
        screen.say(f"assumed: {note}")
    screen.say(f"Drawn from: {', '.join(made.ledgers[:6])}{' …' if len(made.ledgers) > 6 else ''}")


@app.command(
    "serve",
    cls=Verb,
    epilog=examples(
        "harness plan serve --policy flow --nfe 10 --from reports/examples/h100-run/flow --hz 2 --slo p99=100ms",
        "harness plan serve -p flow --nfe 1 --from reports/examples/demo --hz 4 --robots 8",
    ),
)
def serve_command(
    ctx: typer.Context,
    policy: Annotated[str, typer.Option("--policy", "-p", help="Label of a policy that was timed.")],
    ledgers: Annotated[list[str], typer.Option("--from", help="Ledger of a probe, or of a run that served it.")],
    hz: Annotated[float, typer.Option(min=1e-3, help="Decisions a second of each robot: control rate / actions run.")],
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE.", show_default="the only one")] = None,
    device: Annotated[
        str | None, typer.Option(help="Profile that it was timed on.", show_default="the only one")
    ] = None,
    robots: Annotated[int | None, typer.Option(min=1, help="Ask whether so many are fed; exit code 1 if not.")] = None,
    slo: Annotated[str, typer.Option(help="Share of the answers within a time.")] = "p99=100ms",
    network: Annotated[str, typer.Option(help="Added to each answer, e.g. 20ms.")] = "0ms",
) -> None:
    """How many robots one policy server feeds, its queue and batches included.

    Requests come at each robot's own phase, or at random; durations are those of a ledger. Where `harness delay` says
    how much delay success stands, its milliseconds are the time to give.
    """
    from harness.planning.robots import ARRIVALS, capacity, parse_objective, service_times
    from harness.report.tables.robots import capacity_sentence, capacity_table
    from harness.report.terminal import print_table
    from harness.spec.timing import milliseconds

    objective, network_ms = parse_objective(slo), milliseconds(network)
    times = service_times(ledgers, policy, nfe, device)
    found = [capacity(times, hz=hz, objective=objective, arrivals=each, network_ms=network_ms) for each in ARRIVALS]
    told = [{"policy": policy, "nfe": times.variant.nfe, "hardware": times.hardware, **asdict(each)} for each in found]
    tell_json(ctx, lambda: {"capacities": told})
    screen = Screen()
    for each in found:
        screen.say(capacity_sentence(each, times, hz, objective))
        print_table(capacity_table(each, objective), screen)
    screen.say(f"Drawn from {times.source}. A larger batch than the largest that was timed is not considered.")
    if robots is not None and any(each.robots < robots for each in found):
        screen.say(f"{robots} robots are too many for one server.")
        raise typer.Exit(EXIT_FAILED)


app.command("buy", cls=Verb, epilog=plan_buy.EXAMPLES)(plan_buy.command)


def _live_nodes(address: str) -> NodesFile:
    from harness.cluster.nodes import recognise
    from harness.cluster.ray_session import open_session
    from harness.planning.nodes_file import describe_nodes

    with open_session(address) as session:
        return describe_nodes(recognise(session, session.nodes()))


def _tell_score(ctx: typer.Context, paths: list[str]) -> None:
    from harness.planning.stored import score_stored
    from harness.report.tables.plan import score_table
    from harness.report.terminal import print_table

    found = score_stored(paths)
    tell_json(ctx, lambda: _score_json(found))
    print_table(score_table(found), Screen())


def _score_json(score: PlanScore) -> dict[str, Any]:
    runs = [
        {"run_id": plan.run_id, "status": plan.status, "took_s": plan.took_s, "planned_s": plan.planned_s}
        | {"low_s": plan.low_s, "high_s": plan.high_s, "error": plan.error, "inside": plan.inside}
        for plan in score.plans
    ]
    return {"n": score.n, "mape": score.mape, "coverage": score.coverage, "statuses": score.statuses, "runs": runs}


def _choose(
    suite: str,
    specs: Any,
    steps: tuple[int, ...],
    episodes: int | None,
    ledgers: list[str],
    deadline: str,
    choose_from: str,
    probability: float,
    figure: str | None,
    ctx: typer.Context,
) -> None:
    from harness.planning.mixes import cheapest, pareto, parse_deadline, weigh_mixes
    from harness.planning.nodes_file import load_nodes
    from harness.planning.suite_plan import changed_suite, decides_in_workers, gather, plan_units, require_same_protocol
    from harness.report.tables.plan import duration, mixes_table
    from harness.report.terminal import print_table

    time = WallTime()
    until_s = parse_deadline(deadline, time.now().astimezone())
    catalogue = load_nodes(choose_from)
    changed = changed_suite(suite, specs, steps, episodes)
    runs, _ = gather(ledgers)
    require_same_protocol(changed, runs)
    limits = {each.suite: changed.protocol.max_steps_of(each.suite) for each in changed.tasks}
    found = weigh_mixes(
        plan_units(changed),
        runs,
        catalogue,
        until_s,
        light=decides_in_workers(changed),
        max_steps=limits,
        seconds=time.seconds,
    )
    chosen, front = cheapest(found, probability), pareto(found)
    if chosen is not None and chosen not in front:
        front = sorted([*front, chosen], key=lambda mix: mix.cost)
    tell_json(ctx, lambda: {"mixes": [_mix_json(mix, mix is chosen) for mix in front]})
    if figure is not None:
        from harness.report.plan_plot import draw_front

        draw_front(found, front, until_s, figure)
    screen = Screen()
    print_table(mixes_table(front, chosen), screen)
    for note in dict.fromkeys(note for mix in front for note in mix.forecast.notes):
        screen.say(f"assumed: {note}")
    if chosen is None:
        best = max(found, key=lambda mix: mix.probability)
        screen.say(
            f"No mix ends within {duration(until_s)} with a probability of {probability:.0%}; the surest is "
            f"{best.name}, {best.probability:.0%}."
        )
        raise typer.Exit(1)
    screen.say(
        f"Cheapest with {probability:.0%} before the deadline: {chosen.name}, {chosen.cost:.2f}, "
        f"{duration(chosen.forecast.finish_s)}."
    )


def _mix_json(mix: Mix, chosen: bool) -> dict[str, Any]:
    return {
        "nodes": [kind.model_dump(mode="json") for kind in mix.nodes.nodes],
        "finish_s": mix.forecast.finish_s,
        "low_s": mix.forecast.low_s,
        "high_s": mix.forecast.high_s,
        "cost": mix.cost,
        "probability": mix.probability,
        "chosen": chosen,
    }

"""`harness predict`: what a decision would take on a device that is not at hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import parse_nfe, require_ledgers
from harness.cli.verb import json_target
from harness.errors import EXIT_FAILED, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.predict.anchored import Anchored
    from harness.analysis.predict.prediction import MeasuredSource
    from harness.ledger import Ledger
    from harness.report.tables.predict import Predicted
    from harness.report.tables.table import Table
    from harness.spec.profile import HardwareProfile

EXAMPLES = examples(
    "harness predict --from reports/h100 --to jetson-orin-nano-8gb,dgx-spark-gb10 --nfe 1,10",
    "harness predict --from reports/h100 --to h200 --measured reports/h200  # and how far off it is",
    "harness predict --architecture student-650m,student-650m-int8 --to jetson-orin-nano-8gb",
    "harness predict --architecture student-650m --to jetson-orin-nano-8gb --measured reports/orin",
    "harness predict --from reports/h100 --back-test",
    "harness predict --from reports/h100 --to dgx-spark-gb10 --anchor dgx-spark-gb10:nfe10=1299,nfe1=798",
)


def command(
    ctx: typer.Context,
    to: Annotated[str, typer.Option(help="Hardware profiles, with commas between them.")] = "",
    from_: Annotated[list[str] | None, typer.Option("--from", help="Ledger of a probe on another device.")] = None,
    policy: Annotated[str, typer.Option("--policy", "-p", help="Only policies whose name contains this.")] = "",
    architecture: Annotated[str, typer.Option(help="Descriptions by name or YAML file, instead of a policy.")] = "",
    nfe: Annotated[str, typer.Option(help="NFE values, with commas between them.")] = "",
    host_ratio: Annotated[
        float | None,
        typer.Option(help="Time of the target's host over the source's, if you know it."),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROFILE:nfe10=MS,…",
            help="A known decision: PROFILE[:STACK]:nfeN=MS,…; with the published ones. `none`: leave those out.",
            show_default="the published points",
        ),
    ] = None,
    measured: Annotated[list[str] | None, typer.Option(help="Ledger of the target: shows the error.")] = None,
    back_test: Annotated[bool, typer.Option("--back-test", help="Predict the published figures instead.")] = False,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
) -> None:
    """Predict end-to-end latency, with a band, and whether the policy fits into memory.

    From a ledger: each component's bytes and FLOPs at the target's rates and the efficiency measured on the source, and
    the host's time. From an architecture's description alone: the target's roofline, and what real stacks reach of it;
    with --from, also in the stack of that ledger. A Pi0 or Pi0.5 is then corrected by what is known of other devices
    and stacks: published points, and yours with --anchor.
    """
    if back_test and not from_:
        raise UsageError("--back-test predicts from a ledger; name it with --from.")
    if not back_test and not to:
        raise UsageError("Name the devices to predict for with --to, e.g. --to jetson-orin-nano-8gb.")
    if not back_test and not from_ and not architecture:
        raise UsageError("Name what to predict: a ledger with --from, or a description with --architecture.")
    wanted = parse_nfe(nfe) if nfe else ()
    targets = [name.strip() for name in to.split(",") if name.strip()]
    _require_names(targets, architecture)
    require_ledgers(*(from_ or ()), *(measured or ()))
    from harness.analysis.predict.anchored import score
    from harness.report.tables.predict import back_test_json, back_test_table, prediction_table, predictions_json

    if host_ratio is not None and not 0.01 <= host_ratio <= 1000:  # nor is nan
        raise UsageError(f"--host-ratio is {host_ratio:g}, where a ratio from 0.01 to 1000 is expected.")
    among, given = _sources(from_, policy)
    if back_test:
        anchored = _tested(given, among, anchor)
        tests = anchored.back_test()
        _write(back_test_table(anchored, tests), back_test_json(anchored, tests), markdown, json_target(ctx))
        if not score(tests).passes:
            raise typer.Exit(EXIT_FAILED)
        return
    if architecture:
        found = list(_described(architecture, targets, wanted, given, measured))
    else:
        found = list(_carried(given, among, targets, wanted, measured, host_ratio, anchor))
    _tell_unmeasured(found, measured)
    _write(prediction_table(found), {"predictions": predictions_json(found)}, markdown, json_target(ctx))


def _require_names(targets: list[str], architecture: str) -> None:
    """Refuse a device or an architecture that nobody knows."""
    from harness.spec.architecture import load_architecture
    from harness.spec.profile import load_profile

    for target in targets:
        load_profile(target)
    for name in architecture.split(",") if architecture else ():
        load_architecture(name.strip())


def _sources(paths: list[str] | None, policy: str) -> tuple[list[MeasuredSource], list[MeasuredSource]]:
    """Every configuration of the ledgers that can be carried, and those that were asked for."""
    from harness.analysis.predict.prediction import sources
    from harness.ledger import read

    if not paths:
        return [], []
    ledger = read(*paths)
    found = sources(ledger.latency, ledger.counts, ledger.nodes)
    chosen = [source for source in found if policy in str(source.configuration["policy_id"])]
    if found and not chosen:
        names = ", ".join(dict.fromkeys(str(source.configuration["policy_id"]) for source in found))
        raise UsageError(f"{ledger.path} holds no policy whose name contains {policy!r}. It holds: {names}.")
    if not chosen:
        raise UsageError(
            f"{ledger.path} holds no configuration that was timed and counted on a calibrated node. Probe it again: "
            "`harness probe` counts and calibrates."
        )
    return found, chosen


def _anchored(source: MeasuredSource, among: list[MeasuredSource], anchor: list[str] | None) -> Anchored:
    from harness.analysis.predict.anchored import Anchored
    from harness.analysis.predict.anchors import parse_anchors
    from harness.analysis.predict.published import STACK, load_published

    texts = list(anchor or [])
    published = load_published()
    return Anchored(
        source,
        among,
        published.iloc[:0] if "none" in texts else published,
        parse_anchors([text for text in texts if text != "none"], STACK),
    )


def _tested(given: list[MeasuredSource], among: list[MeasuredSource], anchor: list[str] | None) -> Anchored:
    """The plainest eager configuration: what published points of LeRobot run."""
    from harness.analysis.predict.published import is_plain

    for source in given:
        eager = str(source.configuration["compile"]) in ("None", "nan", "<NA>", "eager")
        found = _anchored(source, among, anchor)
        if eager and is_plain(str(source.configuration["policy_id"])) and found.applies:
            return found
    raise UsageError("No plain eager LeRobot policy at batch 1 in these ledgers has published figures.")


def _carried(
    given: list[MeasuredSource],
    among: list[MeasuredSource],
    targets: list[str],
    wanted: tuple[int, ...],
    measured: list[str] | None,
    host_ratio: float | None,
    anchor: list[str] | None,
) -> Iterator[Predicted]:
    from harness.analysis.predict.prediction import predict, target_for
    from harness.analysis.predict.targets import given_host
    from harness.ledger import read
    from harness.report.tables.predict import Predicted
    from harness.spec.profile import load_profile

    profiles = [load_profile(name) for name in targets]
    ledger = read(*measured) if measured else None
    for source in given:
        like = _profile_of(source)
        anchored = _anchored(source, among, anchor)
        for profile in profiles:
            for nfe in wanted or source.e2e:
                if host_ratio is None and anchored.applies:
                    prediction = anchored.predict(profile.name, nfe)
                    seen = None if ledger is None else _median(ledger, source, profile.name, nfe)
                    yield Predicted(
                        source.name, f"as on {source.configuration['hardware']}", prediction, seen, anchored
                    )
                    continue
                target = target_for(profile, source, like)
                if host_ratio is not None:
                    target = target._replace(host=given_host(host_ratio))
                prediction = predict(source, target, nfe)
                seen = None if ledger is None else _median(ledger, source, profile.name, nfe)
                yield Predicted(source.name, f"as on {source.configuration['hardware']}", prediction, seen)


def _described(
    names: str, targets: list[str], wanted: tuple[int, ...], given: list[MeasuredSource], measured: list[str] | None
) -> Iterator[Predicted]:
    from harness.analysis.predict.prediction import (
        predict_architecture,
        predict_architecture_like,
        target_for,
        target_for_description,
    )
    from harness.ledger import read
    from harness.report.tables.predict import GRAPH, Predicted
    from harness.spec.architecture import load_architecture
    from harness.spec.profile import load_profile

    ledger = read(*measured) if measured else None
    profiles = [load_profile(name) for name in targets]
    for name in (part.strip() for part in names.split(",")):
        described = load_architecture(name)
        for profile in profiles:
            target = target_for_description(profile, described)
            for nfe in wanted or described.nfe:
                seen = None if ledger is None else _median_of_built(ledger, described.name, profile.name, nfe)
                alone = predict_architecture(described, target, nfe)
                yield Predicted(described.name, GRAPH, alone, seen, described=True)
                for source in given:
                    like = predict_architecture_like(
                        described, source, target_for(profile, source, _profile_of(source), described.formats), nfe
                    )
                    if like is not None:
                        yield Predicted(described.name, f"like {source.name}", like, described=True)


def _profile_of(source: MeasuredSource) -> HardwareProfile | None:
    from harness.spec.profile import load_profile

    hardware = source.configuration["hardware"]
    return load_profile(hardware) if isinstance(hardware, str) else None


def _median(ledger: Ledger, source: MeasuredSource, hardware: str, nfe: int | None) -> float | None:
    from harness.analysis.latency.roofline import same_as

    rows = ledger.latency[ledger.latency["component"] == "e2e"]
    wanted = {**source.configuration, "hardware": hardware, "nfe": nfe}
    for name, value in wanted.items():
        rows = rows[same_as(rows[name], value)]
    return float(rows["latency_ms"].median()) if len(rows) else None


def _median_of_built(ledger: Ledger, architecture: str, hardware: str, nfe: int) -> float | None:
    """Median of a decision of `arch:NAME` at batch 1, of its fastest configuration: a prediction is of one graph."""
    from harness.analysis.latency.percentiles import CONFIGURATION
    from harness.spec.architecture import load_architecture
    from harness.spec.policy import parse_policy

    rows = ledger.latency[ledger.latency["component"] == "e2e"]
    rows = rows[(rows["hardware"] == hardware) & (rows["nfe"] == nfe) & (rows["batch_size"] == 1)]
    specs = {policy: parse_policy(policy) for policy in rows["policy_id"].dropna().unique()}
    built = [
        policy
        for policy, spec in specs.items()
        if spec.kind == "arch" and spec.path and load_architecture(spec.path).name == architecture
    ]
    medians = rows[rows["policy_id"].isin(built)].groupby(CONFIGURATION, dropna=False)["latency_ms"].median()
    return float(medians.min()) if len(medians) else None


def _tell_unmeasured(found: list[Predicted], measured: list[str] | None) -> None:
    """Say what the ledgers of --measured lack, where they hold no probe of a configuration on its target."""
    lacking = [f"{item.name} on {item.prediction.target.name}" for item in found if item.measured is None]
    if not measured or not lacking:
        return
    from harness.ledger import read

    probed = read(*measured).latency[["policy_id", "hardware"]].drop_duplicates().fillna("unknown hardware")
    held = ", ".join(sorted(f"{policy} on {hardware}" for policy, hardware in probed.to_numpy().tolist()))
    Screen(stderr=True).say(
        f"note: {', '.join(measured)} has no decision of {'; '.join(dict.fromkeys(lacking))} with the same options and "
        f"NFE, so nothing is measured there. It has: {held or 'no probe'}."
    )


def _write(table: Table, content: object, markdown: str, json: str) -> None:
    from harness.report.json import json_text
    from harness.report.markdown import table_markdown
    from harness.report.terminal import print_table

    write_texts(
        [
            (markdown, lambda: table_markdown(table) + "\n"),
            (json, lambda: json_text(content)),
        ]
    )
    if markdown != "-":
        print_table(table, Screen())

"""The report as one HTML file: no network, its libraries inside, readable in light, dark, on paper and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2

import harness
from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.summary import Summary
from harness.analysis.timing import PARTS
from harness.errors import UsageError
from harness.ledger import Ledger
from harness.ledger.storage import Location
from harness.report.answers import AnswerLine, latency_lines, success_lines, worst_lines
from harness.report.charts import busy_charts, latency_charts, phase_chart
from harness.report.contents import PROVENANCE, contents
from harness.report.device_plots import device_plots
from harness.report.episodes import episode_data
from harness.report.films import Films, carried_films, linked_films
from harness.report.format import (
    count,
    duration,
    known,
    number,
    percent,
    percent_interval,
    sort_value,
    task_name,
    text,
    variant,
)
from harness.report.names import VariantNames, configuration_name, variant_names
from harness.report.opening import opening
from harness.report.over_time import OverTime
from harness.report.tables.latency import LATENCY_NOTE, latency_configurations
from harness.report.tables.robustness import robustness_plots
from harness.report.tables.success import SUCCESS_NOTE
from harness.report.tables.table import Records, Table, records

COMPONENTS = ("preprocess", "vision", "prefix", "denoise", "postprocess", "transport")
"""Parts of a decision, in its order; they stack to about its end-to-end latency."""

MAX_VIDEOS = 24
MAX_WORST = 30
"""Rows of tasks, worst first; the tables by task have all."""

VENDOR = Path(__file__).parent / "vendor"
"""Libraries of others, with their licences: see `scripts/vendor_report_libraries.py`."""


def page_template(name: str, *folders: Path) -> jinja2.Template:
    """A template of a page, from this package or from `folders`; everything that it is given is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render_html(content: Ledger | Summary, *, command: str, directory: Path | None = None) -> str:
    """Render a ledger as a self-contained page.

    Args:
        content: From `harness.read`, or its summary.
        command: The command that makes this report again; printed in it.
        directory: Where the page will lie: videos are linked relative to it. None links none.

    Returns:
        HTML; everything that comes from the ledger is escaped.
    """
    summary = Summary.of(content)
    return render_page(summary, command=command, films=linked_films(summary, directory))


def render_page(
    summary: Summary,
    *,
    command: str,
    films: Films | None = None,
    judged: Mapping[str, Any] | None = None,
    published: Sequence[Table] = (),
    over_time: Sequence[OverTime] = (),
) -> str:
    """Render the page of a ledger, or of two that were compared.

    Args:
        summary: Of the ledger, or of two read as one.
        command: The command that makes this page again.
        films: Where its videos are; None for a page without.
        judged: What a comparison or gate says, for the top of the page: `title`, `verdict`, `answers`, `tables`.
        published: What others have published of these policies, beside what was measured.
        over_time: Learning curves and nights.
    """
    ledger, names, sections = summary.ledger, variant_names(summary), contents(summary)
    films = films or Films()
    groups = _latency(summary, sections.get("latency", []))
    busy = busy_charts(summary)
    phases = phase_chart(summary)
    charts = [*(chart for group in groups for chart in group["charts"]), *busy, *([phases] if phases else [])]
    charts += [chart for each in over_time for chart in each.charts]
    has_episodes = bool(len(ledger.episodes))
    return page_template("report.html.j2").render(
        opening=opening(summary),
        ledger=ledger,
        command=command,
        version=harness.__version__,
        facts=_facts(summary),
        judged=judged,
        answers=_answers(summary, names) if judged is None else judged["answers"],
        worst=_worst(summary, names),
        scores=_scores(summary, names),
        key=names.key,
        grids=_grids(summary, names),
        times=_times(summary, names),
        busy=busy,
        phases=phases,
        device_plots=device_plots(summary),
        robustness_plots=robustness_plots(summary, names),
        latency=groups,
        latency_note=LATENCY_NOTE,
        success_note=SUCCESS_NOTE,
        sections=sections,
        published=published,
        over_time=over_time,
        videos=_videos(ledger, films),
        provenance=[table for name in PROVENANCE for table in sections.get(name, ())],
        suites=dict.fromkeys(ledger.runs["suite"].dropna()),
        has_episodes=has_episodes,
        sort_key=sort_value,
        libraries=_libraries(has_episodes=has_episodes, has_charts=bool(charts) or has_episodes),
        styles=(VENDOR / "tabulator.min.css").read_text(encoding="utf-8") if has_episodes else "",
        data=_script_data(
            {
                "charts": {chart.name: chart.figure for chart in charts},
                "episodes": episode_data(summary, names, films),
                "judged": judged is not None,
                "films": films.embedded,
            }
        ),
    )


def _libraries(*, has_episodes: bool, has_charts: bool) -> list[str]:
    """Texts of the scripts that a page needs; licences stand in their first lines or beside them in the package."""
    wanted = ["sortable.min.js", "sortable.a11y.min.js"]
    wanted += ["plotly-basic.min.js"] if has_charts else []
    wanted += ["tabulator.min.js"] if has_episodes else []
    return [(VENDOR / name).read_text(encoding="utf-8") for name in wanted]


def _script_data(content: Mapping[str, Any]) -> str:
    """JSON that no text of a ledger can end: it stands in an element of its own and is never run."""
    found = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return found.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _answers(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    return [*success_lines(summary, names), *latency_lines(summary, names), *worst_lines(summary, names)]


def _worst(summary: Summary, names: VariantNames) -> list[dict[str, Any]]:
    """Tasks that a contestant failed in, worst first."""
    return [_score(row, summary, names) | {"task": _task(row)} for row in records(summary.worst_tasks.head(MAX_WORST))]


def write_html(
    content: Ledger | Summary,
    path: str | Path,
    *,
    command: str,
    published: Sequence[Table] = (),
    over_time: Sequence[OverTime] = (),
    embed: int | None = None,
) -> str | Path:
    """Write the page.

    Args:
        content: From `harness.read`, or its summary.
        path: File, or `pyarrow.fs` URI of one.
        command: The command that makes this report again.
        published: See `render_page`.
        over_time: See `render_page`.
        embed: See `write_page`.

    Returns:
        Where it lies: a path, or the URI.

    Raises:
        UsageError: The file cannot be written; names it.
    """
    summary = Summary.of(content)
    return write_page(
        path,
        summary,
        lambda films: render_page(summary, command=command, films=films, published=published, over_time=over_time),
        embed,
    )


def write_page(
    path: str | Path, summary: Summary, render: Callable[[Films], str], embed: int | None = None
) -> str | Path:
    """Write a page.

    Args:
        path: File, or `pyarrow.fs` URI of one: no video is linked from there.
        summary: Whose videos it shows.
        render: Makes the page's text.
        embed: Bytes of videos that the page carries inside, those of failures first; what exceeds them is copied into a
            folder beside the page. None links videos where they lie.

    Raises:
        UsageError: The file cannot be written; names it.
    """
    target = str(path)
    remote = "://" in target
    here = None if remote else Path(target).absolute()
    try:
        if embed is None:
            films = linked_films(summary, here.parent if here else None)
        else:
            films = carried_films(summary, here, embed)
        page = render(films)
        if remote:
            folder, _, name = target.rpartition("/")
            location = replace(Location.of(folder), noun="folder", option="--html")
            location.write_file(name, page)
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write the report {target!r}: {error}. Give another path.") from error
    return target if remote else Path(target)


def _facts(summary: Summary) -> list[tuple[str, str]]:
    ledger = summary.ledger
    facts = []
    if len(ledger.episodes):
        facts += [("episodes", count(len(ledger.episodes))), ("errors", count(summary.success["errors"].sum()))]
    if len(summary.throughput) == 1:
        facts.append(("episodes / h while busy", number(summary.throughput["per_hour"].iloc[0])))
    if len(ledger.latency):
        facts.append(("timed decisions", count((ledger.latency["component"] == "e2e").sum())))
    if len(ledger.nodes):
        facts.append(("nodes", count(ledger.nodes["node_id"].nunique())))
    times = ledger.runs[["started_at", "ended_at"]]
    if len(times) and times.notna().all(axis=None):
        facts.append(("run time", duration((times["ended_at"] - times["started_at"]).dt.total_seconds().sum())))
    return facts


def _scores(summary: Summary, names: VariantNames) -> list[dict[str, Any]]:
    return _contestants_first(summary, [_score(row, summary, names) for row in records(summary.success)])


def _score(row: Mapping[str, Any], summary: Summary, names: VariantNames) -> dict[str, Any]:
    return {
        "variant": names.of(row),
        "role": summary.roles.get(row["policy_id"], ""),
        "suite": text(row["suite"]),
        "solved": f"{count(row['successes'])}/{count(row['n'])}",
        "rate": percent(row["rate"]),
        "interval": percent_interval(row["low"], row["high"]),
        "bar": _bar(row),
        "timeouts": count(row["timeouts"]),
        "errors": int(row["errors"]),
        "retried": count(row["retried"]),
        "steps": number(row["steps"]),
    }


def _bar(row: Mapping[str, Any]) -> dict[str, str] | None:
    """Positions of an interval bar, per cent of its axis; None without a rate."""
    if not known(row["rate"]):
        return None
    low, high, rate = (100 * float(row[name]) for name in ("low", "high", "rate"))
    return {"left": f"{low:.2f}", "width": f"{high - low:.2f}", "rate": f"{rate:.2f}"}


def _contestants_first(summary: Summary, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["role"] == "negative", row["role"] == "positive"))


def _grids(summary: Summary, names: VariantNames) -> list[dict[str, Any]]:
    """Per suite: the variants (columns) and per task one score for each, or None."""
    grids = []
    for suite, frame in summary.tasks.groupby("suite", sort=False):
        rows = [_score(row, summary, names) | {"task": _task(row)} for row in records(frame)]
        columns = list({row["variant"]: row for row in _contestants_first(summary, rows)}.values())
        cells = {(row["task"], row["variant"]): row for row in rows}
        tasks = [
            {"id": task[0], "name": task[1], "cells": [cells.get((task, column["variant"])) for column in columns]}
            for task in sorted({row["task"] for row in rows})
        ]
        grids.append({"suite": suite, "columns": columns, "tasks": tasks})
    return grids


def _task(row: Mapping[str, Any]) -> tuple[int, str]:
    return (int(row["task_id"]) if known(row["task_id"]) else -1, task_name(row["task"]))


def _times(summary: Summary, names: VariantNames) -> list[dict[str, Any]]:
    """Per policy: its stacked bar of time shares."""
    bars = []
    for row in records(summary.time):
        parts = [(part.replace("_", " "), float(row[f"{part}_share"])) for part in PARTS if known(row[f"{part}_share"])]
        if parts:
            label = f"{duration(row['wall_s'] / row['episodes'])} per episode"
            bars.append(_stack(names.of(row), parts, label, lambda share: percent(share)))
    return bars


def _latency(summary: Summary, tables: list[Table]) -> list[dict[str, Any]]:
    """Per policy, dtype, compilation and batch: the curve over NFE, and per hardware a stack and a table."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for (configuration, rows), table in zip(latency_configurations(summary), tables, strict=True):
        key = tuple(str(configuration[name]) for name in CONFIGURATION if name != "hardware")
        title = ", ".join(configuration_name(configuration).split(", ")[1:])
        group = groups.setdefault(key, {"policy": text(configuration["policy_id"]), "title": title, "devices": []})
        group["devices"].append(
            {
                "hardware": text(configuration["hardware"]),
                "end_to_end": _rows_where(table, lambda component: component == "e2e"),
                "inside": _rows_where(table, lambda component: component != "e2e"),
                "stacks": _component_stacks(rows),
            }
        )
    return [
        group | {"charts": latency_charts(summary, key, place)} for place, (key, group) in enumerate(groups.items())
    ]


def _rows_where(table: Table, wanted: Callable[[str], bool]) -> Table:
    """The rows of a latency table whose component is wanted."""
    return replace(table, rows=tuple(row for row in table.rows if wanted(row[1])))


def _component_stacks(rows: Records) -> list[dict[str, Any]]:
    """Per NFE: component medians, stacked, drawn to one scale."""
    by_nfe: dict[str, dict[str, float]] = {}
    for row in rows:
        by_nfe.setdefault(count(row["nfe"]), {})[row["component"]] = float(row["median"])
    totals = {nfe: sum(found.get(name, 0.0) for name in COMPONENTS) for nfe, found in by_nfe.items()}
    longest = max(totals.values(), default=0.0)
    stacks = []
    for nfe, found in by_nfe.items():
        parts = [(name, found[name]) for name in COMPONENTS if name in found]
        if parts and longest > 0:
            label = f"e2e {number(found['e2e'])} ms" if "e2e" in found else f"{number(totals[nfe])} ms"
            name = f"NFE {nfe}" if nfe.isdigit() else "all"
            stacks.append(_stack(name, parts, label, lambda ms: f"{number(ms)} ms", longest))
    return stacks


def _stack(name: str, parts: list[tuple[str, float]], label: str, write: Any, scale: float = 1.0) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "parts": [
            {"name": part, "key": part.split(" ")[0], "width": f"{100 * value / scale:.2f}", "text": write(value)}
            for part, value in parts
            if value > 0
        ],
        "told": f"{name}: " + ", ".join(f"{part} {write(value)}" for part, value in parts),
    }


def _videos(ledger: Ledger, films: Films) -> list[dict[str, str]]:
    """Videos that exist, failures first."""
    found = []
    with_video = ledger.episodes.dropna(subset=["video"])
    for row in records(with_video.sort_values("outcome", key=lambda outcome: outcome == "success", kind="stable")):
        source = films.addresses.get(str(row["video"]))
        if source is None:
            continue
        place = (text(row["suite"]), f"task {count(row['task_id'])}", f"init state {count(row['init_state_id'])}")
        found.append(
            {
                "src": source,
                "variant": variant(row["policy_id"], row["nfe"]),
                "outcome": text(row["outcome"]),
                "episode": ", ".join(place),
                "task": task_name(row["task"]),
            }
        )
    return found[:MAX_VIDEOS]

"""The page in a real browser: charts are drawn, lists filter, an episode opens, videos play as one, all can read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.analysis.paired.compare import Choice, compare
from harness.cli.app import invoke
from harness.gate import gate
from harness.ledger import read
from harness.report import write_html
from harness.report.gate.html import write_comparison_html
from harness.report.over_time import CurvePoint, OverTime, marks_chart
from harness.report.tables.table import Table
from harness.spec.rules import load_rules

browser = pytest.importorskip("browser")

BuildLedger = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(build_ledger: BuildLedger, tmp_path: Path) -> Path:
    path = build_ledger(task_names=(HOSTILE, "b", "c", "d"), error_message=HOSTILE)
    marks = {"training": [CurvePoint(100, 40, 20, 60), CurvePoint(200, 75, 50, 90, whole=False)]}
    chart = marks_chart("curve", "Success over steps", marks, ("step", "success, %"), steps={150: "40 → 75 %"})
    curve = OverTime("Learning curve", "Best: 200.", (chart,), Table("Checkpoints", ("name", "n"), (("100", "20"),)))
    return Path(write_html(read(path), tmp_path / "report.html", command="c", over_time=[curve]))


def visible_rows(tab: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tab.run("episodeTable.getData('active').map(({others, ...row}) => row)")
    return rows


def test_every_chart_is_drawn_and_nothing_is_asked_for_or_complained_of(tab: Any, page: Path) -> None:
    tab.open(page)
    drawn = tab.run(
        "[...document.querySelectorAll('[data-chart]')].map((one) => [one.dataset.chart, "
        "one.querySelectorAll('.trace, .point, .bars').length, one.clientHeight])"
    )
    assert {name for name, _, _ in drawn} >= {"nfe0", "ecdf-e2e0", "ecdf-parts0", "time0", "busy0", "phases", "curve"}
    assert [name for name, traces, height in drawn if not traces or height < 200] == []
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert tab.run("document.title") == "demo · vla-harness report"


def test_kinds_and_column_filters_and_sorting_choose_episodes(tab: Any, page: Path) -> None:
    tab.open(page)
    tab.wait("document.getElementById('episode-list').dataset.ready === 'yes'")
    assert visible_rows(tab)
    assert {row["outcome"] for row in visible_rows(tab)} <= {"timeout", "error"}
    assert not {row["policy"] for row in visible_rows(tab)} & {"noop", "scripted"}
    for kind, holds in (("errors", lambda row: row["outcome"] == "error"), ("flips", lambda row: row["flip"])):
        tab.run(f"document.querySelector('[data-kind={kind}]').click()")
        assert visible_rows(tab)
        assert all(holds(row) for row in visible_rows(tab))
    tab.run("document.querySelector('[data-kind=all]').click()")
    assert len(visible_rows(tab)) == 32
    for field in ("outcome", "policy", "task", "init", "steps", "flip"):
        tab.run(f"episodeTable.setHeaderFilterValue('{field}', 'no such value')")
        assert visible_rows(tab) == [], field
        tab.run(f"episodeTable.setHeaderFilterValue('{field}', '')")
    tab.run("episodeTable.setSort('steps', 'desc')")
    assert tab.run("episodeTable.getRows('active')[0].getData().steps") == 280


def test_tables_search_and_sort_by_what_their_cells_mean(tab: Any, build_ledger: BuildLedger, tmp_path: Path) -> None:
    tab.open(Path(write_html(read(build_ledger()), tmp_path / "report.html", command="c")))
    boxes = tab.run("[...document.querySelectorAll('input[data-filters]')].map((box) => box.dataset.filters)")
    assert boxes
    for name in boxes:
        left = tab.run(
            f"(() => {{ const box = document.querySelector('input[data-filters=\"{name}\"]'), "
            f"rows = () => [...document.getElementById('{name}').tBodies[0].rows].filter((row) => !row.hidden).length, "
            "all = rows(); box.value = 'no such words'; box.dispatchEvent(new Event('input')); const none = rows(); "
            "box.value = ''; box.dispatchEvent(new Event('input')); return [all, none, rows()]; })()"
        )
        assert left[1] == 0 < left[0] == left[2], name
    tab.run("document.querySelector('#worst-tasks th:nth-child(5)').click()")
    tab.wait("document.querySelector('#worst-tasks th:nth-child(5)').ariaSort === 'descending'")
    tab.run("new Promise((done) => setTimeout(done, 80))")
    rates = tab.run(
        "[...document.querySelectorAll('#worst-tasks td:nth-child(5)')].map((c) => parseFloat(c.innerText))"
    )
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) > 1


def test_an_episode_opens_with_its_decisions_and_the_command_that_repeats_it(tab: Any, page: Path) -> None:
    tab.open(page)
    tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
    tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
    assert tab.run("document.getElementById('episode').open") is True
    command = tab.run("document.querySelector('#episode .replay').textContent")
    assert command.startswith("harness replay ")
    assert "00000000" in command
    assert "--policy flow --nfe 1" in command
    tab.wait("document.querySelectorAll('#episode .timeline .point').length >= 20")
    tab.run("document.querySelector('#episode .close').click()")
    assert tab.run("document.getElementById('episode').open") is False
    assert tab.complaints == []


def test_a_flip_shows_both_motions_beside_each_other(tab: Any, page: Path) -> None:
    tab.open(page)
    tab.run("document.querySelector('[data-kind=flips]').click()")
    tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
    tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
    for chart, lines in (("seen-from-above", 2), ("over-time", 4)):
        drawn = f"[...document.querySelectorAll('#episode .{chart} .scatterlayer .js-line')]"
        tab.wait(f"{drawn}.length === {lines}")
        assert all(length > 20 for length in tab.run(f"{drawn}.map((line) => line.getTotalLength())")), chart
    assert tab.run("document.querySelector('#episode .no-motion').hidden") is True
    assert tab.complaints == []


def test_an_episode_without_motion_says_why(tab: Any, build_ledger: BuildLedger, tmp_path: Path) -> None:
    path = build_ledger(tables=("runs", "nodes", "episodes"))
    tab.open(Path(write_html(read(path), tmp_path / "report.html", command="c")))
    tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
    tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
    hidden = [tab.run(f"document.querySelector('#episode .{name}').hidden") for name in ("no-motion", "motion")]
    assert hidden == [False, True]


def film(path: Path, level: int) -> None:
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    with imageio.get_writer(path, fps=10, codec="libx264", macro_block_size=16) as writer:
        for _ in range(30):
            writer.append_data(np.full((64, 64, 3), level, dtype=np.uint8))


def filmed(path: Path, policy: str, nfe: int) -> None:
    """Give every episode of one policy at one NFE a film."""
    (path / "videos").mkdir(exist_ok=True)
    film(path / "videos" / f"{policy}-{nfe}.mp4", 20 * nfe)
    (part,) = (path / "episodes").glob("*.parquet")
    table = pq.read_table(part)
    rows = zip(*(table[name].to_pylist() for name in ("policy_id", "nfe", "video")), strict=True)
    names = [f"videos/{policy}-{nfe}.mp4" if (own, steps) == (policy, nfe) else kept for own, steps, kept in rows]
    pq.write_table(
        table.set_column(table.schema.get_field_index("video"), table.schema.field("video"), pa.array(names)), part
    )


def test_both_videos_of_a_flip_stand_side_by_side_and_play_as_one(
    tab: Any, build_ledger: BuildLedger, tmp_path: Path
) -> None:
    path = build_ledger()
    filmed(path, "flow", 1)
    filmed(path, "flow", 10)
    tab.open(Path(write_html(read(path), tmp_path / "report.html", command="c")))
    tab.run("document.querySelector('[data-kind=flips]').click()")
    tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
    tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
    films = "[...document.querySelectorAll('#episode .pair video')]"
    tab.wait(f"{films}.length === 2 && {films}.every((film) => film.readyState >= 2)")
    tab.run(f"{films}[0].currentTime = 1.5")
    tab.wait(f"{films}.every((film) => !film.seeking && Math.abs(film.currentTime - 1.5) < 0.01)")
    tab.run("new Promise((done) => setTimeout(done, 200))")
    tab.run(f"{films}[1].play()")
    tab.wait(f"{films}.every((film) => film.played.length > 0 && film.currentTime > 1.5)")
    tab.run("document.querySelector('#episode .last-frame').click()")
    tab.wait(f"{films}.every((film) => film.paused && !film.seeking && film.currentTime >= film.duration - 0.01)")
    assert tab.complaints == []


def test_videos_travel_inside_the_page_up_to_a_size_and_the_others_beside_it(
    tab: Any, build_ledger: BuildLedger, tmp_path: Path
) -> None:
    path = build_ledger()
    filmed(path, "flow", 1)
    filmed(path, "flow", 10)
    page = tmp_path / "out" / "report.html"
    sizes = [file.stat().st_size for file in sorted((path / "videos").iterdir())]
    write_html(read(path), page, command="c", embed=max(sizes))
    copies = list((page.parent / "report-videos").rglob("*.mp4"))
    assert len(copies) == 1
    path.rename(tmp_path / "gone")
    tab.open(page)
    tab.run("document.querySelector('[data-kind=flips]').click()")
    tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
    tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
    films = "[...document.querySelectorAll('#episode .pair video')]"
    tab.wait(f"{films}.length === 2 && {films}.every((film) => film.readyState >= 2)")
    addresses = tab.run(f"{films}.map((film) => film.src)")
    assert sorted(address.split(":")[0] for address in addresses) == ["data", "file"]
    tab.wait("[...document.querySelectorAll('#videos video')].every((film) => film.readyState >= 1)")
    assert tab.complaints == []


def test_two_ledgers_make_one_page_with_the_flips_of_both(tab: Any, build_ledger: BuildLedger, tmp_path: Path) -> None:
    path = str(build_ledger())
    found = compare(path, path, choice=Choice("flow", 10, "flow", 1))
    tab.open(Path(write_comparison_html(found, tmp_path / "compare.html", command="harness compare a b")))
    tab.wait("document.getElementById('episode-list').dataset.ready === 'yes'")
    counts = found.success[0].overall.counts
    rows = visible_rows(tab)
    assert len(rows) == 2 * (counts.lost + counts.gained) > 0
    assert {row["policy"] for row in rows} == {"flow [base] @ NFE 10", "flow [candidate] @ NFE 1"}
    assert "points of success" in tab.run("document.getElementById('answer').innerText")


def test_a_gates_page_begins_with_its_verdict_and_its_reasons(
    tab: Any, build_ledger: BuildLedger, tmp_path: Path
) -> None:
    path, page = str(build_ledger()), tmp_path / "gate.html"
    argv = ["gate", path, path, "--base-policy", "flow", "--base-nfe", "10", "--policy", "flow", "--nfe", "1"]
    code = invoke([*argv, "--html", str(page), "--quiet"])
    result = gate(path, path, load_rules(None), choice=Choice("flow", 10, "flow", 1))
    assert code == result.verdict.exit_code
    tab.open(page)
    assert tab.run("document.querySelector('main section').id") == "answer"
    assert tab.run("document.querySelector('#answer .verdict').innerText") == result.verdict.value
    lines = tab.run("[...document.querySelectorAll('#answer .answers li')].map((line) => line.innerText)")
    for line, rule in zip(lines, result.results, strict=False):
        assert line.startswith(f"{rule.rule}: {rule.shown}.")
        assert rule.reason[:40] in line
    assert len(lines) > len(result.results)
    assert tab.complaints == []


def test_8000_episodes_are_less_than_3_mb_and_open_at_once(tab: Any, tmp_path: Path) -> None:
    ledger = read(EXAMPLES / "learned" / "ledger")
    assert len(ledger.episodes) == 8000
    page = Path(write_html(ledger, tmp_path / "report.html", command="c"))
    assert page.stat().st_size < 3e6
    tab.send("Performance.enable")
    tab.open(page)
    spent = {each["name"]: each["value"] for each in tab.send("Performance.getMetrics")["metrics"]}
    # 0.6 s on a free core; the bound of 2 s leaves none for a busy machine.
    assert spent["TaskDuration"] < 6
    assert tab.complaints == []


@pytest.mark.parametrize("width", [400, 1280, 3840])
def test_no_width_overflows(tab: Any, page: Path, width: int) -> None:
    tab.open(page, width)
    assert tab.run("document.documentElement.scrollWidth") <= width


def test_a_long_name_of_a_configuration_folds_on_a_phone_and_its_command_takes_the_keyboard(
    tab: Any, tmp_path: Path
) -> None:
    ledger = read(EXAMPLES / "h100-latency" / "pi05")
    tab.open(Path(write_html(ledger, tmp_path / "report.html", command="c")), 400)
    assert tab.run("document.documentElement.scrollWidth") <= 400
    assert tab.run("[...document.querySelectorAll('pre')].filter((one) => one.tabIndex !== 0).length") == 0


@pytest.mark.parametrize(("scheme", "shown"), [("light", "the page"), ("dark", "the page"), ("dark", "an episode")])
def test_axe_finds_no_serious_violation(tab: Any, page: Path, scheme: str, shown: str) -> None:
    package = pytest.importorskip("axe_core_python")
    (script,) = Path(package.__file__).parent.rglob("axe.min.js")
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(page)
    tab.run(script.read_text(encoding="utf-8") + "; 0")
    if shown == "an episode":
        tab.wait("document.querySelector('#episode-list .tabulator-row button') !== null")
        tab.run("document.querySelector('#episode-list .tabulator-row button').click()")
        tab.wait("document.querySelector('#episode .seen-from-above .js-line') !== null")
    found = tab.run(
        "axe.run(document, {resultTypes: ['violations']}).then((all) => all.violations"
        ".filter((one) => ['serious', 'critical'].includes(one.impact))"
        ".map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 160) + node.failureSummary)]))"
    )
    assert found == [], json.dumps(found, indent=1)[:3000]

"""The HTML page: what it says, that it stands alone, and that a real browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.analysis import success_by_suite
from harness.analysis.summary import Summary
from harness.errors import UsageError
from harness.ledger import LedgerWriter, read
from harness.report import render_html, write_html
from harness.report.format import percent_interval
from harness.report.names import LONGEST

BuildLedger = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title='owned'</script> & \"quoted\" </td><img src=x onerror=\"console.error('owned')\">"


class Page(HTMLParser):
    """Tags, text and addresses of a page."""

    def __init__(self, html: str) -> None:  # noqa: D107
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "poster", "srcset", "data"}:
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(path: Path) -> Page:
    return Page(render_html(read(path), command="harness report demo --html report.html"))


def test_the_page_shows_every_section_that_the_ledger_has(build_ledger: BuildLedger) -> None:
    words = page_of(build_ledger()).words
    for heading in ("Success per task", "Errors", "Where the time went", "Latency", "derived against measured"):
        assert heading in words
    for provenance in (
        "20260301-demo-1f",
        "0123456789abcdef",
        "harness report demo --html report.html",
        "robosuite",
        "c0ffeec0ffee",
    ):
        assert provenance in words


def test_success_rates_and_intervals_are_those_of_the_analysis(build_ledger: BuildLedger) -> None:
    path = build_ledger()
    words = page_of(path).words
    for row in success_by_suite(read(path).episodes).to_dict("records"):
        assert f"{row['successes']}/{row['n']}" in words
        assert percent_interval(row["low"], row["high"]) in words


def test_the_floors_name_a_configuration_above_the_table_and_not_in_its_rows() -> None:
    summary = Summary(read(EXAMPLES / "h100-latency" / "pi05"))
    page = render_html(summary, command="c")
    (start,) = [found.start() for found in re.finditer(r"bandwidth floor</th>", page)]
    table = page[page.rindex("<table", 0, start) : page.index("</table>", start)]
    rows = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    ]
    body = [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in rows[1:]]
    assert len(body) == len(summary.roofline) == 60
    assert max(len(row[0]) for row in body) <= LONGEST
    names = {str(row[name]) for row in summary.roofline.to_dict("records") for name in ("policy_id", "hardware")}
    told = [
        name for name in (*names, "lerobot:pi05", "weights=random") for row in body if any(name in cell for cell in row)
    ]
    assert told == []
    above = page[page.rindex("<section", 0, start) : page.rindex("<table", 0, start)]
    assert above.count("lerobot:pi05, weights=random, on h100-sxm-80gb") == 1


def test_nothing_is_loaded_from_anywhere(build_ledger: BuildLedger) -> None:
    path = build_ledger()
    html = render_html(read(path), command="c")
    page = Page(html)
    assert all(address.startswith("#") or address == "data:," for address in page.addresses), page.addresses
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)  # that libraries name pages is no request
    assert set(re.findall(r"https?://[^\s\"'<)]+", own)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)", own)
    assert "default-src 'none'" in html


def test_anchors_lead_somewhere_and_ids_are_unique(build_ledger: BuildLedger) -> None:
    page = page_of(build_ledger())
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_pictures_say_what_they_show(build_ledger: BuildLedger) -> None:
    html = render_html(read(build_ledger()), command="c")
    assert html.count('role="img"') == html.count('role="img" aria-label')
    curve = re.search(r'data-chart="nfe0" role="group" aria-label="(Median end-to-end latency[^"]+)"', html)
    assert curve is not None
    assert "ms at NFE 10" in curve.group(1)
    assert '<html lang="en">' in html


def test_what_the_ledger_says_is_text_never_markup(build_ledger: BuildLedger) -> None:
    page = page_of(build_ledger(task_names=(HOSTILE, "b", "c", "d"), error_message=HOSTILE))
    assert "img" not in page.tags
    assert page.tags.count("script") == page_of(build_ledger()).tags.count("script")
    assert page.words.count("document.title='owned'") >= 2


def test_the_page_is_the_same_every_time(build_ledger: BuildLedger) -> None:
    ledger = read(build_ledger())
    assert render_html(ledger, command="c") == render_html(ledger, command="c")


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({"scripted": 0.85}, "scripted solved 17 of 20 episodes of libero_spatial (85 %)"),
        ({"noop": 0.1}, "noop solved 2 of 20"),
    ],
)
def test_a_broken_control_is_the_first_thing_one_reads(
    build_ledger: BuildLedger, changes: dict[str, float], alarm: str
) -> None:
    words = page_of(build_ledger(**changes)).words
    assert "The harness or the simulator is broken, not the policy" in words
    assert words.index(alarm) < words.index("Success per task")


def test_healthy_controls_raise_no_alarm(build_ledger: BuildLedger) -> None:
    words = page_of(build_ledger(scripted=0.9, noop=0.05)).words
    assert "broken" not in words
    assert "positive control" in words
    assert "negative control" in words


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_finish_is_marked_partial(build_ledger: BuildLedger, status: str) -> None:
    words = page_of(build_ledger(status=status)).words
    assert "Partial results" in words
    assert "--resume" in words
    assert words.index("partial") < words.index("Success")


@pytest.mark.parametrize(
    ("status", "later", "partial"),
    [
        ("running", {}, False),
        ("stopped", {}, True),
        ("running", {"status": "interrupted"}, True),
        ("running", {"suite": "name: demo\npolicies: [scripted]"}, True),
        ("running", {"started_at": timedelta(hours=-1)}, True),
    ],
)
def test_a_run_that_was_resumed_to_its_end_is_not_partial(
    build_ledger: BuildLedger, status: str, later: dict[str, Any], partial: bool
) -> None:
    path = build_ledger(status=status)
    (run,) = read(path).runs.to_dict("records")
    began = run["started_at"] + later.get("started_at", timedelta(hours=1))
    row = {name: value for name, value in run.items() if not pd.api.types.is_scalar(value) or pd.notna(value)}
    resumed = {"run_id": "later", "status": "finished", **later, "started_at": began}
    LedgerWriter(path).append("runs", [row | resumed])
    assert (run["run_id"] in set(Summary(read(path)).unfinished["run_id"])) is partial


def test_a_finished_run_is_not_partial(build_ledger: BuildLedger) -> None:
    assert "artial" not in page_of(build_ledger()).words


@pytest.mark.parametrize("tables", [("runs",), ("latency",), ("runs", "episodes"), ("runs", "nodes"), ("decisions",)])
def test_a_ledger_with_only_some_tables_gives_a_page_without_the_rest(
    build_ledger: BuildLedger, tables: tuple[str, ...]
) -> None:
    words = page_of(build_ledger(tables=tables)).words
    assert ("Where the time went" in words) == ("episodes" in tables)
    assert ("Percentiles over all raw samples" in words) == ("latency" in tables)
    assert "nan" not in words.lower().split()


@pytest.mark.parametrize("name", ["../secret.mp4", "videos/../../secret.mp4", "{folder}/secret.mp4"])
def test_a_video_outside_its_ledger_is_not_linked(build_ledger: BuildLedger, tmp_path: Path, name: str) -> None:
    path = build_ledger(videos=True)
    (path.parent / "secret.mp4").write_bytes(b"-")
    part = next((path / "episodes").glob("*.parquet"))
    table = pq.read_table(part)
    names = pa.array([name.format(folder=path.parent)] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index("video"), table.schema.field("video"), names), part)
    target = write_html(read(path), tmp_path / "out" / "report.html", command="c")
    assert "secret.mp4" not in target.read_text()


def test_videos_that_exist_are_linked_relative_to_the_page(build_ledger: BuildLedger, tmp_path: Path) -> None:
    path = build_ledger(videos=True)
    (path / "videos" / "flow-0.mp4").unlink()
    target = write_html(read(path), tmp_path / "out" / "report.html", command="c")
    page = Page(target.read_text(encoding="utf-8"))
    links = [address for address in page.addresses if "mp4" in address]
    assert set(links) == {"../ledger/videos/flow-1%20%26%202.mp4"}
    assert (target.parent / "../ledger/videos/flow-1 & 2.mp4").is_file()


def test_a_page_that_cannot_be_written_is_named(build_ledger: BuildLedger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/report\.html"):
        write_html(read(build_ledger()), tmp_path / "file" / "report.html", command="c")


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium, without a network to speak of."""
    assert CHROMIUM is not None
    off = ("gpu", "quic", "background-networking", "component-update", "sync")
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{name}" for name in off),
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            *flags,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_real_browser_shows_the_numbers_without_errors(build_ledger: BuildLedger, tmp_path: Path) -> None:
    path = build_ledger(task_names=(HOSTILE, "b", "c", "d"), error_message=HOSTILE)
    target = write_html(read(path), tmp_path / "report.html", command="c")

    shown = browse(target, tmp_path / "profile", "--dump-dom")

    dom = Page(shown.stdout)
    for row in success_by_suite(read(path).episodes).to_dict("records"):
        assert percent_interval(row["low"], row["high"]) in dom.words
    assert "<title>demo · vla-harness report</title>" in shown.stdout
    assert "img" not in dom.tags
    assert "CONSOLE" not in shown.stderr, shown.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_console_watch_of_these_tests_would_see_an_error(tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><img src='https://nowhere.invalid/x.png'><script>console.error('seen')</script>")
    assert "CONSOLE" in browse(page, tmp_path / "profile", "--dump-dom").stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_real_browser_paints_the_page_within_its_width(build_ledger: BuildLedger, tmp_path: Path, width: int) -> None:
    image = pytest.importorskip("PIL.Image")
    target = write_html(read(build_ledger(scripted=0.5)), tmp_path / "report.html", command="c")
    probe = (
        "<script>document.title = document.documentElement.scrollWidth <= innerWidth ? 'fits' : 'overflows'</script>"
    )
    measured = tmp_path / "measured.html"
    measured.write_text(target.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8")

    dom = browse(measured, tmp_path / "profile", f"--window-size={width},2000", "--dump-dom").stdout
    browse(target, tmp_path / "profile", f"--window-size={width},2000", f"--screenshot={tmp_path / 'shot.png'}")

    assert "<title>fits</title>" in dom
    shot = image.open(tmp_path / "shot.png").convert("RGB")
    colours = {colour for _, colour in shot.getcolors(maxcolors=2**24)}
    assert shot.width == width
    assert len(colours) > 50
    assert any(red > 150 and green < 60 and blue < 60 for red, green, blue in colours), "the alarm is red"

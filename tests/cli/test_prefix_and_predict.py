"""`harness prefix`, `harness predict` and `harness report --published`, from the command line to what they print."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from synthetic_probe import H100, H200, PARTS, e2e_ms, write_probe

from harness.cli.app import invoke
from harness.ledger import LedgerWriter


@pytest.fixture
def h100(tmp_path: Path) -> str:
    return str(write_probe(tmp_path / "h100", H100, run="a"))


@pytest.fixture
def h200(tmp_path: Path) -> str:
    return str(write_probe(tmp_path / "h200", H200, run="b"))


def test_prefix_prints_the_sweep_both_prefixes_floors_and_rejected_claims(
    h100: str, h200: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["prefix", h100, h200]) == 0
    out = capsys.readouterr().out
    assert "T(1)" in out
    assert f"{e2e_ms(H100, PARTS, 10) / e2e_ms(H100, PARTS, 1):.2f}×" in out
    assert re.search(r"on h200 +10 +denoise step +mixed", out)
    assert re.search(r"prefix is bandwidth-bound +REJECTED +the bandwidth floor explains 14% of 9.89 ms", out)


def test_prefix_reads_no_episodes(h100: str, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("episodes", "decisions"):
        folder = Path(h100, table)
        folder.mkdir(exist_ok=True)
        (folder / "part-20990101-000000-000000-a.parquet").write_bytes(b"what cannot be read")
    assert invoke(["prefix", h100]) == 0
    assert "T(1)" in capsys.readouterr().out
    assert invoke(["report", h100]) != 0


def test_prefix_writes_json_without_nan_and_markdown_without_terminal_output(
    h100: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["prefix", h100, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"sweep", "prefix", "roofline", "claims", "across"} == set(found)
    step = next(row for row in found["roofline"] if row["component"] == "denoise_step")
    assert step["compile"] is None
    assert step["launch_share"] == 0
    assert invoke(["prefix", h100, "--markdown", str(tmp_path / "prefix.md")]) == 0
    assert "## What limits each component" in (tmp_path / "prefix.md").read_text()


def test_prefix_of_a_ledger_without_latency_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LedgerWriter(tmp_path / "l").append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}"}])
    assert invoke(["prefix", str(tmp_path / "l")]) == 64
    assert "holds no latency samples" in capsys.readouterr().err


def test_predict_sets_its_error_beside_what_was_measured(
    h100: str, h200: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        invoke(["predict", "--from", h100, "--to", "h200", "--measured", h200, "--json", "-", "--anchor", "none"]) == 0
    )
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["nfe"] for row in found] == [1, 10]
    for row in found:
        assert row["measured_ms"] == pytest.approx(e2e_ms(H200, PARTS, row["nfe"]))
        assert abs(row["error"]) < 0.01
        assert row["low_ms"] < row["measured_ms"] < row["high_ms"]


def test_predict_from_a_description_needs_no_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["predict", "--architecture", "student-650m,student-650m-int8,pi05", "--to", "jetson-orin-nano-8gb"]
    assert invoke([*argv, "--nfe", "10"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"student-650m-int8 +one graph +jetson-orin-nano-8gb +\w+ +yes +10", out)
    assert re.search(r"pi05 +one graph +jetson-orin-nano-8gb +\w+ +NO +10", out)
    assert len(re.findall(r"no anchor *$", out, flags=re.MULTILINE)) == 3
    assert "student-650m, student-650m-int8, pi05: no anchor" in " ".join(out.split())


@pytest.mark.parametrize(("allowed", "code", "verdict"), [(0.5, 0, "passes"), (0.001, 1, "FAILS")])
def test_the_back_test_prints_error_and_reason_of_every_published_row(
    h100: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    allowed: float,
    code: int,
    verdict: str,
) -> None:
    monkeypatch.setattr("harness.analysis.predict.anchored.MAX_ERROR", allowed)
    assert invoke(["predict", "--from", h100, "--back-test", "--markdown", "-"]) == code
    out = capsys.readouterr().out
    assert "DGX Spark GB10, LeRobot, teacher" in out
    assert "the rest" in out
    assert f"All: {verdict}: " in out


def test_shipped_anchors_are_used_by_default_and_named(h100: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["predict", "--from", h100, "--to", "dgx-spark-gb10", "--nfe", "10", "--json", "-"]
    found = {}
    for name, anchor in (("none", ["none"]), ("shipped", []), ("own", ["none", "dgx-spark-gb10:nfe10=1299,nfe1=798"])):
        assert invoke([*argv, *(part for text in anchor for part in ("--anchor", text))]) == 0
        (found[name],) = json.loads(capsys.readouterr().out)["predictions"]
    assert found["none"]["anchors"] == []
    assert any("Haptic" in name for name in found["shipped"]["anchors"])
    assert found["shipped"]["back_test"].startswith("FAILS")
    for name in ("shipped", "own"):
        assert found[name]["low_ms"] < 1299 < found[name]["high_ms"]
    assert found["none"]["likely_ms"] < 700
    assert invoke(argv[:-2]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "dgx-spark-gb10, LeRobot, NFE 10: 1299 ms (Haptic, April 2026)" in out
    assert "FAILS" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--to", "h200"], "Name what to predict"),
        (["--architecture", "pi05"], "Name the devices"),
        (["--architecture", "pi05", "--to", "h20"], "Did you mean 'h200'"),
        (["--architecture", "pi50", "--to", "h200"], "Did you mean 'pi05'"),
        (["--architecture", "pi05", "--to", "h200", "--nfe", "0"], "--nfe has 0"),
        (["--back-test"], "name it with --from"),
        (["--from", "H100", "--to", "h200", "--anchor", "h200"], "nfe10=1299"),
    ],
)
def test_a_wrong_request_is_answered_by_what_is_missing(
    h100: str, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["predict", *(h100 if part == "H100" else part for part in argv)]) == 64
    assert message in capsys.readouterr().err


def test_a_ledger_that_was_not_counted_is_refused_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_probe(tmp_path / "l", counted=False))
    assert invoke(["predict", "--from", path, "--to", "h200"]) == 64
    assert "Probe it again" in capsys.readouterr().err


def test_report_sets_published_rows_beside_measured_ones(
    h200: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["report", h200, "--published"]) == 0
    out = capsys.readouterr().out
    assert "Published decisions" in out
    assert "sglang PR 34599" in out
    assert invoke(["report", h200, "--published", "--json", "-", "--html", str(tmp_path / "page.html")]) == 0
    (table, *_) = json.loads(capsys.readouterr().out)["published"]
    assert table["rows"]
    page = (tmp_path / "page.html").read_text()
    assert "Beside what is published" in page
    assert table["title"] in page
    assert "--published --html" in page
    assert invoke(["report", h200, "--published", "--markdown", "-"]) == 0
    assert "## Published decisions" in capsys.readouterr().out


def test_report_has_the_verdicts_in_html(h200: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert invoke(["report", h200, "--html", str(page)]) == 0
    assert 'id="roofline"' in page.read_text()


@pytest.mark.parametrize("ratio", ["nan", "inf", "1e308", "0"])
def test_a_host_ratio_that_predicts_nothing_is_refused(
    h100: str, ratio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["predict", "--from", h100, "--to", "h200", "--host-ratio", ratio]) == 64
    assert f"--host-ratio is {float(ratio):g}, where a ratio" in capsys.readouterr().err


def test_a_ledger_that_measured_something_else_is_told(h100: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["predict", "--from", h100, "--to", "h200", "--measured", h100, "--nfe", "1"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"has no decision of .* on h200 .*nothing is measured there\. It has: .* on h100", said)

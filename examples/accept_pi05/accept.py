"""Real Pi0.5 weights from the hub: expected against got, on one page. See README.md beside this file.

python examples/accept_pi05/accept.py --out reports/accept-pi05
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from harness.analysis.predict.published import STACK, load_published
from harness.analysis.success.published import beside_success, load_published_success
from harness.ledger import Ledger, read
from harness.report.markdown import table_markdown
from harness.report.tables.table import Table

POLICY = "lerobot:lerobot/pi05-libero"
EXPECTED_SUCCESS = {10: ("lerobot/pi05-libero", "LeRobot", "SnapFlow teacher"), 1: ("naive 1-step",)}
"""NFE → variants of the published rows that the same weights should not be worse than."""
CAMERAS_AND_HOST = 1.5
"""A published time on the same device is met within this factor: its cameras, dtype and host are not stated."""

Answer = Literal["holds", "FAILS", "open"]


class Line(NamedTuple):
    """One line of the page."""

    what: str
    expected: str
    got: str
    answer: Answer
    source: str


def success_lines(run: Ledger) -> Iterator[Line]:
    """Success at each NFE against the published rows of these weights."""
    found = beside_success(run.episodes, run.manifests, load_published_success())
    for nfe, variants in EXPECTED_SUCCESS.items():
        rows = found[(found["nfe"] == nfe) & (found["published_nfe"] == nfe) & found["variant"].isin(variants)]
        if rows.empty:
            yield Line(f"success at NFE {nfe}", "as published", "not run", "open", "reports/published/success.csv")
        for row in rows.to_dict("records"):
            answer: Answer = {"worse": "FAILS", "cannot tell at this n": "open"}.get(row["verdict"], "holds")  # type: ignore[assignment]
            yield Line(
                f"success at NFE {nfe}, {row['suite']}",
                f"not worse than {row['published_rate']:.1%} of {row['published_n']}",
                f"{row['successes']}/{row['n']} [{row['low']:.1%}, {row['high']:.1%}]: {row['verdict']}",
                answer,
                row["source"],
            )


def latency_lines(probe: Ledger) -> Iterator[Line]:
    """T(10) / T(1), and each time against what is published of the device."""
    e2e = probe.latency[probe.latency["component"] == "e2e"]
    published = load_published()
    rows = published[(published["stack"] == STACK) & (published["component"] == "e2e") & (published["model"] == "pi05")]
    pairs = rows.groupby(["profile", "source", "nfe"])["latency_ms"].median().unstack("nfe")
    ratios = (pairs[10] / pairs[1]).dropna()
    low, high = float(ratios.min()), float(ratios.max())
    for hardware, samples in e2e.groupby("hardware", dropna=False):
        times = samples.groupby("nfe")["latency_ms"].median()
        if not {1, 10} <= set(times.index):
            yield Line(f"T(10) / T(1) on {hardware}", f"{low:.1f} to {high:.1f}", "not timed", "open", "latency.csv")
            continue
        ratio = float(times[10] / times[1])
        inside = low / 1.1 <= ratio <= high * 1.1
        devices = ", ".join(str(name) for name, _ in ratios.index)
        yield Line(
            f"T(10) / T(1) on {hardware}",
            f"{low:.1f} to {high:.1f}",
            f"{ratio:.2f}",
            "holds" if inside else "open",
            devices,
        )
        known = rows[rows["profile"] == hardware].groupby("nfe")["latency_ms"].median()
        for nfe in (1, 10):
            if nfe in known.index:
                expected, took = float(known[nfe]), float(times[nfe])
                factor = took / expected
                near = 1 / CAMERAS_AND_HOST <= factor <= CAMERAS_AND_HOST
                yield Line(
                    f"T({nfe}) on {hardware}",
                    f"{expected:g} ms within {CAMERAS_AND_HOST:g} times",
                    f"{took:.1f} ms, {factor:.2f} times",
                    "holds" if near else "open",
                    "reports/published/latency.csv",
                )


def page(lines: list[Line]) -> str:
    """The page, in Markdown."""
    verdict = "FAILS" if any(line.answer == "FAILS" for line in lines) else "open"
    verdict = "ACCEPTED" if all(line.answer == "holds" for line in lines) else verdict
    columns = ("what", "expected", "got", "answer", "source")
    note = "open: too few episodes, or nothing that decides it. Rates: Clopper-Pearson, 95 %; Fisher's exact test, 5 %."
    table = Table("Expected against got", columns, tuple(map(tuple, lines)), 5, note)
    return f"# Acceptance of Pi0.5: {verdict}\n\n{table_markdown(table)}\n"


def call(*arguments: str) -> int:
    """Run `harness` and show what it prints."""
    print("$ harness", *arguments, flush=True)
    return subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", *arguments], check=False
    ).returncode


def main() -> int:
    """Check, run, time, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--policy", default=POLICY, help=f"weights ({POLICY})")
    parser.add_argument("--suite", default="seed", help="suite of the episodes (seed: 10 tasks x 2)")
    parser.add_argument("--out", type=Path, default=Path("reports/accept-pi05"))
    parser.add_argument("--hardware", help="profile of this machine, if it is not recognised")
    parser.add_argument("--skip-run", action="store_true", help="time only")
    parser.add_argument("--from-ledgers", nargs=2, metavar=("RUN", "PROBE"), help="make the page from these ledgers")
    given = parser.parse_args()
    lines: list[Line] = []
    run, probe = given.from_ledgers or (str(given.out / "run"), str(given.out / "latency"))
    if not given.from_ledgers:
        code = call("doctor", "--policy", given.policy)
        told = "finds nothing that gives 0 %"
        lines.append(Line("harness doctor", told, f"exit code {code}", "FAILS" if code else "holds", "harness doctor"))
        if not given.skip_run and call(
            "run", given.suite, "--policy", given.policy, "--nfe", "1,10", "--out", run, "--resume"
        ):
            return 1
        hardware = ["--hardware", given.hardware] if given.hardware else []
        if call("probe", "--policy", given.policy, "--nfe", "1,10", *hardware, "--out", probe):
            return 1
    lines += [*(() if given.skip_run else success_lines(read(run))), *latency_lines(read(probe))]
    given.out.mkdir(parents=True, exist_ok=True)
    written = given.out / "accept.md"
    written.write_text(page(lines), encoding="utf-8")
    print(page(lines))
    print(f"Page: {written}")
    answers = {line.answer for line in lines}
    return 1 if "FAILS" in answers else 2 if "open" in answers else 0


if __name__ == "__main__":
    sys.exit(main())

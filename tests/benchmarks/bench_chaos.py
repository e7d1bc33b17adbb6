"""Faults in the middle of real runs, one a round: `python tests/benchmarks/bench_chaos.py --rounds 100`.

Every round is `harness run` in a process of its own, with its private Ray cluster, over 200 stub episodes (or, with
`--world libero`, a few of LIBERO). At a drawn moment one drawn fault happens; then the command that `harness run`
names, `--resume`, is given until the run is finished, and the ledger is held against that of an undisturbed run:
episodes lost, counted twice or otherwise ended (outcome, steps, trajectory), decisions lost or counted twice,
tracebacks, and processes that are there 10 s after their command ended. Moments and faults come from `--seed`.
Needs root on Linux, for small tmpfs. Exits 1 when anything was lost, counted twice, wrong, or left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from small_disk import SmallDisk  # noqa: E402

import harness  # noqa: E402
from harness.errors import EXIT_INTERRUPTED, HarnessError  # noqa: E402
from harness.ledger.attempts import IDENTITY  # noqa: E402
from harness.time_source import WallTime  # noqa: E402

SUITES = {
    "stub": """
name: chaos
description: 200 stub episodes, of a policy in a server and of three in the workers
world: stub
protocol: stub
tasks: [{suite: stub, init_states: 5}]
limits: {episode_s: 20, decision_s: 10}
policies:
- {kind: python, path: "stub_runs:Served", label: served}
- {kind: python, path: "stub_runs:Steady", label: inside}
- noop
- random
""",
    "libero": """
name: chaos
description: a few episodes of LIBERO without frames
world: libero
protocol: lerobot
tasks: [{suite: libero_spatial, tasks: [0, 1], init_states: 3}]
policies: [scripted]
""",
}
WORKERS = 3
LEFT_S = 10.0
"""When no process of a command may be there any more."""
COMMAND_S = 600.0
CALM_EVERY = 9
"""Rounds after which an undisturbed one is played again."""
RESUMES = 4
"""Commands that may be needed to finish a round, besides the first."""

Fault = Callable[["Round"], None]


@dataclass
class Outcome:
    """What came of a round."""

    fault: str
    at: int
    """Episodes that were in the ledger when it happened; -1 where the run had ended before."""
    wall_s: float = 0.0
    """Every command of the round, without waiting for processes to leave."""
    calm_s: float = float("nan")
    """The same of the last undisturbed round before it: what else the machine does comes in waves."""
    commands: list[int] = field(default_factory=list)
    """Exit status of each."""
    lost: int = 0
    twice: int = 0
    """Episodes that readers count twice, or that finished twice."""
    wrong: int = 0
    decisions_lost: int = 0
    decisions_twice: int = 0
    tracebacks: int = 0
    left: int = 0
    hit: list[str] = field(default_factory=list)
    """Processes that a signal was sent to: number and name."""
    told: list[str] = field(default_factory=list)
    """What is worth to be looked at."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        parts = (self.lost, self.twice, self.wrong, self.decisions_lost, self.decisions_twice, self.tracebacks)
        return not any((*parts, self.left))


class JumpingTime(WallTime):
    """A clock that somebody sets, and a stopwatch that goes on while the machine sleeps: once, when a file appears."""

    def __init__(self, mark: str, day_s: float, pause_s: float) -> None:
        """Jump by `day_s` (time of day) and `pause_s` (stopwatch), seconds, from the moment that `mark` exists."""
        self._mark, self._day_s, self._pause_s = mark, day_s, pause_s

    def now(self) -> datetime:
        """Time of day, UTC."""
        return super().now() + timedelta(seconds=self._day_s if os.path.exists(self._mark) else 0)

    def seconds(self) -> float:
        """Monotonic seconds."""
        return super().seconds() + (self._pause_s if os.path.exists(self._mark) else 0)


class Round:
    """One run, its ledger, and what is done to it."""

    def __init__(self, folder: Path, world: str, draw: np.random.Generator, outcome: Outcome) -> None:
        """Get ready in `folder`; nothing runs yet."""
        self.folder, self.world, self.draw, self.outcome = folder, world, draw, outcome
        self.ledger = folder / "disk" / "led"
        self.ledger.parent.mkdir(parents=True)
        (folder / "chaos.yaml").write_text(SUITES[world])
        self.running: list[subprocess.Popen[str]] = []
        self.seen: dict[int, psutil.Process] = {}
        self.disk: SmallDisk | None = None
        self.jumps = False

    def on_disk(self, change: Callable[[SmallDisk], None]) -> None:
        """Change the file system that the ledger lies on."""
        assert self.disk is not None, "the fault is not among ON_TMPFS"
        change(self.disk)

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Begin a command."""
        command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "chaos.yaml"]
        command += ["--out", str(self.ledger), "--workers", str(WORKERS), *more]
        if self.jumps and not more:
            command = [sys.executable, __file__, "--drive", str(self.folder)]
        path = [str(ROOT), str(ROOT / "tests" / "cluster"), os.environ.get("PYTHONPATH", "")]
        told = (self.folder / f"told-{len(self.outcome.commands)}-{len(self.running)}.txt").open("w+")
        begun = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            stdout=told,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        told.close()
        self.running.append(begun)
        return begun

    def look(self) -> None:
        """Remember every process of the commands that run."""
        for command in self.running:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(command.pid).children(recursive=True):
                    self.seen.setdefault(child.pid, child)

    def wait_for(self, episodes: int) -> bool:
        """Wait until so many episodes are in the ledger; False when the run ended before."""
        until = time.monotonic() + COMMAND_S
        while time.monotonic() < until:
            self.look()
            if (held := count(self.ledger)) >= episodes:
                self.outcome.at = held
                return True
            if all(command.poll() is not None for command in self.running):
                return False
            time.sleep(0.05)
        return False

    def wait(self) -> list[int]:
        """Wait for the commands; their exit statuses."""
        until = time.monotonic() + COMMAND_S
        while any(command.poll() is None for command in self.running):
            self.look()
            if time.monotonic() > until:
                self.outcome.told.append(f"a command did not end within {COMMAND_S:.0f} s")
                for command in self.running:
                    command.kill()
            time.sleep(0.1)
        codes = [command.wait() for command in self.running]
        self.outcome.commands += codes
        self.running = []
        return codes

    def count_left(self) -> None:
        """Count processes that are still there `LEFT_S` after their commands."""
        until = time.monotonic() + LEFT_S
        while (alive := [each for each in self.seen.values() if _runs(each)]) and time.monotonic() < until:
            time.sleep(0.2)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                self.outcome.told.append(f"left: {' '.join(process.cmdline())[:90]}")
                process.kill()
        self.outcome.left += len(alive)
        self.seen.clear()

    def find(self, name: str) -> psutil.Process | None:
        """A living process of the run, drawn among those whose name or first word of the command line holds `name`."""
        self.look()
        found = []
        for process in self.seen.values():
            with contextlib.suppress(psutil.Error, IndexError):
                if _runs(process) and (name in process.name() or name in process.cmdline()[0]):
                    found.append(process)
        return found[int(self.draw.integers(len(found)))] if found else None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def count(ledger: Path) -> int:
    """Rows of `episodes` by now."""
    held = 0
    for part in ledger.glob("episodes/*.parquet"):
        with contextlib.suppress(OSError, ValueError):
            held += pq.read_metadata(part).num_rows
    return held


def _send(name: str, number: signal.Signals, resume_after: float | None = None) -> Fault:
    def send(round_: Round) -> None:
        process = round_.find(name)
        if process is None:
            round_.outcome.told.append(f"no process {name}")
            return
        round_.outcome.hit.append(f"{process.pid} {process.name()}")
        process.send_signal(number)
        if resume_after is not None:
            time.sleep(resume_after)
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    return send


def _head(round_: Round) -> None:
    for name in ("gcs_server", "raylet"):
        _send(name, signal.SIGKILL)(round_)


def _driver(number: signal.Signals) -> Fault:
    def send(round_: Round) -> None:
        os.kill(round_.running[0].pid, number)

    return send


def _group(number: signal.Signals) -> Fault:
    """To the whole group, as a terminal and a scheduler do."""

    def send(round_: Round) -> None:
        os.killpg(round_.running[0].pid, number)

    return send


def _pause_driver(round_: Round) -> None:
    os.kill(round_.running[0].pid, signal.SIGSTOP)
    time.sleep(4)
    os.kill(round_.running[0].pid, signal.SIGCONT)


def _full(round_: Round) -> None:
    """The file system shrinks to what it holds: nothing more can be written."""
    round_.on_disk(SmallDisk.fill)


def _read_only(round_: Round) -> None:
    round_.on_disk(SmallDisk.make_read_only)


def _removed(round_: Round) -> None:
    """At one stroke: a folder that is emptied file by file takes new ones meanwhile."""
    round_.ledger.rename(round_.folder / "removed")


def _second_driver(round_: Round) -> None:
    round_.start("--resume")


def _jump(round_: Round) -> None:
    (round_.folder / "jump").touch()


FAULTS: dict[str, Fault] = {
    "worker killed": _send("ray::RolloutWorker", signal.SIGKILL),
    "worker stopped 4 s": _send("ray::RolloutWorker", signal.SIGSTOP, 4),
    "server killed": _send("ray::PolicyServer", signal.SIGKILL),
    "server stopped 4 s": _send("ray::PolicyServer", signal.SIGSTOP, 4),
    "controller killed": _send("ray::Controller", signal.SIGKILL),
    "raylet killed": _send("raylet", signal.SIGKILL),
    "GCS killed": _send("gcs_server", signal.SIGKILL),
    "GCS stopped 4 s": _send("gcs_server", signal.SIGSTOP, 4),
    "head killed": _head,
    "driver killed": _driver(signal.SIGKILL),
    "driver stopped 4 s": _pause_driver,
    "Ctrl-C": _group(signal.SIGINT),
    "preempted": _group(signal.SIGTERM),
    "disk full": _full,
    "read-only": _read_only,
    "ledger removed": _removed,
    "two drivers": _second_driver,
    "clock jumps": _jump,
}
NO_FAULT = "none"
PLAIN = ("worker killed", "driver killed", "raylet killed", "disk full", "Ctrl-C")
"""What is worth trying with the real simulator too."""
AT_ONCE = ("two drivers",)
"""What happens as the run begins: a second driver takes as long to start as all stub episodes take."""
ON_TMPFS = ("disk full", "read-only")


def play(
    fault: str | None, world: str, draw: np.random.Generator, expected: int, keep: Path | None
) -> tuple[Outcome, Path]:
    """Run a round up to its finished ledger.

    Returns:
        (what came of it so far, its folder).
    """
    outcome = Outcome(fault or NO_FAULT, -1)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=keep))
    round_ = Round(folder, world, draw, outcome)
    round_.jumps = fault == "clock jumps"
    if fault in ON_TMPFS:
        round_.disk = SmallDisk(round_.ledger.parent)
    began = time.monotonic()
    round_.start()
    moment = 0 if fault in AT_ONCE else int(draw.integers(1, max(int(expected * 0.7), 2)))
    if fault is not None and round_.wait_for(moment):
        FAULTS[fault](round_)
    codes = round_.wait()
    if round_.disk is not None:
        round_.disk.mend()
    waited = _timed(round_.count_left)
    for _ in range(RESUMES):
        if 0 in codes:
            break
        round_.start("--resume")
        codes = round_.wait()
        waited += _timed(round_.count_left)
    else:
        outcome.told.append(f"not finished after {RESUMES} resumes")
    outcome.wall_s = time.monotonic() - began - waited
    for told in sorted(folder.glob("told-*.txt")):
        text = told.read_text(errors="replace")
        if any(code not in (0, 3, 130, -9, -15) for code in outcome.commands):
            outcome.told.append(text[-400:])
        if "Traceback (most recent call last)" in text:
            outcome.tracebacks += 1
            outcome.told.append(text[-1500:])
    return outcome, folder


def _timed(call: Callable[[], None]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


Facts = dict[tuple[object, ...], tuple[object, ...]]


def read_facts(ledger: Path) -> tuple[Facts, Counter[tuple[object, ...]], Counter[tuple[object, ...]]]:
    """(episode → how it ended, episodes counted by readers and finished, decisions by episode and number)."""
    held = harness.read(ledger)
    rows = held.episodes
    keys = list(zip(*(_plain(rows[name]) for name in IDENTITY), strict=True))
    ends = list(
        zip(*(_plain(rows[name]) for name in ("outcome", "steps", "decisions", "trajectory_sha256")), strict=True)
    )
    counted = Counter(keys)
    every = harness.read(ledger, all_attempts=True).episodes
    finished = every[every["outcome"] != "error"]
    ended = Counter(zip(*(_plain(finished[name]) for name in IDENTITY), strict=True))
    made = held.decisions
    decisions = Counter(zip(*(_plain(made[name]) for name in (*IDENTITY, "decision")), strict=True))
    return dict(zip(keys, ends, strict=True)), counted | ended, decisions


def _plain(column: pd.Series) -> list[object]:
    return [None if pd.isna(value) else value for value in column.tolist()]


def judge(outcome: Outcome, ledger: Path, reference: Path) -> None:
    """Hold a round's ledger against the undisturbed one."""
    try:
        facts, counted, decisions = read_facts(ledger)
    except HarnessError as error:
        outcome.told.append(f"unreadable: {error}")
        outcome.lost = len(read_facts(reference)[0])
        return
    wanted, _, asked = read_facts(reference)
    outcome.lost = len(wanted.keys() - facts.keys())
    outcome.twice = sum(n - 1 for n in counted.values())
    outcome.wrong = sum(facts[key] != wanted[key] for key in facts.keys() & wanted.keys())
    outcome.wrong += len(facts.keys() - wanted.keys())
    outcome.decisions_lost = len(asked.keys() - decisions.keys())
    outcome.decisions_twice = sum(n - 1 for n in decisions.values())


def drive(folder: Path) -> None:
    """A run under a clock that jumps, as `harness run` would do it."""
    draw = np.random.default_rng(int.from_bytes(folder.name.encode()[-4:], "little"))
    day_s, pause_s = float(draw.choice([-86400.0, -3600.0, 3600.0, 86400.0])), float(draw.choice([0.0, 500.0]))
    clock = JumpingTime(str(folder / "jump"), day_s, pause_s)
    try:
        done = harness.run(str(folder / "chaos.yaml"), out=str(folder / "disk" / "led"), workers=WORKERS, clock=clock)
    except HarnessError as error:
        print(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    raise SystemExit(EXIT_INTERRUPTED if done.interrupted else bool(done.errors))


@contextlib.contextmanager
def _cleaning(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder / "disk")], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def chaos(
    rounds: int,
    seed: int,
    world: str = "stub",
    faults: Sequence[str] | None = None,
    seconds: float = float("inf"),
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Play rounds, after an undisturbed one.

    Args:
        rounds: How many.
        seed: Of faults and moments.
        world: "stub" or "libero".
        faults: Names of faults; None for all (those of `PLAIN` for LIBERO). They take turns, in a drawn order.
        seconds: After which no other round begins.
        say: Takes a line a round.

    Returns:
        An undisturbed round, then the others, among them further undisturbed ones.
    """
    began, draw = time.monotonic(), np.random.default_rng(seed)
    names = list(faults or (FAULTS if world == "stub" else PLAIN))
    calm, folder = play(None, world, draw, 0, None)
    with _cleaning(folder):
        reference = folder / "disk" / "led"
        judge(calm, reference, reference)
        calm.calm_s = calm.wall_s
        expected = count(reference)
        say(_line(0, calm))
        outcomes, order = [calm], []
        for number in range(1, rounds + 1):
            if time.monotonic() - began > seconds:
                break
            order = order or list(draw.permutation(names))
            turn: list[str | None] = [str(order.pop()), *([] if number % CALM_EVERY else [None])]
            for fault in turn:
                outcome, place = play(fault, world, draw, expected, None)
                outcome.calm_s = [each.wall_s for each in outcomes if each.fault == NO_FAULT][-1]
                with _cleaning(place):
                    judge(outcome, place / "disk" / "led", reference)
                outcomes.append(outcome)
                say(_line(number, outcome))
    return outcomes


def _line(number: int, outcome: Outcome) -> str:
    facts = {
        key: value
        for key, value in asdict(outcome).items()
        if key not in ("fault", "told", "wall_s", "calm_s") and value
    }
    told = "".join(f"\n      {line}" for line in outcome.told)
    return f"{number:4d} {outcome.fault:20s} {outcome.wall_s:6.1f} s {facts}{told}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each fault, and the sums."""
    calm = [each.wall_s for each in outcomes if each.fault == NO_FAULT]
    rest = [each for each in outcomes if each.fault != NO_FAULT]
    hit = [each for each in rest if each.at >= 0]
    lines = [
        f"undisturbed: {min(calm):.1f} to {max(calm):.1f} s; {len(rest)} rounds, {len(hit)} hit while episodes ran"
    ]
    lines.append("fault | rounds | commands, most | wall time over the last undisturbed round's, median")
    for fault in dict.fromkeys(sorted(each.fault for each in hit)):
        own = [each for each in hit if each.fault == fault]
        slow = median(each.wall_s / each.calm_s for each in own)
        lines.append(f"{fault} | {len(own)} | {max(len(each.commands) for each in own)} | {slow:.2f}")
    names = ("lost", "twice", "wrong", "decisions_lost", "decisions_twice", "tracebacks", "left")
    lines.append(
        ", ".join(f"{name.replace('_', ' ')} {sum(getattr(each, name) for each in outcomes)}" for name in names)
    )
    return "\n".join(lines)


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world", choices=sorted(SUITES), default="stub")
    parser.add_argument("--faults", nargs="+", choices=sorted(FAULTS))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="After which no other round begins.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive is not None:
        drive(options.drive)
    outcomes = chaos(
        options.rounds,
        options.seed,
        options.world,
        options.faults,
        options.seconds,
        lambda line: print(line, flush=True),
    )
    print(summary(outcomes))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    raise SystemExit(not all(outcome.sound for outcome in outcomes))


if __name__ == "__main__":
    main()

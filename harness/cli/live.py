"""Progress of a run: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.analysis.intervals import rate_interval
from harness.schedule.progress import PolicyProgress, Progress
from harness.screen import Screen, note, verbatim

LINE_EVERY_S = 10.0
"""Plain output: at most one line in this time, so that a night's log stays readable."""


class ProgressDisplay:
    """Shows `Progress` as it comes; a context manager."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Show on `screen`; lines instead of a panel when it is no terminal."""
        self._screen = screen
        self._clock = clock
        self._live = Live(console=screen.console, refresh_per_second=4, transient=True) if screen.is_terminal else None
        self._last_line: float | None = None
        self._last_shown: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Start the live panel on a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the panel; the final tables follow."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the present state."""
        if self._live is not None:
            self._live.update(panel(progress))
        counts = (progress.done, progress.errors)
        due = self._last_line is None or self._clock() - self._last_line >= LINE_EVERY_S
        if counts != self._last_shown and (due or progress.remaining == 0):
            if self._live is None:
                self._screen.say(line(progress))
            else:
                note(line(progress))  # a log has lines, whatever the terminal shows
            self._last_line, self._last_shown = self._clock(), counts


def line(progress: Progress) -> str:
    """One plain line: done, successes with interval, errors, rate, time left with its band, what limits it."""
    total = progress.planned
    done = progress.skipped + progress.done
    parts = [f"{done}/{total} episodes"]
    parts += [f"{variant.label} {_rate(counts)}" for variant, counts in progress.per_policy.items() if counts.done]
    parts.append(f"{progress.errors} errors")
    parts.append(f"{progress.rate * 3600:,.0f} episodes/h")
    if left := _left(progress):
        parts.append(left)
    if limit := _limit(progress):
        parts.append(limit)
    return " · ".join(parts)


def panel(progress: Progress) -> Group:
    """The live view: a bar, and a row for each policy."""
    head = Table.grid(padding=(0, 1))
    done = progress.skipped + progress.done
    head.add_row(
        ProgressBar(total=max(progress.planned, 1), completed=done, width=40),
        f"{done}/{progress.planned}",
        f"{progress.rate * 3600:,.0f} episodes/h",
        f"{progress.workers} workers",
        Text(f"{progress.errors} errors", style="red" if progress.errors else ""),
    )
    told = " · ".join(filter(None, (_left(progress) or "time left: not known yet", _limit(progress))))
    table = Table("policy", "done", "success (95 %)", "errors", box=None, pad_edge=False)
    for variant, counts in progress.per_policy.items():
        errors = Text(str(counts.errors), style="red" if counts.errors else "")
        table.add_row(verbatim(variant.label), f"{counts.done}/{counts.planned}", _rate(counts), errors)
    return Group(head, Text(told), table)


def _left(progress: Progress) -> str:
    """Time left with its band, once there is one."""
    if progress.eta_s is None or not progress.remaining:
        return ""
    band = progress.eta_band_s
    told = f" (90 %: {_duration(band[0])} to {_duration(band[1])})" if band else ""
    return f"{_duration(progress.eta_s)} left{told}"


LIMITS = {
    "policy": "waiting for the policy",
    "physics": "physics",
    "rendering": "rendering",
    "reset": "resets",
    "other": "neither policy nor simulator",
}
"""What an episode's time goes to → in words."""


def _limit(progress: Progress) -> str:
    """What limits the run."""
    if not progress.workers:
        return "no worker has begun"
    if progress.done and progress.remaining and progress.remaining < progress.workers:
        return f"the last {progress.remaining} episodes: other workers are idle"
    if progress.limit is None:
        return ""
    part, share = progress.limit
    return f"limited by {LIMITS[part]} ({100 * share:.0f} % of the workers' time)"


def _rate(counts: PolicyProgress) -> str:
    n = counts.done - counts.errors
    if n == 0:
        return "no episode yet"
    low, high = rate_interval(counts.successes, n)
    return f"{counts.successes}/{n} = {100 * counts.successes / n:.0f} % [{100 * low:.0f}–{100 * high:.0f}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

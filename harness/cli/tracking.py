"""`--log-to`: what a verb tells experiment trackers when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.summary import Summary


def tell_trackers(texts: Sequence[str] | None, summary: Summary, ledger: str, screen: Screen) -> None:
    """Give a ledger's results to the trackers that were named; trouble is said, and no verdict changes.

    Args:
        texts: As `harness.trackers.open_sink` takes them.
        summary: Of the ledger.
        ledger: Its path; the run is called by its last part.
        screen: Where trouble is said.
    """
    if not texts:
        return
    from harness.report.tracking import track
    from harness.trackers import open_sink

    for text in texts:
        try:
            sink = open_sink(text, Path(ledger.rstrip("/")).name)
        except Exception as error:
            screen.say(f"{text} did not open: {type(error).__name__}: {error}")
            continue
        track(summary, [sink], screen.say)

"""After every result: judge the checkpoint, and write the learning curve again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.ledger import open_ledger
from harness.notify import News, notify
from harness.report.terminal import print_table
from harness.report.tracking import tracked_videos
from harness.screen import Screen
from harness.spec.rules import GateRules
from harness.trackers import Sink, TrackedTable
from harness.watch.backlog.journal import CheckpointStatus, JournalEntry, State
from harness.watch.learning_curve.curve import Curve, Point, read_curve
from harness.watch.learning_curve.render import best_sentence, curve_table, write_page, write_parquet
from harness.watch.training.outbox import RESULTS, write_json


@dataclass(frozen=True)
class Judge:
    """Judges a checkpoint against a base ledger, or against the best checkpoint before it."""

    out: str
    rules: GateRules
    base: str | None
    nfe: int | None

    def __call__(self, entry: JournalEntry, state: State) -> tuple[str, str]:
        """(verdict, reason). A comparison that cannot be made is INCONCLUSIVE, and says why."""
        from harness.analysis.paired.compare import Choice
        from harness.gate import Verdict, gate

        against = None
        if self.base is None:
            best = read_curve(self.out, [one for one in state.entries.values() if one.name != entry.name]).best
            if best is None:
                return "", "the first checkpoint has nothing to be judged against"
            against = best.point.name
        choice = Choice(base_policy=against, policy=entry.name, nfe=self.nfe, base_nfe=self.nfe if against else None)
        try:
            result = gate(self.base or self.out, self.out, self.rules, choice=choice)
        except HarnessError as error:
            return Verdict.INCONCLUSIVE.value, str(error)
        reasons = [f"{one.rule}: {one.reason}" for one in result.results if one.verdict is not Verdict.PASS]
        return result.verdict.value, " ".join([f"against {against or self.base}.", *reasons])


@dataclass(frozen=True)
class Publisher:
    """Writes the curve where it is read, and tells whoever wants to know. Trouble here never stops the watch."""

    out: str
    outbox: Path | None
    nfe: int | None
    command: str
    sinks: tuple[Sink, ...]
    template: str | None
    screen: Screen

    def __call__(self, state: State, entry: JournalEntry | None) -> None:
        """Publish; `entry` has just got its result, None at the start of a watch."""
        if not state.entries:
            return
        try:
            curve = read_curve(self.out, list(state.entries.values()), nfe=self.nfe)
            write_parquet(curve, self.out)
            page = write_page(curve, self.out, self.command)
            if self.outbox is not None:
                self.outbox.mkdir(parents=True, exist_ok=True)
                write_json(self.outbox / RESULTS, curve.as_json())
        except (HarnessError, OSError) as error:
            self.screen.say(f"The learning curve could not be written: {error}")
            return
        if entry is not None:
            print_table(curve_table(curve), self.screen)
            self.screen.say(best_sentence(curve))
            self._tell(curve, entry, page)

    def _tell(self, curve: Curve, entry: JournalEntry, page: str) -> None:
        point = next(point for point in curve.points if point.name == entry.name)
        if entry.status is CheckpointStatus.EVALUATED:
            for sink in self.sinks:
                try:
                    self._give(sink, curve, point)
                except Exception as error:
                    self.screen.say(
                        f"{type(sink).__name__.strip('_')} did not take the result: {type(error).__name__}: {error}"
                    )
        if self.template is not None and entry.status is not CheckpointStatus.WAITING:
            rate = f"{point.successes}/{point.n}" if point.n else "no result"
            summary = f"{entry.name} {entry.verdict or entry.status}: {rate}. {best_sentence(curve)}"
            news = News(entry.verdict, page, self.out, entry.name, summary, str(entry.step))
            fault = notify(self.template, news)
            if fault is not None:
                self.screen.say(f"The notification failed: {fault}")

    def _give(self, sink: Sink, curve: Curve, point: Point) -> None:
        """Figures and videos of a checkpoint, and the curve as a table."""
        sink.log(point.step, figures(point))
        table = curve_table(curve)
        sink.table(point.step, TrackedTable(table.title, table.columns, table.rows))
        if "://" in self.out:
            return
        episodes = open_ledger(self.out).episodes
        for name, path in tracked_videos(episodes[episodes["policy_id"] == point.name], self.out):
            sink.video(point.step, name, path)


def figures(point: Point) -> dict[str, float]:
    """A point of the learning curve as figures."""
    values = {
        "eval/success": point.rate,
        "eval/success_low": point.low,
        "eval/success_high": point.high,
        "eval/episodes": float(point.n),
        "eval/errors": float(point.errors),
        "eval/decision_ms": point.decision_ms,
        "eval/e2e_ms": point.e2e_ms,
    }
    return {name: value for name, value in values.items() if value is not None}

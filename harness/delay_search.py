"""`harness delay`: plays the episodes that the search for the largest delay asks for, into one ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.delay_limit import DelayLimit, Solved, largest_delay
from harness.clocks import CLOCK_OF, DelaySamples, DelaySource
from harness.cluster.ray_session import open_session
from harness.cluster.run import RunResult, run
from harness.errors import UsageError
from harness.ledger import Ledger, read
from harness.ledger.storage import Location
from harness.schedule.progress import Progress
from harness.spec import PolicySpec, Suite
from harness.spec.timing import SYNCHRONOUS, ClockName, Latency


@dataclass(frozen=True)
class DelaySearch:
    """A search, as it was asked for."""

    suite: Suite
    policy: PolicySpec
    clock: ClockName
    out: str
    margin: float
    """Drop that is tolerated, as a fraction."""
    longest: int = 20
    """Largest delay that is considered, control steps."""
    nfe: int | None = None
    workers: int | None = None
    address: str | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_message: Callable[[str], None] | None = None
    played: list[RunResult] = field(default_factory=list)

    def run(self) -> DelayLimit:
        """Play the synchronous run, then bisect. What the ledger holds already is not played again.

        Raises:
            UsageError: The suite has no tasks, the clock is the synchronous one, or the chunk outlasts no delay.
            KeyboardInterrupt: The run was interrupted; everything finished is in the ledger.
        """
        if self.clock == SYNCHRONOUS or CLOCK_OF[self.clock].real:
            raise UsageError(f"Under the clock {self.clock} no delay is set; choose asynchronous, blocking or rtc.")
        if not self.suite.tasks:
            raise UsageError(f"Suite {self.suite.name!r} has no tasks to play.")
        if self.on_message is not None:
            at = self.address
            self.on_message("Starting Ray on this machine" if at is None else f"Joining the Ray cluster at {at}")
        # Once for all delays: each is a run of its own.
        with open_session(self.address):
            return self._search()

    def _search(self) -> DelayLimit:
        # A clock that the policy cannot do is told before hours of episodes.
        self._play((SYNCHRONOUS, self.clock), self.source(1), None, only_clocks=(SYNCHRONOUS,))
        order = self._order(read(self.out))
        longest = self._longest(read(self.out))

        def ask(steps: int, n: int) -> tuple[Solved, Solved]:
            source = self.source(steps)
            self._play((self.clock,), source, order[:n])
            return self._pairs(source.name, order[:n])

        return largest_delay(ask, longest, len(order), self.margin)

    def source(self, steps: int) -> DelaySource:
        """A constant delay of so many control steps."""
        ms = steps * 1000 / self.suite.protocol.control_hz
        name = f"constant:{ms:g}ms"
        return DelaySource(
            name, any_variant=DelaySamples.constant(ms), facts={"kind": "constant", "device": f"{steps} steps"}
        )

    def _play(
        self,
        clocks: tuple[ClockName, ...],
        source: DelaySource,
        keys: Sequence[str] | None,
        only_clocks: tuple[ClockName, ...] | None = None,
    ) -> None:
        latency = (Latency(source=source.name),)
        changes = {"clock": clocks, "latency": latency, "probe": None, "policies": (self.policy,)}
        result = run(
            self.suite.model_copy(update=changes),
            policies=[self.policy],
            nfe=None if self.nfe is None else [self.nfe],
            out=self.out,
            workers=self.workers,
            address=self.address,
            resume=bool(self.played) or Location.of(f"{self.out.rstrip('/')}/runs").exists(),
            on_progress=self.on_progress,
            on_message=self.on_message,
            only=keys,
            only_clocks=only_clocks,
            sources=(source,),
        )
        self.played.append(result)
        if result.interrupted:
            raise KeyboardInterrupt

    def _order(self, ledger: Ledger) -> list[str]:
        """Keys of the synchronous episodes, so that the first few are of all tasks."""
        episodes = ledger.episodes
        plain = episodes[(episodes["clock"] == SYNCHRONOUS) & (episodes["policy_id"] == self.policy.label)]
        if self.nfe is not None:
            plain = plain[plain["nfe"] == self.nfe]
        return plain.sort_values(["trial", "init_state_id", "suite", "task_id"])["episode_key"].tolist()

    def _longest(self, ledger: Ledger) -> int:
        """No longer than the chunk outlasts."""
        if not CLOCK_OF[self.clock].overlaps:
            return self.longest
        records = [json.loads(text) for text in ledger.runs["policies"].dropna()]
        lengths = [record.get(self.policy.label, {}).get("chunk_length") for record in records]
        known = [int(length) for length in lengths if length is not None]
        return min([self.longest, *(length - 1 for length in known)])

    def _pairs(self, source: str, keys: Sequence[str]) -> tuple[Solved, Solved]:
        episodes = read(self.out).episodes
        own = episodes[(episodes["policy_id"] == self.policy.label) & (episodes["outcome"] != "error")]
        if self.nfe is not None:
            own = own[own["nfe"] == self.nfe]
        solved = own.assign(solved=own["outcome"] == "success").set_index("episode_key")
        plain = solved[solved["clock"] == SYNCHRONOUS]["solved"]
        delayed = solved[(solved["clock"] == self.clock) & (solved["latency_source"] == source)]["solved"]
        both = [key for key in keys if key in plain.index and key in delayed.index]
        return (np.asarray(plain.loc[both], dtype=bool), np.asarray(delayed.loc[both], dtype=bool))

"""One episode on the wall clock: a control step begins when its time has come, whether an answer is in hand or not.

Soft real time: a step that takes longer than its period delays those after it, and is counted as an overrun. A thread
asks the policy, so that the robot goes on meanwhile, as under the clock `asynchronous`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer

from harness.clocks import delay_steps
from harness.rollout.actions import CheckedChunk
from harness.rollout.course import Course, seen
from harness.rollout.decide import Decided, timed_out
from harness.spec.observation import Observation


class WallCourse(Course):
    """The running state of one episode whose time is the wall clock's."""

    _asker: ThreadPoolExecutor | None = None
    """One thread, so that questions and the episode's end reach the policy in their order."""

    def run(self) -> str:
        """Run to the end and say "success" or "timeout"."""
        self._asker = ThreadPoolExecutor(1, thread_name_prefix="asks-the-policy")
        self.overruns = 0
        moment = self.begin()
        observation: Observation | None = moment
        tick = self.clock.seconds()
        asked: _Asked | None = _Asked(self, self._asker, moment, tick)
        chunk: CheckedChunk | None = None
        since, solved = 0, False
        while self.steps < self.max_steps and not solved:
            if asked is not None and asked.in_hand_by(tick):
                chunk, asked = self._take(asked.answer(), since, asked.ms), None
            if asked is None and since == len(self._moves(self.log.delay_steps)):
                self.old, self.old_from = chunk, since
                moment, chunk, since = seen(observation), None, 0
                asked = _Asked(self, self._asker, moment, tick)
            moves = self._moves(self.log.delay_steps if asked is None else [*self.log.delay_steps, since + 1])
            result = self._step(moves[since], chunk, moment, self._observes(since, waits=asked is not None))
            observation, solved, since = result.observation, result.success, since + 1
            tick = self._next_tick(tick)
        if asked is not None:
            # In virtual time too, a decision that the episode's end overtook is one.
            decided = asked.answer()
            self._take(decided, delay_steps(asked.ms, self.control_hz), asked.ms)
        return "success" if solved else "timeout"

    def end(self) -> None:
        """Let the policy forget the episode, after what it was asked last."""
        if self._asker is None:
            super().end()
            return
        with self._asker as asker:
            asker.submit(super().end).result()

    def _observes(self, since: int, *, waits: bool) -> bool:
        """Whether the next decision may look at what this step leads to: it begins when the answer comes, if late."""
        steps, delays = self.info.observation_steps, self.log.delay_steps
        if not waits:
            return since >= len(self._moves(delays)) - steps
        return any(since >= len(self._moves([*delays, d])) - steps for d in range(since + 1, since + 1 + steps))

    def _next_tick(self, tick: float) -> float:
        """Wait for the next control step to begin, and say when it did, seconds of the time source."""
        due, now = tick + 1 / self.control_hz, self.clock.seconds()
        if now > due:
            self.overruns = (self.overruns or 0) + 1
            return now
        self.clock.sleep(due - now)
        return due


class _Asked:
    """A decision in flight."""

    def __init__(self, course: WallCourse, asker: ThreadPoolExecutor, moment: Observation, tick: float) -> None:
        """Ask what to do at a moment that was observed at `tick`."""
        self._tick, self._seconds, self._policy = tick, course.clock.seconds, course.info.policy_id
        self._limit_s = min(course.limits.decision_s, max(course.deadline - tick, 0.001))
        self._question, self._nfe, self._decider = course.question(moment), course.unit.nfe, course.decider
        self._in_hand_at = float("inf")
        self._answer = asker.submit(self._decide)

    @property
    def ms(self) -> float:
        """From the observation to the action in hand, milliseconds."""
        return (self._in_hand_at - self._tick) * 1e3

    def in_hand_by(self, tick: float) -> bool:
        """Whether the answer, or why there is none, was in hand at a time.

        Raises:
            PolicyTimeout: It is not, and may no longer be waited for.
        """
        if self._answer.done():
            return self._answer.exception() is not None or self._in_hand_at <= tick
        if tick - self._tick > self._limit_s:
            raise self._timed_out()
        return False

    def answer(self) -> Decided:
        """The answer, waited for if need be.

        Raises:
            PolicyError: See `Decider.decide`.
        """
        try:
            return self._answer.result(max(self._tick + self._limit_s - self._seconds(), 0.0))
        except NoAnswer:
            if self._answer.done():
                raise
            raise self._timed_out() from None

    def _decide(self) -> Decided:
        decided = self._decider.decide(*self._question, self._nfe, self._limit_s)
        self._in_hand_at = self._seconds()
        return decided

    def _timed_out(self) -> Exception:
        return timed_out(self._policy, self._question[0].decision, self._limit_s)

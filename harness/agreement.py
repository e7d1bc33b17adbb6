"""How far apart two policies act on what one of them meets: the same observations and the same noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.analysis.agreement import Decisions
from harness.errors import UsageError
from harness.policies.base import Policy
from harness.rollout.actions import check_answer
from harness.rollout.decide import LocalDecider
from harness.rollout.episode import run_episode
from harness.rollout.limits import Alarm
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec.manifest import manifest_sha256
from harness.spec.observation import ActionChunks, Observation
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource, WallTime
from harness.worlds.base import sim_config
from harness.worlds.registry import get_world


class Shadowed:
    """The teacher, with a student that decides the same and is not obeyed."""

    def __init__(self, teacher: Policy, student: Policy, student_nfe: int | None) -> None:
        """Wrap both.

        Raises:
            UsageError: They look at other cameras, or draw noise of other shapes: no decision would be the same.
        """
        for name in ("cameras", "noise_shape"):
            mine, theirs = getattr(teacher.info, name), getattr(student.info, name)
            if mine != theirs:
                raise UsageError(
                    f"{teacher.info.policy_id} and {student.info.policy_id} cannot be compared decision by decision: "
                    f"{name} {mine} against {theirs}."
                )
        self.info = teacher.info
        self._teacher, self._student, self._student_nfe = teacher, student, student_nfe
        self.pairs: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        """Chunks of teacher and student, each of shape (T, 7), in the order of decisions."""

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """The teacher's chunks; the student's are kept."""
        chunks = self._teacher.act(observations, noise, nfe=nfe)
        shadow = self._student.act(observations, noise, nfe=self._student_nfe)
        own = check_answer(self.info, chunks, len(observations))
        pairs = zip(own, check_answer(self._student.info, shadow, len(observations)), strict=True)
        self.pairs += [(np.array(mine), np.array(theirs)) for mine, theirs in pairs]
        return chunks


def collect(
    teacher: Policy,
    student: Policy,
    *,
    suite: str,
    tasks: Iterable[int],
    init_states: int,
    protocol: Protocol,
    nfe: tuple[int | None, int | None] = (None, None),
    world: str = "libero",
    clock: TimeSource | None = None,
) -> Decisions:
    """Let the teacher play episodes, and ask the student at each of its decisions.

    Args:
        teacher: Whose actions are executed.
        student: Who is asked the same.
        suite: LIBERO suite.
        tasks: Task ids.
        init_states: Init states of each, from 0.
        protocol: The rules.
        nfe: NFE of teacher and student; None: their defaults.
        world: Where episodes run.
        clock: Time; None for the machine's.

    Raises:
        UsageError: The two do not see or draw the same, or no decision was taken.
    """
    clock = clock or WallTime()
    asked = [value or policy.info.default_nfe for value, policy in zip(nfe, (teacher, student), strict=True)]
    shadowed = Shadowed(teacher, student, asked[1])
    source, info = get_world(world), teacher.info
    described = source.describe(suite)
    manifest = protocol.manifest(
        suite, init_states_sha256=described.init_states_sha256, versions=described.versions, renderer="none"
    )
    digest, alarm, failed = manifest_sha256(manifest), Alarm(), ""
    try:
        for task in tasks:
            sim = source.make(suite, task, sim_config(protocol, info.cameras, privileged=info.privileged))
            try:
                for state in range(min(init_states, described.n_init_states[task])):
                    key = episode_key(digest, suite, task, state, 0)
                    unit = EpisodeUnit(info.policy_id, asked[0], suite, task, state, 0, key, digest)
                    decider = LocalDecider(shadowed, alarm, clock)
                    result = run_episode(sim, decider, unit, protocol, info, clock=clock, limits=Limits())
                    failed = result.error_message or failed
            finally:
                sim.close()
    finally:
        alarm.close()
    if failed or not shadowed.pairs:
        raise UsageError(f"The episodes of {info.policy_id} broke off: {failed or 'it took no decision'}.")
    length = min(len(chunk) for pair in shadowed.pairs for chunk in pair)
    mine, theirs = (np.stack([pair[side][:length] for pair in shadowed.pairs]) for side in (0, 1))
    return Decisions(mine, theirs)

"""The timeline of an episode is what its policy's actions say was executed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.analysis.summary import Summary
from harness.analysis.timeline import timelines
from harness.clocks import DelaySamples, DelaySource, Timing
from harness.cluster.rows import decision_rows, episode_rows
from harness.ledger import LedgerWriter, read
from harness.report import render_html
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import ActionChunks, PolicyInfo
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim

SAMPLES = DelaySamples((np.random.default_rng(4).gamma(2.0, 90.0, 200),))


class Marked:
    """Action i of decision k says so."""

    info = PolicyInfo(policy_id="p", cameras=(), chunk_length=8, replan_interval=5)

    def act(self, observations, noise, *, nfe=None):
        chunk = np.zeros((1, 8, 7), dtype=np.float32)
        chunk[0, :, 1] = (observations[0].decision + 1) / 100
        chunk[0, :, 2] = (np.arange(8) + 1) / 100
        return ActionChunks(chunk)


def played(clock, samples=SAMPLES):
    key = episode_key("ab" * 32, "stub", 2, 3, 0)
    unit = EpisodeUnit("p", None, "stub", 2, 3, 0, key, "ab" * 32, clock, "device")
    protocol = Protocol.model_validate({"preset": "stub", "max_steps": {"stub": 70}})
    alarm, time, actions = Alarm(), WallTime(), []
    try:
        result = run_episode(
            StubSim("stub", 2, SimConfig(cameras=())),
            LocalDecider(Marked(), alarm, time),
            unit,
            protocol,
            Marked.info,
            clock=time,
            limits=Limits(),
            timing=Timing(clock, DelaySource("device", any_variant=samples)),
            recorder=actions,
        )
    finally:
        alarm.close()
    marks = [(round(100 * float(a[1])) - 1, round(100 * float(a[2])) - 1) for a in actions]
    return result, [None if mark == (-1, -1) else mark for mark in marks]


@pytest.fixture
def write(tmp_path):
    def write(*results, replan_interval=5, **changes):
        writer = LedgerWriter(tmp_path / "out")
        record = {"p": {"chunk_length": 8, "replan_interval": replan_interval}}
        manifest = {"stub": {"control_hz": 20, "replan_interval": "checkpoint"}}
        run = {"run_id": "r", "suite": "name: t", "protocol": json.dumps(manifest), "status": "finished"}
        writer.append("runs", [{**run, "policies": json.dumps(record)}])
        rows = episode_rows("r", results, {"p": Marked.info}).to_pylist()
        writer.append("episodes", [{**row, **changes} for row in rows])
        writer.append("decisions", decision_rows("r", results).to_pylist())
        return read(tmp_path / "out")

    return write


@pytest.mark.parametrize("clock", ["blocking", "asynchronous", "rtc"])
def test_it_tells_what_was_executed_in_every_step(write, clock):
    result, marks = played(clock)
    (line,) = timelines(write(result))
    assert len(set(result.decisions.delay_steps)) > 3
    began = [start for start, _ in line.flights]
    # Which chunk "new" and "old" are follows from the decision that was asked last.
    for step, (move, mark) in enumerate(zip(line.executed, marks, strict=True)):
        asked = sum(start <= step for start in began) - 1
        expected = {"hold": None, "new": (asked, move.action), "old": (asked - 1, move.action)}[move.which]
        assert mark == expected
    assert [delay for _, delay in line.flights] == result.decisions.delay_steps
    assert (line.clock, line.outcome, line.episode) == (clock, "timeout", "stub, task 2, init state 3")


def test_an_episode_that_the_rules_do_not_give_is_not_drawn(write):
    result, _ = played("asynchronous")
    assert timelines(write(result, stale_steps=result.stale_steps + 1)) == []


def test_the_page_draws_one_episode_of_each_clock(write):
    results = [played(clock)[0] for clock in ("blocking", "asynchronous")]
    page = render_html(Summary(write(*results)), command="harness report x")
    for clock, result in zip(("blocking", "asynchronous"), results, strict=True):
        told = (
            f"under {clock}, device: stub, task 2, init state 3, timeout after 70 steps, {len(result.decisions)} decis"
        )
        assert page.count(told) == 2
    assert "in flight" in page
    assert page.count('class="plot"') >= 3

"""Delays: whole steps from milliseconds, and samples drawn by (episode key, decision)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.clocks import Delay, DelaySamples, DelaySource, delay_steps
from harness.clocks.delays import BLOCK
from harness.errors import UsageError
from harness.schedule.keys import decision_noise, episode_key
from harness.spec.policy import PolicyAtNfe

FLOW = PolicyAtNfe("flow", 10)


def key(n: int) -> str:
    return episode_key("ab" * 32, "stub", 0, n, 0)


@pytest.mark.parametrize(
    ("ms", "hz", "steps"),
    [
        (0, 20, 0),
        (1e-9, 20, 1),
        (50, 20, 1),
        (50.001, 20, 2),
        (150, 20, 3),
        (0.1 * 3 * 500, 20, 3),
        (1299, 20, 26),
        (100, 50, 5),
    ],
)
def test_a_delay_is_rounded_up_to_whole_steps_and_is_none_only_for_no_time(ms, hz, steps):
    assert delay_steps(ms, hz) == steps


def test_a_draw_depends_on_episode_and_decision_alone():
    samples = DelaySamples((np.arange(100.0), np.arange(100.0, 150.0)))
    forwards = [samples.draw(key(1), k) for k in range(40)]
    assert forwards == [samples.draw(key(1), k) for k in reversed(range(40))][::-1]
    assert forwards != [samples.draw(key(2), k) for k in range(40)]
    assert forwards != [samples.draw(key(1), k, "network") for k in range(40)]


def test_successive_decisions_take_successive_samples_of_one_launch():
    samples = DelaySamples((np.arange(100.0), np.arange(1000.0, 1050.0)))
    for n in range(20):
        drawn = np.array([samples.draw(key(n), k).ms for k in range(3 * BLOCK)])
        assert len(set(drawn >= 1000)) == 1
        length = 50 if drawn[0] >= 1000 else 100
        for block in drawn.reshape(3, BLOCK):
            assert set(np.diff(block) % length) == {1.0}


def test_every_sample_is_as_likely_as_any_other_of_its_launch():
    samples = DelaySamples((np.arange(8.0),))
    counts = Counter(samples.draw(key(n), k).ms for n in range(500) for k in range(0, 2 * BLOCK, BLOCK))
    # 1,000 draws over 8 values: 125 each, standard deviation 10.5.
    assert set(counts) == set(range(8))
    assert max(abs(count - 125) for count in counts.values()) < 5 * 10.5


def test_energy_belongs_to_the_sample_that_was_drawn():
    samples = DelaySamples((np.array([10.0, 20.0, 30.0]),), (np.array([1.0, 2.0, np.nan]),))
    drawn = {samples.draw(key(n), 0) for n in range(50)}
    assert drawn == {Delay(10.0, 1.0), Delay(20.0, 2.0), Delay(30.0, None)}


def test_network_and_age_of_the_observation_are_added():
    source = DelaySource(
        "s", {FLOW: DelaySamples.constant(100)}, network=DelaySamples.constant(20), sensor=DelaySamples.constant(33)
    )
    assert source.draw(FLOW, key(0), 0).ms == 153
    assert (source.least_ms(FLOW), source.median_ms(FLOW)) == (153, 153)


def test_delays_are_no_function_of_the_noise():
    samples = DelaySamples((np.arange(1e6),))
    noise = [float(decision_noise(key(n), 0, (1,))[0]) for n in range(300)]
    drawn = [samples.draw(key(n), 0).ms for n in range(300)]
    assert abs(np.corrcoef(noise, drawn)[0, 1]) < 0.25


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "empty"),
        ([1.0, np.nan], "Sample 1 is nan"),
        ([np.inf], "Sample 0 is inf"),
        ([3.0, -1.0], "Sample 1 is -1 ms"),
    ],
)
def test_what_is_no_duration_is_refused(values, told):
    with pytest.raises(UsageError, match=told):
        DelaySamples((np.array(values),))


def test_a_source_that_does_not_know_an_nfe_says_so():
    with pytest.raises(UsageError, match="does not say what flow @ NFE 1 takes"):
        DelaySource("s", {FLOW: DelaySamples.constant(1)}).draw(PolicyAtNfe("flow", 1), key(0), 0)

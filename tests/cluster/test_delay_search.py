"""`harness delay` in the stub world: what it plays, and that it goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stub_runs import python_policy, stub_suite

import harness
from harness.cli.values import parse_margin
from harness.delay_search import DelaySearch
from harness.errors import UsageError
from harness.spec.policy import PolicySpec

POLICY = PolicySpec.model_validate(python_policy("Chunked", "chunked"))

STEADY = PolicySpec.model_validate(python_policy("Steady", "decides-every-step"))


def search(out, **changes) -> DelaySearch:
    """A search under a clock that costs steps."""
    suite = stub_suite(policies=[], tasks=[{"suite": "stub", "tasks": [0, 1, 2], "init_states": 4}])
    return DelaySearch(suite, POLICY, "blocking", str(out), 0.3, **{"longest": 2, "workers": 1, **changes})


@pytest.mark.usefixtures("cluster")
def test_it_plays_what_bisection_asks_for_and_nothing_twice(tmp_path):
    first = search(tmp_path / "out")
    found = first.run()
    assert 0 <= found.steps <= 2
    assert 1 <= len(found.probes) <= 2
    episodes = harness.read(tmp_path / "out").episodes
    delays = {None, *(f"constant:{probe.steps * 50}ms" for probe in found.probes)}
    assert set(episodes["latency_source"].where(episodes["latency_source"].notna(), None)) == delays
    assert len(episodes) == found.episodes == sum(result.done for result in first.played)
    again = search(tmp_path / "out")
    repeated = again.run()
    assert (repeated.steps, repeated.low, repeated.high) == (found.steps, found.low, found.high)
    assert sum(result.done for result in again.played) == 0


@pytest.mark.parametrize("clock", ["synchronous", "wall"])
def test_requests_without_a_delay_are_refused(tmp_path, clock):
    with pytest.raises(UsageError, match=f"Under the clock {clock} no delay is set"):
        replace(search(tmp_path), clock=clock).run()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("policy", "clock", "told"),
    [(POLICY, "rtc", "cannot run under the clock 'rtc'"), (STEADY, "asynchronous", "does not outlast")],
)
def test_a_clock_that_the_policy_cannot_do_is_refused_before_anything_is_played(tmp_path, policy, clock, told):
    asked = search(tmp_path / "out")
    with pytest.raises(UsageError, match=told):
        replace(asked, policy=policy, clock=clock).run()
    assert asked.played == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["3", "3%", "-1pp", "0pp", "100pp", "nanpp"])
def test_a_margin_is_points_of_success(text):
    assert parse_margin("3pp") == 0.03
    with pytest.raises(UsageError, match="--margin 3pp"):
        parse_margin(text)

"""Hardware in the loop: a policy behind a websocket, slowed by a known delay, on the wall clock and as predicted."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import harness
from harness.analysis.summary import Summary
from harness.clocks import DelaySamples, DelaySource
from harness.errors import UsageError
from harness.policies.controls import RandomPolicy
from harness.policies.registry import make_policy
from harness.serve.sizing import BatchPlan
from harness.spec import Suite, parse_policy
from harness.spec.observation import Observation
from harness.spec.resolve import parse


def suite_of(policy, clock, **changes) -> Suite:
    data = {
        "name": "wall",
        "description": "real time",
        "world": "stub",
        "tasks": [{"suite": "stub", "tasks": [0, 1], "init_states": 2}],
        "protocol": {"preset": "stub", "max_steps": {"stub": 30}},
        "policies": [policy],
        "clock": clock,
        "latency": "constant:125ms",
        **changes,
    }
    return parse(Suite, data, "test")


SOURCE = DelaySource("constant:125ms", any_variant=DelaySamples.constant(125.0))


@pytest.mark.usefixtures("cluster")
def test_episodes_on_the_wall_clock_are_those_that_were_predicted_where_the_delays_are(serve, tmp_path):
    with serve(RandomPolicy(), plan=BatchPlan(8, 0.002), pad_to_s=0.125) as serving:
        policy = {"kind": "openpi", "path": serving.address.netloc, "label": "remote"}
        out = tmp_path / "out"
        result = harness.run(suite_of(policy, ["asynchronous", "wall"]), out=out, workers=2, sources=[SOURCE])
        again = harness.run(
            suite_of(policy, ["asynchronous", "wall"]), out=out, workers=2, sources=[SOURCE], resume=True
        )
    assert (result.errors, result.done, again.done) == ((), 8, 0)
    ledger = harness.read(out)
    episodes, decisions = ledger.episodes.set_index("clock"), ledger.decisions.set_index("clock")
    wall, virtual = episodes.loc["wall"], episodes.loc["asynchronous"]
    assert virtual["overruns"].isna().all()
    assert (wall["overruns"] >= 0).all()
    assert (wall["wall_s"] >= wall["sim_s"]).all()
    assert (decisions.loc["wall", "delay_ms"] >= 125).all()
    # Steps that a slow machine stretches fit fewer into a delay.
    in_time = decisions.loc["wall"][
        decisions.loc["wall", "episode_key"].isin(wall[wall["overruns"] == 0]["episode_key"])
    ]
    assert (in_time["delay_steps"] >= 3).all()
    assert set(decisions.loc["asynchronous", "delay_steps"]) == {3}
    slower = set(decisions.loc["wall"].query("delay_steps != 3")["episode_key"])
    as_predicted = dict(zip(virtual["episode_key"], virtual["trajectory_sha256"], strict=True))
    for key, trajectory in zip(wall["episode_key"], wall["trajectory_sha256"], strict=True):
        assert trajectory == as_predicted[key] or key in slower
    (row,) = Summary(ledger).wall.to_dict("records")
    assert (row["n"], row["pairs"]) == (4, 4)
    # Another delay than predicted may end an episode otherwise.
    assert row["agree"] >= 4 - len(slower)
    assert row["predicted_ms"] == 125 <= row["delay_ms"]
    warnings = json.loads(ledger.runs["policies"].iloc[0])["remote"]["warnings"]
    assert "Its server is slowed: no answer leaves it before 125 ms." in warnings


def test_a_padded_answer_takes_as_long_as_asked_and_says_what_it_decided_alone(serve):
    with serve(RandomPolicy(), pad_to_s=0.08) as serving:
        policy = make_policy(parse_policy(str(serving.address)))
        seen = Observation("wave", np.zeros(8, np.float32))
        began = time.perf_counter()
        chunks = policy.act([seen], np.zeros((1, 10, 7), np.float32))
        assert time.perf_counter() - began >= 0.08
        assert chunks.remote.infer_ms + chunks.remote.queue_ms + chunks.remote.transport_ms >= 80
        policy.close()


@pytest.mark.parametrize(
    ("policy", "sources", "told"),
    [
        ("random", [SOURCE], "cannot run under the clock 'wall'.*harness serve"),
        ("openpi", [SOURCE, DelaySource("b", any_variant=DelaySamples.constant(1.0))], "the one prediction"),
        ("openpi", [DelaySource("a", any_variant=DelaySamples.constant(500.0))], "does not outlast the delay"),
    ],
)
def test_what_cannot_run_on_the_wall_clock_is_refused(serve, tmp_path, policy, sources, told):
    with serve(RandomPolicy()) as serving:
        spec = str(serving.address) if policy == "openpi" else policy
        with pytest.raises(UsageError, match=told):
            harness.run(suite_of(spec, "wall"), out=tmp_path / "out", workers=1, sources=sources)

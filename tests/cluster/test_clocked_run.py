"""Runs of the stub world under several clocks: rows, resumption, and what is refused before Ray starts."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest
from stub_runs import python_policy, stub_suite

import harness
from harness.clocks import DelaySamples, DelaySource
from harness.errors import HarnessError, UsageError
from harness.ledger import finished_identities

run_module = import_module("harness.cluster.run")
TIMED = ["policy_id", "nfe", "episode_key", "clock", "latency_source"]
EPISODE = [*TIMED, "outcome", "steps", "decisions", "stale_steps", "hold_steps", "trajectory_sha256"]
DECISION = [*TIMED, "decision", "delay_steps", "delay_ms"]
CHUNKS = [python_policy("Chunked", "chunked")]
CLOCKS = ["synchronous", "blocking", "asynchronous"]


def device(seed=0):
    rng = np.random.default_rng(seed)
    samples = DelaySamples((rng.gamma(3, 20, 300), rng.gamma(3, 30, 200)))
    return DelaySource(f"device-{seed}", any_variant=samples, facts={"device": "orin", "band": "mid"})


def rows(path) -> tuple[list[tuple], list[tuple]]:
    ledger = harness.read(path)
    frames = (ledger.episodes[EPISODE], ledger.decisions[DECISION])
    return tuple(sorted(frame.astype(object).itertuples(index=False, name=None), key=str) for frame in frames)


def suite(**changes):
    given = {"policies": CHUNKS, "clock": CLOCKS, "latency": ["constant:1ms"], **changes}
    return stub_suite(**given)


@pytest.mark.usefixtures("cluster")
class TestRuns:
    """Whole runs."""

    def test_the_same_rows_on_one_worker_on_two_and_resumed(self, tmp_path):
        sources = [device(0), device(1)]
        for workers in (1, 2):
            harness.run(suite(), out=tmp_path / str(workers), workers=workers, sources=sources)
        first = suite(clock=["synchronous", "asynchronous"])
        begun = harness.run(first, out=tmp_path / "parts", sources=sources[:1], workers=1)
        rest = harness.run(suite(), out=tmp_path / "parts", sources=sources, workers=2, resume=True)
        again = harness.run(suite(), out=tmp_path / "parts", sources=sources, workers=1, resume=True)
        assert (begun.done, rest.skipped, rest.done, again.done) == (24, 24, 36, 0)
        assert rows(tmp_path / "1") == rows(tmp_path / "2") == rows(tmp_path / "parts")
        episodes, decisions = rows(tmp_path / "1")
        assert len(episodes) == 12 * 5
        assert len({row[-2] for row in decisions}) > 3

    def test_clocks_share_keys_and_the_manifest_says_synchronous(self, tmp_path):
        harness.run(suite(), out=tmp_path / "out", workers=1, sources=[device()])
        plain = harness.run(stub_suite(policies=CHUNKS), out=tmp_path / "plain", workers=1)
        ledger, before = harness.read(tmp_path / "out"), harness.read(tmp_path / "plain")
        assert ledger.manifest("stub") == before.manifest("stub")
        assert ledger.manifest("stub")["clock"] == "synchronous"
        keys = ledger.episodes.groupby("clock")["episode_key"].apply(set)
        assert keys["synchronous"] == keys["blocking"] == keys["asynchronous"] == set(before.episodes["episode_key"])
        assert len(finished_identities(tmp_path / "out")) == 3 * plain.done
        timing = json.loads(ledger.runs["timing"].iloc[0])
        assert timing["clocks"] == CLOCKS
        assert timing["sources"]["device-0"]["device"] == "orin"
        assert timing["sources"]["device-0"]["delays"]["chunked"]["samples"] == 500

    def test_a_cell_whose_chunk_does_not_outlast_the_delay_is_left_out_and_recorded(self, tmp_path):
        slow = DelaySource("spark", any_variant=DelaySamples.constant(250))
        said: list[str] = []
        result = harness.run(suite(), out=tmp_path / "out", workers=1, sources=[slow], on_message=said.append)
        assert result.planned == 24
        (left_out,) = json.loads(harness.read(tmp_path / "out").runs["timing"].iloc[0])["left_out"]
        assert (left_out["clock"], left_out["delay_steps"]) == ("asynchronous", 5)
        assert any("the chunk of 5 steps does not outlast the delay of 5 steps" in line for line in said)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("clock", "told"),
    [("rtc", "cannot run under the clock 'rtc'"), ("wall", "serve it"), ("asynchronous", "does not outlast the delay")],
)
def test_what_a_served_policy_cannot_do_is_refused_when_it_is_loaded_and_leaves_no_ledger(tmp_path, clock, told):
    slow = DelaySource("slow", any_variant=DelaySamples.constant(750))
    asked = suite(policies=[python_policy("Served", "served")], clock=clock)
    with pytest.raises(UsageError, match=told):
        harness.run(asked, out=tmp_path / "out", workers=1, sources=[slow])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "source", "told"),
    [
        ({"clock": ["rtc"]}, DelaySamples.constant(50), "'random' cannot run under the clock 'rtc'"),
        ({"clock": ["asynchronous"]}, DelaySamples.constant(500), "does not outlast the delay"),
        ({"clock": ["blocking"]}, DelaySamples.constant(2500), "as long as the episode"),
        ({"clock": ["blocking"]}, None, "have not been looked up"),
    ],
)
def test_what_cannot_run_is_refused_before_ray_starts(tmp_path, monkeypatch, changes, source, told):
    monkeypatch.setattr(run_module, "open_session", lambda *_, **__: pytest.fail("Ray was started"))
    sources = [] if source is None else [DelaySource("d", any_variant=source)]
    with pytest.raises(UsageError, match=told):
        run_module.run(suite(policies=["random"], **changes), out=tmp_path / "out", sources=sources)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"latency": []}, "no latency says what that is"),
        ({"clock": "synchronous"}, "a decision takes no simulated time"),
        ({"clock": ["blocking", "blocking"]}, "clock names 'blocking' twice"),
        ({"clock": []}, "empty list"),
        ({"clock": "async"}, "clock"),
    ],
)
def test_a_suite_whose_clock_and_latency_contradict_each_other_is_refused(changes, told):
    with pytest.raises(HarnessError, match=told):
        suite(**changes)


def test_a_source_with_chunks_of_another_length_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "open_session", lambda *_, **__: pytest.fail("Ray was started"))
    source = DelaySource("probe", any_variant=DelaySamples.constant(50), facts={"chunk_length": "50"})
    with pytest.raises(UsageError, match=r"chunks of 50 actions, but it now makes chunks of 10"):
        run_module.run(suite(policies=["random"], clock="blocking"), out=tmp_path / "out", sources=[source])

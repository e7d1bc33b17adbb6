"""Which clocks and sources of delays are run, and what is said of those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from stub_runs import stub_suite

from harness.cluster.cells import plan_cells
from harness.delays import resolve_sources
from harness.errors import UsageError
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe

INFOS = {"p": PolicyInfo("p", chunk_length=10)}
VARIANTS = (PolicyAtNfe("p", None),)


def cells(clocks, latency):
    suite = stub_suite(policies=["noop"], clock=clocks, latency=latency)
    return plan_cells(suite, resolve_sources(suite.latency, ["p"]), VARIANTS, INFOS)


def test_a_clock_of_which_no_cell_is_left_says_so_and_the_rest_is_run():
    found = cells(["synchronous", "asynchronous"], ["constant:10s"])
    assert [clock for clock, _ in found.timings[VARIANTS[0]]] == ["synchronous"]
    (left_out,) = found.left_out
    assert (left_out.clock, left_out.delay_steps) == ("asynchronous", int(np.ceil(10_000 * 20 / 1000)))
    assert "p, asynchronous, constant:10000ms is not run" in left_out.sentence


def test_a_run_of_which_nothing_is_left_is_refused():
    with pytest.raises(UsageError, match=r"Nothing is left to run under asynchronous: .* Give a shorter delay"):
        cells(["asynchronous"], ["constant:10s"])


def test_a_source_that_is_given_twice_is_named_as_it_was_written():
    with pytest.raises(UsageError, match=r"latency names 'constant:1s \(network: constant:20ms\)' twice"):
        cells(["blocking"], [{"source": "constant:1s", "network": "constant:20ms"}] * 2)

"""Probes in processes of their own: an out-of-memory kill or a crash loses one configuration and no other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from harness.errors import UsageError
from harness.latency.child import Configuration, IsolatedProbe
from harness.latency.differences import Answers
from harness.latency.parent import IsolatedResult, Listener, Measured, run_children
from harness.latency.probe import ConfigurationResult, Labels
from harness.latency.standby import Imports, Standby
from harness.ledger.schema import Row
from harness.policies.base import Policy
from harness.spec.budget import Budget
from harness.spec.observation import Observation
from harness.time_source import TimeSource, WallTime


def run_isolated(
    make_policy: Callable[[], Policy],
    *,
    observations: Sequence[Observation],
    nfes: Sequence[int] = (),
    batch_sizes: Sequence[int] = (1,),
    budget: Budget | None = None,
    labels: Labels | None = None,
    clock: TimeSource | None = None,
    telemetry: bool = True,
    calibrate: bool = False,
    on_rows: Callable[[Sequence[Row]], object] = lambda rows: None,
    on_counts: Callable[[Sequence[Row]], object] | None = None,
    on_answers: Callable[[Configuration, ConfigurationResult, Answers], object] | None = None,
    on_message: Callable[[str], object] = lambda text: None,
    allow_shared: bool = False,
    share_process: bool = False,
    imports: Imports | None = None,
    standby: Standby | None = None,
    following: Sequence[Imports | None] = (),
    skip: Collection[Configuration] = (),
    timeout_s: float = 3600.0,
) -> IsolatedResult:
    """Time a policy, each (NFE, batch size) in a fresh process: one launch of each.

    Args:
        make_policy: Picklable factory, called in each child.
        observations: Inputs, used in turn.
        nfes: NFE values; empty for the default. A policy without NFE is probed once.
        batch_sizes: Observations in one `act`.
        budget: Warm-up and stopping.
        labels: Constant columns of the rows.
        clock: Picklable clock of the children.
        telemetry: Whether to join clocks, temperature and power.
        calibrate: Whether the first child also measures copy bandwidth, matmul rate and launch cost.
        on_rows: Receives the rows of each configuration when it ends.
        on_counts: Receives the rows of each configuration's `counts`; None counts nothing.
        on_answers: Receives the answers of each configuration (see `differences`); None asks for none.
        on_message: Told what is being done after the last sample.
        allow_shared: Measure, and mark the rows, while another process computes on the accelerator.
        share_process: Measure all configurations in one process, so that what the policy compiles or records is done
            once. If it dies, the ones after it are measured in a fresh one.
        imports: What a child imports before its turn, while the one before it counts and ends: `PolicyCode.of(spec)`.
        standby: Starts the children; None for one of this call's own.
        following: What the children of the next call with the same `standby` will import.
        skip: Configurations that are not to be measured, e.g. those that failed in an earlier launch.
        timeout_s: A child that gives no result for so long is killed, seconds.

    Returns:
        All configurations; one whose process died, hung or raised carries a `failure`. After Ctrl-C the last one holds
        what was measured until then and `probe.interrupted` is set.

    Raises:
        UsageError: The request is wrong (NFE, batch size, or the policy's options), or the accelerator is in use.
        HarnessError: The policy cannot be built.
    """
    if not observations:
        raise UsageError("A probe needs at least one observation.")
    job = IsolatedProbe(
        make_policy,
        tuple(observations),
        tuple(nfes),
        budget or Budget(),
        labels or Labels(),
        clock or WallTime(),
        telemetry=telemetry,
        calibrate=calibrate,
        count=on_counts is not None,
        answer=on_answers is not None,
        allow_shared=allow_shared,
        imports=imports,
    )

    def measured(result: ConfigurationResult) -> None:
        if result.rows:
            on_rows(result.rows)

    def finished(done: Measured) -> None:
        if on_counts is not None and done.counts:
            on_counts(done.counts)
        if on_answers is not None and done.answers is not None:
            on_answers(done.configuration, done.result, done.answers)

    listener = Listener(measured, finished, on_message)
    batches = tuple(dict.fromkeys(batch_sizes))
    with Standby() if standby is None else contextlib.nullcontext(standby) as starts:
        return run_children(
            job,
            batches,
            listener,
            share=share_process,
            timeout_s=timeout_s,
            standby=starts,
            following=following,
            skip=skip,
        )


def answers_of(
    make_policy: Callable[[], Policy],
    *,
    observations: Sequence[Observation],
    configurations: Sequence[Configuration],
    timeout_s: float = 3600.0,
) -> dict[Configuration, Answers]:
    """Ask a policy in a process of its own, untimed; for a reference that is not probed itself.

    Args:
        make_policy: Picklable factory, called in the child.
        observations: The same as the variants'.
        configurations: (NFE, batch size) to answer at.
        timeout_s: As for `run_isolated`.

    Returns:
        Answers by configuration; a configuration that failed is missing.

    Raises:
        HarnessError: The policy cannot be built, or the request is wrong.
    """
    nfes = tuple(dict.fromkeys(nfe for nfe, _ in configurations if nfe is not None))
    batches = tuple(dict.fromkeys(batch for _, batch in configurations))
    asked = IsolatedProbe(
        make_policy, tuple(observations), nfes, telemetry=False, timed=False, answer=True, allow_shared=True
    )
    found: dict[Configuration, Answers] = {}

    def finished(done: Measured) -> None:
        if done.answers is not None:
            found[done.configuration] = done.answers

    with Standby(ahead=0) as standby:
        run_children(asked, batches, Listener(finished=finished), share=True, timeout_s=timeout_s, standby=standby)
    return found

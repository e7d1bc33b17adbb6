"""A probe from plan to ledger: what `harness probe` does, without Ray and without a simulator."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from harness.errors import HarnessError
from harness.latency.child import Configuration
from harness.latency.differences import Answers, Difference, compare
from harness.latency.inputs import probe_observations
from harness.latency.isolated import answers_of, run_isolated
from harness.latency.launches import ProbeProgress, SampleNumbers
from harness.latency.node import describe_node, node_name, versions
from harness.latency.parent import IsolatedResult
from harness.latency.probe import ConfigurationResult, Labels, ProbeFailure, ProbeResult
from harness.latency.standby import PolicyCode, Standby
from harness.ledger import LedgerWriter
from harness.ledger.provenance import git_revision
from harness.ledger.schema import Row
from harness.policies.registry import make_policy
from harness.spec.likeness import is_far
from harness.spec.manifest import canonical_json, manifest_sha256
from harness.spec.policy import PolicyAtNfe, PolicySpec
from harness.spec.suite import ProbePlan, Suite
from harness.spec.variants import ProbeVariant
from harness.time_source import TimeSource


@dataclass(frozen=True, slots=True)
class ProbeSession:
    """What a probe left behind."""

    run_id: str
    results: tuple[ProbeResult, ...]
    """One per policy (and length of the instruction), with the configurations of all its launches."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it early."""
        return any(result.interrupted for result in self.results)


def probe_to_ledger(
    suite: Suite,
    out: str,
    *,
    clock: TimeSource,
    hardware: str | None,
    append: bool = False,
    on_message: Callable[[str], None] = lambda text: None,
) -> ProbeSession:
    """Probe every policy of a suite's plan, each configuration in processes of its own, into a ledger.

    Args:
        suite: A suite with a probe plan.
        out: Directory or URI of the ledger.
        clock: Time of day and stopwatch.
        hardware: Name of the node's hardware profile; None when none matches.
        append: Whether the ledger may hold rows already.
        on_message: Told what is measured, what was found, and every warning.

    Raises:
        UsageError: A policy does not offer an NFE or batch size that the plan asks for.
        LedgerError: `out` cannot take the rows.
    """
    writer = LedgerWriter(out)
    digest = manifest_sha256({})
    if warning := writer.location.partition_warning:
        on_message(f"warning: {warning}")
    writer.claim(suite.to_yaml(), "{}", digest, resume=append)
    run_id, started = f"probe-{uuid.uuid4().hex[:12]}", clock.now()
    run: dict[str, Any] = {
        "run_id": run_id,
        "suite": suite.to_yaml(),
        "protocol": json.dumps({}),
        "protocol_sha256": digest,
        "git_revision": git_revision(),
        "versions": dict(versions()),
        "started_at": started,
    }
    writer.append("runs", [{**run, "status": "running"}])
    status = "failed"
    results: tuple[ProbeResult, ...] = ()
    try:
        results = tuple(_probe_policies(suite, writer, run_id, hardware, clock, on_message))
        status = "interrupted" if any(result.interrupted for result in results) else "finished"
    finally:
        origins = {
            made.policy_id: dict(made.origin) for found in results for made in found.configurations if made.origin
        }
        ended = {"status": status, "ended_at": clock.now(), "policies": canonical_json(origins) if origins else None}
        writer.append("runs", [{**run, **ended}])
    return ProbeSession(run_id, results)


def _probe_policies(
    suite: Suite,
    writer: LedgerWriter,
    run_id: str,
    hardware: str | None,
    clock: TimeSource,
    on_message: Callable[[str], None],
) -> list[ProbeResult]:
    """Launch every configuration once, then every one again: a drift of the machine hits all alike."""
    plan = suite.probe_plan
    assert plan is not None  # noqa: S101 - the caller builds the plan
    jobs = tuple((variant, words) for words in plan.prompt_words or (None,) for variant in plan.variants)
    measured: list[list[ConfigurationResult]] = [[] for _ in jobs]
    progress = ProbeProgress.of(plan, len(jobs), clock)
    on_message(progress.price)
    with Standby(clock=clock) as standby:
        session = _Session(plan, writer, run_id, hardware, clock, on_message, jobs, standby, suite.protocol.resolution)
        turns = list(itertools.product(range(plan.launches), range(len(jobs))))
        for (launch, n), after in zip(turns, [*turns[1:], None], strict=True):
            if launch and not n:
                on_message(progress.after(launch))
            variant, words = jobs[n]
            following = jobs[after[1]][0].spec if after is not None else None
            found = session.launch(variant, words, launch, measured[n], following)
            measured[n] += found.configurations
            if found.interrupted:
                return [ProbeResult(tuple(mine), interrupted=mine is measured[n]) for mine in measured if mine]
    return [ProbeResult(tuple(mine)) for mine in measured]


def following_imports(plan: ProbePlan, spec: PolicySpec | None) -> list[PolicyCode]:
    """What the children of a launch of `spec` will import, at most; of none without it."""
    configurations = max(1, len(plan.nfe)) * len(plan.batch_sizes)
    return [] if spec is None else [PolicyCode.of(spec)] * (1 if plan.process_per == "variant" else configurations)


def named(label: str, words: int | None) -> str:
    """Name of a policy in the ledger, with the length of the instruction if that is an axis."""
    return label if words is None else f"{label} [words={words}]"


@dataclass(slots=True)
class _Session:
    """What the variants of one probe share."""

    plan: ProbePlan
    writer: LedgerWriter
    run_id: str
    hardware: str | None
    clock: TimeSource
    on_message: Callable[[str], None]
    jobs: tuple[tuple[ProbeVariant, int | None], ...]
    standby: Standby
    resolution: int
    """Of the frames, pixels, where a checkpoint declares no size of its own."""
    described: bool = False
    answers: dict[tuple[str, Configuration], Answers] = field(default_factory=dict)
    """Answers of references, by name and configuration."""
    unanswered: set[str] = field(default_factory=set)
    """References that cannot be asked."""
    numbers: SampleNumbers = field(default_factory=SampleNumbers)
    said: set[str] = field(default_factory=set)
    """Warnings that were given."""

    def launch(
        self,
        variant: ProbeVariant,
        words: int | None,
        launch: int,
        before: Sequence[ConfigurationResult],
        following: PolicySpec | None,
    ) -> ProbeResult:
        """Probe one variant once.

        Args:
            variant: What to probe.
            words: Length of the instruction; None for LIBERO's own.
            launch: Which time this is, from 0.
            before: What earlier launches of it gave; a configuration that failed is not launched again.
            following: What is launched after it.

        Raises:
            HarnessError: The only variant cannot be built.
        """
        name = named(variant.spec.label, words)
        if not launch:
            self.on_message(f"{name}: probing")
        try:
            isolated = self.measure(variant, words, launch, before, following)
        except HarnessError as error:
            # One variant that cannot be built must not take the others along.
            if len(self.jobs) == 1 and not launch:
                raise
            failure = ProbeFailure("error", str(error))
            isolated = IsolatedResult(ProbeResult((ConfigurationResult(name, None, 1, launch, failure=failure),)), None)
        self.describe(isolated)
        for warning in isolated.probe.warnings:
            if warning not in self.said:
                self.on_message(f"warning: {warning}")
                self.said.add(warning)
        return isolated.probe

    def measure(
        self,
        variant: ProbeVariant,
        words: int | None,
        launch: int,
        before: Sequence[ConfigurationResult],
        following: PolicySpec | None,
    ) -> IsolatedResult:
        """Launch one variant; its rows, counts and differences are in the ledger when each configuration ends.

        What does not differ between launches, its operators and its answers, is asked for in the first.
        """
        plan = self.plan
        if launch and not any(result.rows for result in before):
            return IsolatedResult(ProbeResult(()), None)
        observations = probe_observations(plan.batch_sizes, words, resolution=self.resolution)
        text = ",".join(filter(None, [variant.text, "" if words is None else f"words={words}"]))
        labels = Labels(
            run_id=self.run_id,
            node_id=node_name(),
            hardware=self.hardware,
            policy_id=named(variant.spec.label, words),
            variant=text or None,
            launch=launch,
        )
        compared = not launch and self._is_compared(variant, words)
        resolved = tuple(dict.fromkeys(result.nfe for result in before if result.nfe is not None))
        return run_isolated(
            partial(make_policy, variant.spec),
            observations=observations,
            nfes=resolved if launch else plan.nfe,
            batch_sizes=plan.batch_sizes,
            budget=plan.budget,
            labels=labels,
            clock=self.clock,
            calibrate=not self.described,
            on_rows=self._record,
            on_counts=None if launch else partial(self.writer.append, "counts"),
            on_answers=partial(self._compare, variant, words, labels) if compared else None,
            on_message=lambda text: self.on_message(f"  {text}"),
            allow_shared=plan.allow_shared,
            share_process=plan.process_per == "variant",
            imports=PolicyCode.of(variant.spec),
            standby=self.standby,
            following=following_imports(plan, following),
            skip=[(result.nfe, result.batch_size) for result in before if result.failure is not None],
        )

    def describe(self, isolated: IsolatedResult) -> None:
        """Record the node once, with the ceilings that the first variant measured."""
        if self.described or not any(c.rows for c in isolated.probe.configurations):
            return
        row = describe_node(run_id=self.run_id, hardware=self.hardware, calibration=isolated.calibration)
        self.writer.append("nodes", [row])
        self.described = True

    def _record(self, rows: Sequence[Row]) -> None:
        """Write one configuration's samples at once, so that a later crash cannot take them."""
        self.writer.append("latency", self.numbers.continued(rows))
        n = sum(row["component"] == "e2e" for row in rows)
        first = rows[0]
        name = PolicyAtNfe(first["policy_id"], first["nfe"]).label
        launch = f", launch {first['launch'] + 1} of {self.plan.launches}" if self.plan.launches > 1 else ""
        self.on_message(f"{name}, batch {first['batch_size']}{launch}: {n} decisions timed")

    def _is_compared(self, variant: ProbeVariant, words: int | None) -> bool:
        """Whether its answers are needed: it is a variant, or the reference of one that is probed."""
        if not self.plan.compare:
            return False
        mine = variant.reference.label
        return any(other.text and other.reference.label == mine and length == words for other, length in self.jobs)

    def _compare(
        self,
        variant: ProbeVariant,
        words: int | None,
        labels: Labels,
        configuration: Configuration,
        result: ConfigurationResult,
        answers: Answers,
    ) -> None:
        reference = named(variant.reference.label, words)
        if not variant.text:
            self.answers[reference, configuration] = answers
            return
        expected = self._answers_of(variant, words, configuration)
        if expected is None or not result.rows:
            return
        difference = compare(expected, answers)
        first = result.rows[0]
        row = {name: first[name] for name in ("hardware", "dtype", "compile", "started_at")}
        row |= {"nfe": configuration[0], "batch_size": configuration[1], "reference": reference}
        row |= {"run_id": labels.run_id, "node_id": labels.node_id, "policy_id": labels.policy_id}
        self.writer.append("differences", [{**row, "variant": labels.variant, **asdict(difference)}])
        self.on_message(f"  {describe_difference(difference)}")

    def _answers_of(self, variant: ProbeVariant, words: int | None, configuration: Configuration) -> Answers | None:
        """Answers of the reference; asked for in a process of its own where it is not probed itself."""
        name = named(variant.reference.label, words)
        if (name, configuration) not in self.answers and name not in self.unanswered:
            self._ask(variant.reference, words, configuration)
        found = self.answers.get((name, configuration))
        if found is None:
            self.unanswered.add(name)
        return found

    def _ask(self, reference: PolicySpec, words: int | None, configuration: Configuration) -> None:
        plan, name = self.plan, named(reference.label, words)
        self.on_message(f"  asking {name}, with which it is compared")
        every = {(nfe, batch) for nfe in plan.nfe for batch in plan.batch_sizes} | {configuration}
        try:
            found = answers_of(
                partial(make_policy, reference),
                observations=probe_observations(plan.batch_sizes, words, resolution=self.resolution),
                configurations=sorted(every, key=str),
            )
        except HarnessError as error:
            self.on_message(f"warning: nothing is compared with {name}, which cannot be run: {error}")
            return
        self.answers |= {(name, key): value for key, value in found.items()}


def describe_difference(difference: Difference) -> str:
    """One line on how far the answers are from the reference's, with a mark where that is far."""
    mark = (
        "  DIFFERS FROM ITS REFERENCE" if is_far(difference.cosine, difference.rms, difference.observation_rms) else ""
    )
    share = difference.rms / difference.observation_rms if difference.observation_rms > 0 else float("nan")
    return (
        f"against its reference: cosine {difference.cosine:.6f}, largest difference {difference.max_abs:.2g}, "
        f"{share:.1%} of what another observation changes{mark}"
    )

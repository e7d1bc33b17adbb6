"""A probe from plan to ledger: what `harness probe` does, without Ray and without a simulator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from harness.errors import HarnessError
from harness.latency.child import Configuration
from harness.latency.differences import Answers, Difference, compare, is_far
from harness.latency.inputs import probe_observations
from harness.latency.isolated import answers_of, run_isolated
from harness.latency.node import describe_node, node_name, versions
from harness.latency.parent import IsolatedResult
from harness.latency.probe import ConfigurationResult, Labels, ProbeFailure, ProbeResult
from harness.ledger import LedgerWriter
from harness.ledger.provenance import git_revision
from harness.policies.registry import make_policy
from harness.rollout.time_source import TimeSource
from harness.spec.manifest import manifest_sha256
from harness.spec.policy import PolicyAtNfe, PolicySpec
from harness.spec.suite import ProbePlan, Suite
from harness.spec.variants import ProbeVariant


@dataclass(frozen=True, slots=True)
class ProbeSession:
    """What a probe left behind."""

    run_id: str
    results: tuple[ProbeResult, ...]
    """One per policy."""

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
    """Probe every policy of a suite's plan, each configuration in its own process, into a ledger.

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
    assert suite.probe is not None  # noqa: S101 - the caller builds the plan
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
        results = tuple(_probe_policies(suite.probe, writer, run_id, hardware, clock, on_message))
        status = "interrupted" if any(result.interrupted for result in results) else "finished"
    finally:
        writer.append("runs", [{**run, "status": status, "ended_at": clock.now()}])
    return ProbeSession(run_id, results)


def _probe_policies(
    plan: ProbePlan,
    writer: LedgerWriter,
    run_id: str,
    hardware: str | None,
    clock: TimeSource,
    on_message: Callable[[str], None],
) -> list[ProbeResult]:
    jobs = [(variant, words) for words in plan.prompt_words or (None,) for variant in plan.variants]
    session = _Session(plan, writer, run_id, hardware, clock, on_message, tuple(jobs))
    results: list[ProbeResult] = []
    for variant, words in jobs:
        on_message(f"{named(variant.spec.label, words)}: probing")
        try:
            isolated = session.measure(variant, words, calibrate=not session.described)
        except HarnessError as error:
            # One variant that cannot be built must not take the others along.
            if len(jobs) == 1:
                raise
            failed = ConfigurationResult(
                named(variant.spec.label, words), None, 1, failure=ProbeFailure("error", str(error))
            )
            isolated = IsolatedResult(ProbeResult((failed,)), None)
        session.describe(isolated)
        for warning in isolated.probe.warnings:
            on_message(f"warning: {warning}")
        results.append(isolated.probe)
        if isolated.probe.interrupted:
            break
    return results


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
    described: bool = False
    answers: dict[tuple[str, Configuration], Answers] = field(default_factory=dict)
    """Answers of references, by name and configuration."""
    unanswered: set[str] = field(default_factory=set)
    """References that cannot be asked."""

    def measure(self, variant: ProbeVariant, words: int | None, *, calibrate: bool) -> IsolatedResult:
        """Probe one variant; its rows, counts and differences are in the ledger when each configuration ends."""
        plan = self.plan
        observations = probe_observations(plan.batch_sizes, words)
        text = ",".join(filter(None, [variant.text, "" if words is None else f"words={words}"]))
        labels = Labels(
            run_id=self.run_id,
            node_id=node_name(),
            hardware=self.hardware,
            policy_id=named(variant.spec.label, words),
            variant=text or None,
        )
        compared = self._is_compared(variant, words)
        return run_isolated(
            partial(make_policy, variant.spec),
            observations=observations,
            nfes=plan.nfe,
            batch_sizes=plan.batch_sizes,
            budget=plan.budget,
            labels=labels,
            clock=self.clock,
            calibrate=calibrate,
            on_rows=partial(_record, self.writer, self.on_message),
            on_counts=partial(self.writer.append, "counts"),
            on_answers=partial(self._compare, variant, words, labels) if compared else None,
            on_message=lambda text: self.on_message(f"  {text}"),
            allow_shared=plan.allow_shared,
            share_process=plan.process_per == "variant",
        )

    def describe(self, isolated: IsolatedResult) -> None:
        """Record the node once, with the ceilings that the first variant measured."""
        if self.described or not any(c.rows for c in isolated.probe.configurations):
            return
        row = describe_node(run_id=self.run_id, hardware=self.hardware, calibration=isolated.calibration)
        self.writer.append("nodes", [row])
        self.described = True

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
                observations=probe_observations(plan.batch_sizes, words),
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


def _record(writer: LedgerWriter, on_message: Callable[[str], None], rows: Sequence[dict[str, Any]]) -> None:
    """Write one configuration's samples at once, so that a later crash cannot take them."""
    writer.append("latency", rows)
    n = sum(row["component"] == "e2e" for row in rows)
    first = rows[0]
    name = PolicyAtNfe(first["policy_id"], first["nfe"]).label
    on_message(f"{name}, batch {first['batch_size']}: {n} decisions timed")

"""All that is computed from a ledger, each part when it is first asked for: latency alone reads no episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from harness.analysis.answers import latency_answers, success_answers, worst_tasks
from harness.analysis.devices import device_cells
from harness.analysis.episode_list import episode_list
from harness.analysis.latency.checks import decision_checks
from harness.analysis.latency.distribution import Distribution, LaunchSamples, distributions, samples_over_time
from harness.analysis.latency.percentiles import decision_latency, latency_by_component
from harness.analysis.latency.prefix import nfe_sweep, prefix_fit
from harness.analysis.latency.roofline import Claim, claims, roofline
from harness.analysis.origin import OriginRecords, naive_single_steps, policy_records
from harness.analysis.paired.within import paired_variants
from harness.analysis.robustness import robustness
from harness.analysis.success.controls import ControlFault, Role, control_faults, control_roles
from harness.analysis.success.rates import error_counts, retry_counts, success_by_suite, success_by_task
from harness.analysis.tiers import tiers
from harness.analysis.timing import phase_times, throughput, time_shares, utilisation, worker_time
from harness.analysis.wall_clock import wall_agreement
from harness.ledger import Ledger

RESUMABLE = ("running", "interrupted", "failed")
"""States of a run that a later one with `--resume` completes; one that was stopped early keeps its notice."""


@dataclass(frozen=True)
class Summary:
    """A ledger and all that is computed from it; the frames are those of `harness.analysis`."""

    ledger: Ledger
    categories: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Name of a LIBERO-Plus variant → category, see `robustness`."""

    @classmethod
    def of(cls, content: Ledger | Summary) -> Summary:
        """The summary of a ledger; one that exists is used again, with all that it has computed."""
        return content if isinstance(content, cls) else cls(content)  # type: ignore[arg-type]

    @cached_property
    def success(self) -> pd.DataFrame:
        """Success by policy, NFE and suite."""
        return success_by_suite(self.ledger.episodes)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """Success by policy, NFE, suite and task."""
        return success_by_task(self.ledger.episodes)

    @cached_property
    def devices(self) -> pd.DataFrame:
        """Success, motion and energy under each clock and source of delays."""
        return device_cells(self.ledger.episodes, self.ledger.decisions, self.ledger.runs)

    @cached_property
    def wall(self) -> pd.DataFrame:
        """The wall clock against its prediction in virtual time."""
        return wall_agreement(self.ledger.episodes, self.ledger.decisions)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Distinct infrastructure errors."""
        return error_counts(self.ledger.episodes)

    @cached_property
    def retries(self) -> pd.DataFrame:
        """Attempts that failed and were made again, by node and error."""
        return retry_counts(self.ledger.retried)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Every two policies on the episodes that both ran."""
        return paired_variants(self.ledger.episodes)

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """What perturbations cost, by perturbation and by task."""
        return robustness(self.ledger.episodes, self.categories)

    @cached_property
    def success_answers(self) -> pd.DataFrame:
        """Which policy is better, pair by pair, and what would decide it."""
        return success_answers(self.paired, self.roles)

    @cached_property
    def latency_answers(self) -> pd.DataFrame:
        """Which decision is faster on each device."""
        return latency_answers(self.latency)

    @cached_property
    def worst_tasks(self) -> pd.DataFrame:
        """Tasks in which a contestant failed, worst first."""
        return worst_tasks(self.tasks, self.roles)

    @cached_property
    def episode_list(self) -> pd.DataFrame:
        """Every episode, failures first."""
        return episode_list(self.ledger, frozenset(self.roles))

    @cached_property
    def distributions(self) -> list[Distribution]:
        """Empirical distributions of latencies."""
        return distributions(self.ledger.latency)

    @cached_property
    def samples(self) -> list[LaunchSamples]:
        """End-to-end latencies over time."""
        return samples_over_time(self.ledger.latency)

    @cached_property
    def tiers(self) -> pd.DataFrame:
        """Cost beside success, and the Pareto front."""
        return tiers(self.latency, self.ledger.counts, self.success, self.paired, self.roles)

    @cached_property
    def time(self) -> pd.DataFrame:
        """Wall time by cause."""
        return time_shares(self.ledger.episodes)

    @cached_property
    def throughput(self) -> pd.DataFrame:
        """Episodes an hour of whole runs."""
        return throughput(self.ledger.episodes)

    @cached_property
    def workers(self) -> pd.DataFrame:
        """Time of the workers of each run, by cause."""
        return worker_time(self.ledger.episodes)

    @cached_property
    def utilisation(self) -> pd.DataFrame:
        """How busy workers, policy servers and GPUs of each node were."""
        return utilisation(self.ledger.usage)

    @cached_property
    def phases(self) -> pd.DataFrame:
        """What the phases of each run took."""
        return phase_times(self.ledger.phases)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """Decisions in closed loop."""
        return decision_latency(self.ledger.decisions)

    @cached_property
    def latency(self) -> pd.DataFrame:
        """Percentiles by configuration, NFE and component."""
        return latency_by_component(self.ledger.latency)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """What has to be known beside a latency."""
        return decision_checks(self.ledger.latency, self.ledger.differences)

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """Median decision at every NFE."""
        return nfe_sweep(self.ledger.latency)

    @cached_property
    def prefix(self) -> pd.DataFrame:
        """The line over NFE, beside what was timed inside."""
        return prefix_fit(self.ledger.latency)

    @cached_property
    def roofline(self) -> pd.DataFrame:
        """Floors and verdict of every component."""
        return roofline(self.ledger.latency, self.ledger.counts, self.ledger.nodes)

    @cached_property
    def claims(self) -> list[Claim]:
        """What people say of each component, held against the floors."""
        return claims(self.roofline)

    @cached_property
    def roles(self) -> dict[str, Role]:
        """Policies that are controls."""
        return control_roles(self.ledger.episodes["policy_id"].dropna().unique(), self.ledger.runs["suite"])

    @cached_property
    def faults(self) -> list[ControlFault]:
        """Controls that did what they cannot do."""
        return control_faults(self.success, self.roles)

    @cached_property
    def unfinished(self) -> pd.DataFrame:
        """Runs that have not ended, nor been completed by a later one: rows of `Ledger.runs`. An import never ran.

        A finished run has every episode of its suite in its ledger, also those that an earlier one left out. Of several
        ledgers read as one it is not known which of them a run lies in.
        """
        runs = self.ledger.runs
        open_runs = runs[~runs["status"].isin(["finished", "imported"])]
        if len(self.ledger.paths) > 1:
            return open_runs
        finished = runs[runs["status"] == "finished"]
        resumed = [
            run["status"] in RESUMABLE
            and bool(((finished["suite"] == run["suite"]) & (finished["started_at"] > run["started_at"])).any())
            for run in open_runs.to_dict("records")
        ]
        return open_runs[~np.array(resumed, dtype=bool)]

    @cached_property
    def records(self) -> OriginRecords:
        """What the runs recorded of their policies' origin."""
        return policy_records(self.ledger.runs)

    @cached_property
    def naive(self) -> frozenset[tuple[str, int]]:
        """(policy, NFE) of those that run a multi-step policy with one step."""
        ran = self.ledger.episodes[["policy_id", "nfe"]].drop_duplicates().to_numpy()
        return naive_single_steps(self.records, ran)

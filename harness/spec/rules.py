"""GateRules: what a candidate has to show before it replaces the base."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.spec.resolve import SpecModel, find, load_yaml, parse

Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
Margin = Annotated[float, Field(gt=0, lt=1)]
ANY_HARDWARE = "any"
"""`hardware` of a rule that compares one machine with another."""

Component = Literal["e2e", "preprocess", "vision", "prefix", "denoise_step", "postprocess", "transport"]


class PairRule(SpecModel):
    """How much has to be paired before anything is judged."""

    min: Annotated[int, Field(ge=1)] = 20
    """Least number of paired episodes."""
    min_share: Share = 0.95
    """Least share of the base's episodes that the candidate has run too. A run that was stopped by sequential rules is
    excused: its episodes are a random part of the plan."""


class SuccessRule(SpecModel):
    """Success must not drop."""

    margin: Margin
    """Largest tolerated drop of the success rate, as a fraction: 0.03 is 3 points."""
    fail_when: Literal["worse", "beyond_margin"] = "worse"
    """When a candidate that is not shown to be within the margin fails: as soon as any real drop is shown ("worse"), or
    only when a drop beyond the margin is shown ("beyond_margin")."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm; unset rules divide what is left equally."""


class TaskRule(SpecModel):
    """No single task may collapse behind a good average."""

    cliff: Margin
    """Drop of one task's success rate that is a collapse, as a fraction. A PASS excludes it for every task, which needs
    log(alpha) / log(1 - cliff) pairs of a task at least: 10 for a cliff of 0.3, 5 for one of 0.5."""
    min_pairs: Annotated[int, Field(ge=1)] = 5
    """A task with fewer pairs is not judged: it fails nothing, and nothing is passed with it."""
    alpha: Alpha | None = None
    """Share of the gate's alpha; divided over the tasks by Holm's method."""


class TooGoodRule(SpecModel):
    """A rise that nobody expects points at a broken comparison: other physics, a leaked seed, a looser success rule."""

    margin: Share = 0.0
    """Rise of the success rate beyond which the alarm sounds, as a fraction."""
    verdict: Literal["inconclusive", "fail"] = "inconclusive"
    """What the alarm makes of the gate. Use "fail" for changes that must not change behaviour (kernels, compilers)."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""


class ScoreRule(SpecModel):
    """Partial credit must not drop: it tells of failures that came less far, before success itself tells."""

    margin: Margin
    """Largest tolerated drop of the mean score, which is in [0, 1]."""
    design: Literal["fixed", "sequential", "anytime"] | None = None
    """How its drop is tested; unset: as the gate's design says. "sequential" needs a sequential gate, which plans the
    looks; "anytime" is an e-process."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""


class FloorRule(SpecModel):
    """An absolute least success rate: what cannot fall any more needs no base to be bad."""

    min_rate: Share
    """Least success rate of the candidate, as a fraction."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""


class ErrorRule(SpecModel):
    """Infrastructure errors hide outcomes."""

    max_rate: Share
    """Largest share of episodes that may end in an infrastructure error, in base and in candidate."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""


class LatencyRule(SpecModel):
    """A component must not become slower than the base."""

    component: Component = "e2e"
    """Component of a decision."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Which quantile: 0.5 is the median, 0.99 is p99."""
    max_ratio: Annotated[float, Field(gt=0)]
    """Largest tolerated ratio candidate / base."""
    nfe: Annotated[int, Field(ge=1)] | None = None
    """Only at this NFE; unset: at every one measured on both sides."""
    hardware: str | None = None
    """Only on this hardware; unset: on every machine measured on both sides. "any": one machine may be compared with
    another, which is refused otherwise."""
    when: Literal["always", "decidable"] = "always"
    """"decidable": judge only where the base's own launches differ so little that an unchanged candidate would pass
    with 90 %; elsewhere the ratio is reported and counts in no verdict."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""


class BudgetRule(SpecModel):
    """An absolute limit on the candidate's latency."""

    component: Component = "e2e"
    """Component of a decision."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Which quantile."""
    max_ms: Annotated[float, Field(gt=0)] | None = None
    """The limit, milliseconds. Give either this or `hz`."""
    hz: Annotated[float, Field(gt=0)] | None = None
    """The limit as a rate of decisions: 10 Hz is 100 ms."""
    nfe: Annotated[int, Field(ge=1)] | None = None
    """Only at this NFE; unset: at every one measured."""
    hardware: str | None = None
    """Only on this hardware; unset: on every one measured."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for this rule's alarm."""

    @model_validator(mode="after")
    def _require_one_limit(self) -> BudgetRule:
        if (self.max_ms is None) == (self.hz is None):
            raise ValueError("a budget states either max_ms or hz")
        return self

    @property
    def limit_ms(self) -> float:
        """The limit, milliseconds."""
        return self.max_ms if self.max_ms is not None else 1000.0 / (self.hz or 1.0)


class MemoryRule(SpecModel):
    """Peak memory of the candidate's probes."""

    max_ratio: Annotated[float, Field(gt=0)] | None = None
    """Largest tolerated ratio candidate / base."""
    max_gib: Annotated[float, Field(gt=0)] | None = None
    """Largest tolerated peak, GiB."""
    hardware: str | None = None
    """Of the ratio: only on this hardware; "any": one machine may be compared with another."""

    @model_validator(mode="after")
    def _require_a_limit(self) -> MemoryRule:
        if self.max_ratio is None and self.max_gib is None:
            raise ValueError("the memory rule states neither max_ratio nor max_gib")
        if self.hardware is not None and self.max_ratio is None:
            raise ValueError("memory.hardware belongs to max_ratio, which is not stated")
        return self


class EnergyRule(SpecModel):
    """Energy of one decision of the candidate's probes."""

    max_j: Annotated[float, Field(gt=0)] | None = None
    """Largest tolerated mean, joules."""
    max_ratio: Annotated[float, Field(gt=0)] | None = None
    """Largest tolerated ratio candidate / base of the mean."""
    nfe: Annotated[int, Field(ge=1)] | None = None
    """Only at this NFE; unset: at every one measured."""
    hardware: str | None = None
    """Only on this hardware; unset: on every one measured. "any", of the ratio: one machine may be compared with
    another."""
    source: Literal["same", "any"] = "same"
    """Of the ratio: "any": an energy that a counter measured may be compared with power × time."""
    alpha: Alpha | None = None
    """Share of the gate's alpha for the ratio's alarm."""

    @model_validator(mode="after")
    def _require_a_limit(self) -> EnergyRule:
        if self.max_j is None and self.max_ratio is None:
            raise ValueError("the energy rule states neither max_j nor max_ratio")
        if self.max_ratio is None and (self.alpha is not None or self.source == "any"):
            raise ValueError("energy.alpha and energy.source belong to max_ratio, which is not stated")
        return self


MOST_LOOKS = 100
"""More rounds than that are a slip: `anytime` is for a look after every pair."""

type AlarmRule = (
    SuccessRule | ScoreRule | TaskRule | FloorRule | TooGoodRule | ErrorRule | LatencyRule | BudgetRule | EnergyRule
)
"""A rule that can raise a false alarm by chance."""


class GateRules(SpecModel):
    """The rules of a gate. A candidate passes when every rule passes."""

    name: str = "gate"
    """Name in reports."""
    description: str = ""
    """One line for people."""
    alpha: Alpha = 0.05
    """Probability of a false alarm over all rules together, when nothing has changed; and that of passing a candidate
    whose success rate truly dropped by the margin."""
    design: Literal["fixed", "sequential", "anytime"] = "fixed"
    """"fixed": one look, after all planned episodes. "sequential": `looks` that are planned before the run, alpha spent
    over them; stops when it is enough. "anytime": an e-process, for runs without a planned end; costs some power."""
    cluster: Literal["init_state", "task"] | None = None
    """What is sampled, so what verdicts are about. Unset: these episodes, every pair independent. "init_state": init
    states like these, whose trials may be alike. "task": tasks like these. Needs design "fixed"."""
    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)] = 10
    """Rounds of a sequential design: after each, all tasks equally far, the evidence is weighed. More looks stop sooner
    but let workers change task more often, which costs seconds each time; a task has no more rounds than episodes."""
    pairs: PairRule = PairRule()
    """How much has to be paired."""
    success: SuccessRule | None = None
    """Success must not drop."""
    score: ScoreRule | None = None
    """Partial credit must not drop."""
    per_task: TaskRule | None = None
    """No task may collapse."""
    floor: FloorRule | None = None
    """A least success rate."""
    too_good: TooGoodRule | None = None
    """A rise nobody expects."""
    errors: ErrorRule | None = None
    """Infrastructure errors."""
    latency: tuple[LatencyRule, ...] = ()
    """Ratios to the base."""
    budgets: tuple[BudgetRule, ...] = ()
    """Absolute limits."""
    memory: MemoryRule | None = None
    """Peak memory."""
    energy: EnergyRule | None = None
    """Energy of a decision."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> GateRules:
        if not self.judged:
            raise ValueError("the rules demand nothing; state at least one of success, latency, budgets, …")
        self._refuse_repeats()
        self._refuse_inverted_limits()
        if self.success and self.per_task and self.per_task.cliff < self.success.margin:
            raise ValueError(
                f"per_task.cliff {self.per_task.cliff} is below success.margin {self.success.margin}: a drop of every "
                "task that the margin tolerates would be a cliff; raise the cliff or lower the margin"
            )
        if self.design != "fixed" and not (self.success or self.score):
            raise ValueError(
                f"design is {self.design}, but only a success rule or a score rule can stop a run early; add one"
            )
        if self.score and self.score.design == "sequential" and self.design != "sequential":
            raise ValueError(
                f"score.design is sequential, but the gate's design is {self.design}, which plans no looks; set design "
                "to sequential, or score.design to fixed or anytime"
            )
        if self.score and self.cluster:
            raise ValueError(f"score weighs single pairs, but cluster is {self.cluster}; leave one of the two out")
        if self.design != "fixed" and self.cluster:
            raise ValueError(
                f"design is {self.design}, whose looks weigh single pairs, but cluster is {self.cluster}; "
                "set design to fixed"
            )
        self._refuse_ignored()
        stated = sum(rule.alpha or 0.0 for rule in self.alarms)
        if stated > self.alpha * (1 + 1e-9):
            raise ValueError(f"the rules' own alphas add up to {stated:g}, more than the gate's alpha {self.alpha:g}")
        if any(rule.alpha is None for rule in self.alarms) and stated >= self.alpha * (1 - 1e-9):
            raise ValueError(f"the stated alphas use up the gate's alpha {self.alpha:g}; none is left for other rules")
        return self

    @property
    def alarms(
        self,
    ) -> tuple[
        SuccessRule
        | ScoreRule
        | TaskRule
        | FloorRule
        | TooGoodRule
        | ErrorRule
        | LatencyRule
        | BudgetRule
        | EnergyRule,
        ...,
    ]:
        """The rules that can raise a false alarm by chance."""
        energy = self.energy if self.energy and self.energy.max_ratio is not None else None
        singles = (self.success, self.score, self.per_task, self.floor, self.too_good, self.errors, energy)
        return (*(rule for rule in singles if rule is not None), *self.latency, *self.budgets)

    @property
    def judged(self) -> bool:
        """Whether there is any rule besides the number of pairs and the share of errors."""
        return bool(
            self.success
            or self.score
            or self.per_task
            or self.floor
            or self.too_good
            or self.latency
            or self.budgets
            or self.memory
            or self.energy
        )

    @property
    def across(self) -> bool:
        """Whether any rule compares one machine with another."""
        singles = [rule for rule in (self.memory, self.energy) if rule is not None]
        return ANY_HARDWARE in [rule.hardware for rule in (*self.latency, *singles)]

    def alpha_of(self, rule: object) -> float:
        """A rule's share of the gate's alpha: its own, or an equal part of what the stated ones leave."""
        own = getattr(rule, "alpha", None)
        if own is not None:
            return float(own)
        stated = sum(other.alpha or 0.0 for other in self.alarms)
        return (self.alpha - stated) / sum(other.alpha is None for other in self.alarms)

    def _refuse_ignored(self) -> None:
        """Refuse keys that nothing would come of."""
        if "looks" in self.model_fields_set and self.design != "sequential":
            raise ValueError(
                f"looks is {self.looks}, but design is {self.design}, which plans none; set design to sequential, or "
                "leave looks out"
            )
        episodes = (self.success, self.score, self.per_task, self.floor, self.too_good, self.errors)
        if "pairs" in self.model_fields_set and not any(episodes):
            raise ValueError("pairs is about episodes, but no rule is; leave it out, or state success, floor, …")
        if self.cluster == "task" and self.per_task:
            raise ValueError(
                "per_task judges each task, but cluster is task, and one cluster shows nothing: no task would ever be "
                "judged; leave one of the two out"
            )

    def _refuse_repeats(self) -> None:
        for what, keys in (
            ("latency", [(rule.component, rule.quantile, rule.nfe, rule.hardware) for rule in self.latency]),
            ("budgets", [(rule.component, rule.quantile, rule.nfe, rule.hardware) for rule in self.budgets]),
        ):
            repeated = [key for key, count in Counter(keys).items() if count > 1]
            if repeated:
                component, quantile, *_ = repeated[0]
                raise ValueError(f"{what} limits {component} at quantile {quantile:g} twice; keep one of the two")

    def _refuse_inverted_limits(self) -> None:
        for low in self.budgets:
            for high in self.budgets:
                same = (low.component, low.nfe, low.hardware) == (high.component, high.nfe, high.hardware)
                if same and low.quantile < high.quantile and low.limit_ms > high.limit_ms:
                    raise ValueError(
                        f"budgets allow {low.limit_ms:g} ms at quantile {low.quantile:g} but only {high.limit_ms:g} ms "
                        f"at quantile {high.quantile:g}: the first never limits anything; lower it or drop it"
                    )


DEFAULT_RULES = GateRules(
    name="default",
    description="Success within 3 points of the base, no collapsed task, few infrastructure errors.",
    success=SuccessRule(margin=0.03),
    per_task=TaskRule(cliff=0.3),
    errors=ErrorRule(max_rate=0.02),
)
"""What `harness gate` applies without --rules."""


def load_rules(name: str | Path | None) -> GateRules:
    """Load rules from a YAML file, or by the name of a file in `gates/`; None gives `DEFAULT_RULES`.

    Raises:
        SpecError: Unknown file, unknown key, or rules that contradict each other.
    """
    if name is None:
        return DEFAULT_RULES
    path = find("gates", "rule set", str(name))
    return parse(GateRules, load_yaml(path), str(path))

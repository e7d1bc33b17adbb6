"""Suite: which tasks, under which protocol, with which policies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from harness.errors import SpecError, UsageError
from harness.spec.budget import Budget
from harness.spec.canaries import Canaries
from harness.spec.policy import OptionValue, PolicySpec
from harness.spec.protocol import Protocol
from harness.spec.resolve import SpecModel, find, load_yaml, parse
from harness.spec.timing import SYNCHRONOUS, ClockName, Latency
from harness.spec.variants import QUANTIZED_KINDS, ProbeVariant, quantized, variants

Nfe = Annotated[int, Field(ge=1, le=10_000)]
Quantization = Literal["none", "int8", "int8-activations"]
"""How the linear layers of a policy are quantised; see `harness.policies.quantize`."""
Video = Literal["none", "failures", "all"]
"""Which episodes are filmed."""


class TaskSet(SpecModel):
    """Tasks of one suite of the world with their init states."""

    suite: str
    """Suite of the world, e.g. libero_spatial; in a parametrised suite file "{variant}"."""
    tasks: Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...] = "all"
    """Task ids."""
    init_states: Literal["all"] | Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=0)], ...] = "all"
    """Init states of each task: all of them, the first N, or a list of ids."""
    trials: Annotated[int, Field(ge=1)] = 1
    """Repetitions of each init state; each has its own noise."""

    @model_validator(mode="after")
    def _refuse_repeats(self) -> TaskSet:
        for name, ids in (("tasks", self.tasks), ("init_states", self.init_states)):
            if isinstance(ids, tuple):
                if not ids:
                    raise ValueError(f"{name} is an empty list; write `all` or at least one id")
                repeated = [i for i, n in Counter(ids).items() if n > 1]
                if repeated:
                    raise ValueError(f"{name} repeats {repeated}; use trials to repeat an episode")
        return self


class ProbePlan(SpecModel):
    """Latency probes that a run makes besides its episodes."""

    policies: tuple[PolicySpec, ...] = ()
    """Policies to time; empty: those that the suite runs, without `scripted`, which looks at no frame."""
    nfe: tuple[Nfe, ...] = ()
    """NFE values for policies that have a denoising loop; empty: those of the suite, else the policies' default."""
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    """Observations in one `act`."""
    budget: Budget = Budget()
    """Time and samples of each launch of a configuration; its keys may also stand beside it, as they did before it had
    a name."""
    on: tuple[str, ...] = ()
    """Hardware profiles of the nodes that policies are timed on, for those that say none; empty: those of the suite,
    else every node."""
    launches: Annotated[int, Field(ge=1)] = 5
    """Fresh processes in which each configuration is measured, the configurations in turn: processes of one binary
    differ in level, so that one tells nothing of the next."""
    axes: dict[str, Annotated[tuple[OptionValue | None, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Options of the policies to vary, each with its values (null leaves it out): every combination is probed, e.g.
    `{dtype: [float32, bfloat16], compile: [null, default], cameras: [1, 2]}`."""
    prompt_words: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Lengths of the instruction, words; empty for LIBERO's own (13 to 16)."""
    process_per: Literal["configuration", "variant"] = "configuration"
    """Whether each NFE and batch size gets a process of its own, or each variant of a policy; a variant whose process
    dies goes on in a fresh one. A variant that takes minutes to compile is then compiled once."""
    compare: bool = True
    """Whether to compare each variant's answers with those of its reference: eager, in the checkpoint's dtype."""
    allow_shared: bool = False
    """Whether to measure beside another process on the accelerator; the rows are marked then."""

    @model_validator(mode="before")
    @classmethod
    def _nest_budget(cls, data: Any) -> Any:
        loose = (
            {key: value for key, value in data.items() if key in Budget.model_fields} if isinstance(data, dict) else {}
        )
        if not loose:
            return data
        rest = {key: value for key, value in data.items() if key not in loose}
        return {**rest, "budget": {**Budget.model_validate(rest.get("budget", {})).model_dump(), **loose}}

    @property
    def variants(self) -> list[ProbeVariant]:
        """What is probed."""
        return variants(self.policies, self.axes)


class Limits(SpecModel):
    """Time limits, wall-clock seconds."""

    decision_s: Annotated[float, Field(gt=0)] = 120.0
    """A policy that has not answered by then makes the episode an error."""
    episode_s: Annotated[float, Field(gt=0)] = 1800.0
    """An episode that has not ended by then is an error, and its worker is replaced."""


class Suite(SpecModel):
    """A benchmark: tasks × protocol × policies × NFE, and latency probes."""

    name: str
    """Name in reports."""
    description: str
    """One line for `harness list suites`."""
    world: str = "libero"
    """Where episodes run; `harness list worlds` says which there are. "stub" is for scheduling tests."""
    variant: str | None = None
    """Value that "{variant}" stands for in a parametrised file (`NAME:VARIANT` on the command line)."""
    tasks: tuple[TaskSet, ...] = ()
    """What to roll out; may be empty for a suite that only probes."""
    protocol: Protocol
    """The rules."""
    policies: tuple[PolicySpec, ...] = ()
    """Policies to evaluate; the command line's --policy replaces them."""
    nfe: tuple[Nfe, ...] = ()
    """NFE values as an axis; empty: each policy's default."""
    quantize: tuple[Quantization, ...] = ()
    """Quantisation as an axis of the policies that have it (flow, lerobot): each becomes a policy of its own, whose
    label says so, e.g. "flow?quantize=int8". Empty: as each policy says itself."""
    on: tuple[str, ...] = ()
    """Hardware profiles of the nodes that served policies and probes run on, as an axis of the policies that say none
    of their own; one may be written without a list. Several make a policy of each, e.g. "flow on dgx-spark-gb10"."""
    clock: tuple[ClockName, ...] = (SYNCHRONOUS,)
    """How simulated time passes while the policy decides, as an axis; one clock may be written without a list."""
    latency: tuple[Latency, ...] = ()
    """Where the delays of decisions come from, as an axis of every clock but the synchronous one."""
    probe: ProbePlan | None = None
    """Latency probes after the rollouts."""
    video: Video = "none"
    """Videos: none, one failed episode per task, or one episode per task."""
    limits: Limits = Limits()
    """Time limits per decision and per episode."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """How often an episode is tried when the infrastructure fails."""
    max_errors: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    """Episodes, or their share of the plan, that may end as errors before the run stops; null lets it go on."""
    canaries: Canaries = Canaries()
    """When unlike nodes are compared before they run, and what becomes of one that differs too much."""

    @model_validator(mode="before")
    @classmethod
    def _list_one(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        alone = {name: [value] for name in ("clock", "latency", "on") if isinstance(value := data.get(name), str)}
        return {**data, **alone}

    @model_validator(mode="after")
    def _refuse_a_name_that_is_a_path(self) -> Suite:
        # Run ids and the default --out begin with it.
        if not self.name or self.name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in self.name):
            raise ValueError(f"name is {self.name!r}; folders are called by it: no slash, no leading dot, not empty")
        return self

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Suite:
        if not self.tasks and self.probe is None:
            raise ValueError("the suite has neither tasks nor a probe: there is nothing to run")
        for what, values in (
            ("policies", [policy.label for policy in self.policies]),
            ("tasks", [task_set.suite for task_set in self.tasks]),
            ("nfe", list(self.nfe)),
            ("quantize", list(self.quantize)),
            ("on", list(self.on)),
            ("clock", list(self.clock)),
            ("latency", [each.text for each in self.latency]),
        ):
            repeated = [value for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise ValueError(f"{what} names {repeated[0]!r} twice")
        if self.quantize and self.policies and not any(spec.kind in QUANTIZED_KINDS for spec in self.policies):
            raise ValueError(
                f"quantize is given, but none of the policies can be quantised ({', '.join(QUANTIZED_KINDS)} can)"
            )
        object.__setattr__(self, "policies", tuple(quantized(self.policies, self.quantize)))
        if not self.clock:
            raise ValueError("clock is an empty list; write at least one, e.g. `clock: [synchronous, asynchronous]`")
        timed = [name for name in self.clock if name != SYNCHRONOUS]
        if timed and not self.latency:
            raise ValueError(
                f"clock {timed[0]} charges each decision its time, but no latency says what that is; give one, e.g. "
                "`latency: constant:180ms` (--latency, --latency-from or --device)"
            )
        if self.latency and not timed:
            raise ValueError(
                "latency is given, but under the synchronous clock a decision takes no simulated time; give another, "
                "e.g. `clock: asynchronous` (--clock)"
            )
        for task_set in self.tasks:
            if self.protocol.placements == "sampled" and task_set.init_states == "all":
                raise ValueError("sampled placements have no end; say how many, e.g. `init_states: 20` (--episodes 20)")
            if "{" not in task_set.suite:
                self._require_length(task_set.suite)
        return self

    def _require_length(self, suite: str) -> None:
        try:
            self.protocol.max_steps_of(suite)
        except UsageError as error:
            raise ValueError(str(error)) from error

    def error_limit(self, n_episodes: int) -> int | None:
        """Episodes of a plan that may end as errors; None for all."""
        return int(self.max_errors * n_episodes) if isinstance(self.max_errors, float) else self.max_errors

    @property
    def probe_plan(self) -> ProbePlan | None:
        """The probe with what it takes from the suite filled in; None where nothing is to be timed."""
        if self.probe is None:
            return None
        run = tuple(spec for spec in self.policies if spec.kind != "scripted")
        filled = {
            "policies": self.probe.policies or run,
            "nfe": self.probe.nfe or self.nfe,
            "on": self.probe.on or self.on,
        }
        plan = self.probe.model_copy(update=filled)
        return plan if plan.policies else None

    def to_yaml(self) -> str:
        """The suite as YAML text with everything filled in: what the ledger's `runs` table records."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_suite(name: str) -> Suite:
    """Load a suite by name or path; `NAME:VARIANT` fills in a parametrised file.

    Args:
        name: e.g. "libero_spatial", "suites/mine.yaml", "libero_pro:libero_spatial_swap".

    Raises:
        SpecError: Unknown name, unknown key, or values that contradict each other.
    """
    stem, _, variant = name.partition(":")
    path = find("suites", "suite", stem)
    data = load_yaml(path)
    parametrised = _mentions_variant(data)
    if parametrised and not variant:
        raise SpecError(
            f"Suite {stem!r} is parametrised: name a variant, e.g. `{stem}:"
            f"{'libero_spatial_swap' if data.get('world', 'libero') == 'libero' else 'SUITE'}`. "
            "`harness list suites` lists them."
        )
    if variant and not parametrised:
        raise SpecError(f"Suite {stem!r} takes no variant (got {variant!r}); drop the part after the colon.")
    return parse(Suite, {**_fill(data, variant), **({"variant": variant} if variant else {})}, str(path))


def is_parametrised(path: Path) -> bool:
    """Whether a suite file stands for a family (`NAME:VARIANT`)."""
    return _mentions_variant(load_yaml(path))


def _mentions_variant(value: Any) -> bool:
    return "{variant}" in yaml.safe_dump(value)


def _fill(value: Any, variant: str) -> Any:
    """Replace "{variant}" in every string of a YAML value."""
    if isinstance(value, dict):
        return {key: _fill(inner, variant) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, variant) for inner in value]
    return value.replace("{variant}", variant) if isinstance(value, str) else value

"""Everything that can be known to be wrong before a cluster is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.cluster.cells import plan_cells
from harness.cluster.messages import PolicySetup
from harness.cluster.policy_servers import light_setups
from harness.cluster.recording import Recording, check_recording
from harness.cluster.request import RunRequest
from harness.errors import LedgerError, PolicyError, SimulatorError, UsageError
from harness.ledger import LedgerWriter
from harness.ledger.claim import check_claim
from harness.ledger.parts import read_rows
from harness.policies.ability import require_able, require_dim
from harness.policies.registry import POLICIES
from harness.schedule.plan import SuiteCounts, plan_episodes
from harness.spec import Suite, load_suite
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe
from harness.spec.profile import load_profile
from harness.spec.protocol import Protocol
from harness.spec.suite import ProbePlan
from harness.spec.variants import spread
from harness.worlds.base import SuiteDescription
from harness.worlds.interface import require_fit
from harness.worlds.registry import get_world

MIN_FREE_BYTES = 10**9
"""Free disk space with which a run may start: ledger, videos, and what Ray writes to its temporary directory."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request, checked as far as that goes without a cluster."""

    request: RunRequest
    suite: Suite
    """With the request's changes applied."""
    out: str
    descriptions: Mapping[str, SuiteDescription]
    light: Mapping[str, PolicySetup]
    recording: Recording | None = None
    """Where to record, with an absolute path."""
    probe: ProbePlan | None = None
    """The suite's probes, less what cannot be built here."""
    left_out: tuple[str, ...] = ()
    """What of the suite is not done, a sentence each."""

    @property
    def wanted_hardware(self) -> tuple[tuple[str, str], ...]:
        """(policy, hardware profile that it is to run or to be timed on)."""
        served = [(spec.label, profile) for spec in self.suite.policies for profile in spec.on]
        plan = self.probe
        timed = [(spec.label, each) for spec in plan.policies for each in spec.on or plan.on] if plan else []
        return (*served, *timed)


def prepare(request: RunRequest) -> Prepared:
    """Check a request.

    Raises:
        UsageError: Unknown suite, task, policy or option; NFE for policies without; an `out` that needs --resume; a
            recording that cannot be made.
        LedgerError: `out` holds another suite's ledger or cannot be written, or the disk is too full.
        PolicyError: A light policy cannot be built, or what a policy needs is not here.
        SimulatorError: Episodes would run on this machine, and LIBERO is not installed.
    """
    loaded = load_suite(request.suite) if isinstance(request.suite, str) else request.suite
    suite = place_policies(request.changes.apply(loaded))
    if request.workers is not None and request.workers < 1:
        raise UsageError(f"workers is {request.workers}; at least one rollout worker is needed.")
    local = request.address is None
    probe, left_out = probes_here(suite, local=local)
    _require_sources(suite, request)
    descriptions, light = check_suite(suite, local=local)
    known = {label: setup.info for label, setup in light.items()}
    variants = plan_variants(known, suite.nfe, asked=False)
    # A run of some of its clocks is the first of several, which need the others.
    whole, timed = len(known) == len(suite.policies), request.only_clocks is not None
    plan_cells(suite, request.sources, variants, known, whole=whole, timed=timed)
    if request.changes.nfe and request.changes.policies:
        _refuse_nfe({label: setup.info for label, setup in light.items()})
    recording = check_recording(request.record, suite) if request.record is not None else None
    _require_space(request.out)
    _check_out(suite, request.out, request.resume)
    return Prepared(request, suite, request.out, descriptions, light, recording, probe, left_out)


def place_policies(suite: Suite) -> Suite:
    """Make a policy of each hardware profile that one is to run on, where that is for a suite to say.

    Raises:
        UsageError: No such profile; or policies that decide inside the rollout workers, wherever those are.
    """
    probe = suite.probe
    named = [*suite.on, *(probe.on if probe else ())]
    for spec in (*suite.policies, *(probe.policies if probe else ())):
        named += spec.on
    for profile in named:
        load_profile(profile)
    inside = {spec.label for spec in suite.policies if POLICIES.is_light(spec.kind)}
    own = [spec.label for spec in suite.policies if spec.on and spec.label in inside]
    if own or (suite.on and suite.policies and probe is None and len(inside) == len(suite.policies)):
        raise UsageError(
            f"`on` says where policies are served, but {(own or sorted(inside))[0]!r} decides inside the rollout "
            "workers, wherever those are. Leave `on` out, or name a policy that is served."
        )
    placed = [
        each for spec in suite.policies for each in (spread([spec], suite.on) if spec.label not in inside else [spec])
    ]
    if repeated := [label for label, n in Counter(spec.label for spec in placed).items() if n > 1]:
        raise UsageError(f"Two policies would be called {repeated[0]!r}; give one another label.")
    return suite.model_copy(update={"policies": tuple(placed)})


def probes_here(suite: Suite, *, local: bool) -> tuple[ProbePlan | None, tuple[str, ...]]:
    """What of a suite's probes can be built: the extra `sim` alone rolls out, yet brings no torch to time `flow` with.

    Args:
        suite: The suite whose probes are wanted.
        local: Whether policies are built on this machine; what the nodes of a cluster have is not known here.

    Returns:
        (the plan less the policies whose modules are not installed, None where none is left; a sentence for each).

    Raises:
        PolicyError: The suite has nothing but probes, and none can be built.
    """
    plan = suite.probe_plan
    if plan is None or not local:
        return plan, ()
    lacking = {spec.label: POLICIES.lacking(spec) for spec in plan.policies}
    kept = tuple(spec for spec in plan.policies if lacking[spec.label] is None)
    told = tuple(
        f"The probe of {label} is left out: {module} is not installed here (pip install 'vla-harness[policies]')."
        for label, module in lacking.items()
        if module is not None
    )
    if not kept and not suite.tasks:
        raise PolicyError(" ".join(told))
    return (plan.model_copy(update={"policies": kept}) if kept else None), told


def check_suite(suite: Suite, *, local: bool) -> tuple[dict[str, SuiteDescription], dict[str, PolicySetup]]:
    """Check that a suite can be run: its tasks and init states exist, and its policies can be had and fit.

    Args:
        suite: The suite, with the request's changes applied.
        local: Whether policies are built on this machine, so that their files have to be here.

    Returns:
        (LIBERO suite → description, light policy → setup).

    Raises:
        UsageError: Unknown task, init state, policy or option.
        PolicyError: A light policy cannot be built, or what a policy needs is not here.
        SimulatorError: Episodes would run on this machine, and LIBERO is not installed.
    """
    _require_policies(suite, local=local)
    world = get_world(suite.world)
    if local and suite.tasks:
        try:
            world.require_installed()
        except SimulatorError as error:
            raise SimulatorError(f"{error} Or run it on a cluster whose nodes have it: --address.") from error
    descriptions = check_tasks(suite)
    space = world.interface.space(suite.protocol.control_mode)
    for spec in suite.policies if suite.tasks else ():
        require_dim(spec.label, POLICIES.action_dim(spec.kind) or space.dim, space, suite.world)
    light = light_setups(suite.policies, space)
    check_infos({label: setup.info for label, setup in light.items()}, suite)
    return descriptions, light


def check_tasks(suite: Suite) -> dict[str, SuiteDescription]:
    """Check that a suite's tasks and init states exist; nothing is simulated.

    Returns:
        LIBERO suite → description.

    Raises:
        UsageError: Unknown suite, task or init state.
    """
    world = get_world(suite.world)
    require_fit(suite.world, world.interface, suite.protocol)
    descriptions = {task_set.suite: world.describe(task_set.suite) for task_set in suite.tasks}
    # Task and init state ids are checked by planning once with keys that nobody will use.
    counts = {name: task_counts(description, suite.protocol, "") for name, description in descriptions.items()}
    plan_episodes(suite.tasks, counts, [("", None)])
    return descriptions


def task_counts(description: SuiteDescription, protocol: Protocol, protocol_sha256: str) -> SuiteCounts:
    """What a plan has to know of a suite; sampled placements have no end."""
    sampled = protocol.placements == "sampled"
    n_states = (sys.maxsize,) * len(description.tasks) if sampled else description.n_init_states
    return SuiteCounts(n_states, protocol_sha256)


def plan_variants(infos: Mapping[str, PolicyInfo], nfe: Sequence[int], *, asked: bool) -> tuple[PolicyAtNfe, ...]:
    """Policies × NFE.

    Args:
        infos: Policy label → what it offers.
        nfe: NFE values of the suite or the command line; they apply to policies that have a denoising loop.
        asked: Whether the command line asked for them.

    Raises:
        UsageError: A value that a policy does not offer, or NFE asked for when no policy has any.
    """
    if asked and infos and not any(info.nfe_options for info in infos.values()):
        _refuse_nfe(infos)
    variants: list[PolicyAtNfe] = []
    for label, info in infos.items():
        if not info.nfe_options:
            variants.append(PolicyAtNfe(label, None))
            continue
        for value in nfe or (info.default_nfe,):
            variants.append(PolicyAtNfe(label, info.resolve_nfe(value)))
    return tuple(variants)


def check_infos(infos: Mapping[str, PolicyInfo], suite: Suite) -> None:
    """Check that policies can do what the suite asks.

    Raises:
        UsageError: See `require_able`.
    """
    asked = {each.suite: None if each.tasks == "all" else each.tasks for each in suite.tasks}
    interface = get_world(suite.world).interface
    space = interface.space(suite.protocol.control_mode)
    for label, info in infos.items():
        require_able(label, info, asked, space, interface.cameras, suite.world)


def _require_sources(suite: Suite, request: RunRequest) -> None:
    if suite.latency and not request.sources:
        raise UsageError(
            "The suite names sources of latency, which have not been looked up; run it with `harness run` or "
            "`harness.run`, which do that."
        )
    early = request.early_stopping is not None
    if early and (len(suite.clock) > 1 or len(request.sources) > 1):
        raise UsageError(
            "A gated run plays one clock with one source of delays, but the suite has several; give one with --clock "
            "and --latency."
        )


def _refuse_nfe(infos: Mapping[str, PolicyInfo]) -> None:
    without = [label for label, info in infos.items() if not info.nfe_options]
    if without:
        raise UsageError(
            f"NFE was asked for, but policy {without[0]!r} has no denoising loop; drop --nfe, or drop the policy."
        )


def _require_policies(suite: Suite, *, local: bool) -> None:
    if (suite.tasks or suite.probe_plan is None) and not suite.policies:
        raise UsageError(f"Suite {suite.name!r} names no policy; give one with --policy, e.g. --policy scripted.")
    for spec in (*suite.policies, *(suite.probe.policies if suite.probe else ())):
        # Probes of what is not installed are left out, see `probes_here`.
        POLICIES.check(spec, local=local and (spec in suite.policies or POLICIES.lacking(spec) is None))


def _require_space(out: str) -> None:
    if "://" in out:
        return
    place = os.path.abspath(os.path.expanduser(out))
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise LedgerError(
            f"Only {free / 1e9:.2f} GB are free for {out!r}; a run needs at least {MIN_FREE_BYTES / 1e9:.0f} GB. Free "
            "some space or give another --out."
        )


def _check_out(suite: Suite, out: str, resume: bool) -> None:
    """Look at the output directory; whether the protocol fits is known only once the renderer is."""
    location = LedgerWriter(out).location
    runs = read_rows(location, "runs", ["protocol_sha256"]) if location.exists() else []
    held = str(runs[0]["protocol_sha256"]) if runs else ""
    check_claim(location, suite.to_yaml(), "{}", held, resume=resume)
    location.try_make()

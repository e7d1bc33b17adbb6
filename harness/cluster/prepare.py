"""Everything that can be known to be wrong before a cluster is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.cluster.messages import PolicySetup
from harness.cluster.policy_servers import light_setups
from harness.cluster.recording import Recording, check_recording
from harness.errors import LedgerError, UsageError
from harness.ledger import LedgerWriter
from harness.ledger.claim import check_claim
from harness.ledger.parts import read_rows
from harness.policies.ability import require_able
from harness.schedule.plan import SuiteCounts, plan_episodes
from harness.sim.base import SuiteDescription
from harness.sim.worlds import get_world
from harness.spec import PolicySpec, Suite, load_suite, parse_policy
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe
from harness.spec.protocol import Protocol

MIN_FREE_BYTES = 10**9
"""Free disk space with which a run may start: ledger, videos, and what Ray writes to its temporary directory."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as it was asked for, checked as far as that goes without a cluster."""

    suite: Suite
    """With the command line's changes applied."""
    out: str
    resume: bool
    nfe_asked: bool
    """Whether NFE values were asked for by the caller rather than by the suite."""
    workers: int | None
    descriptions: Mapping[str, SuiteDescription]
    light: Mapping[str, PolicySetup]
    recording: Recording | None = None
    """Where to record, with an absolute path."""


def prepare(
    suite: Suite | str,
    *,
    policies: Sequence[PolicySpec | str] | None,
    nfe: Sequence[int] | None,
    out: str | os.PathLike[str],
    resume: bool,
    video: str | None,
    workers: int | None,
    record: Recording | None = None,
    local: bool = True,
) -> RunRequest:
    """Check a request; `local` says whether policies are built on this machine, so that their files have to be here.

    Raises:
        UsageError: Unknown suite, task, policy or option; NFE for policies without; an `out` that needs --resume; a
            recording that cannot be made.
        LedgerError: `out` holds another suite's ledger or cannot be written, or the disk is too full.
        PolicyError: A light policy cannot be built.
    """
    loaded = load_suite(suite) if isinstance(suite, str) else suite
    specs = [parse_policy(policy) if isinstance(policy, str) else policy for policy in policies or ()]
    effective = loaded.replace(
        policies=tuple(spec.model_dump() for spec in specs) or None, nfe=tuple(nfe) if nfe else None, video=video
    )
    _require_policies(effective, local=local)
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers}; at least one rollout worker is needed.")
    target = str(out)
    light = light_setups(effective.policies)
    check_infos({label: setup.info for label, setup in light.items()}, effective)
    if nfe and specs:
        _refuse_nfe({label: setup.info for label, setup in light.items()})
    world = get_world(effective.world)
    descriptions = {task_set.suite: world.describe(task_set.suite) for task_set in effective.tasks}
    # Task and init state ids are checked by planning once with keys that nobody will use.
    counts = {name: task_counts(description, effective.protocol, "") for name, description in descriptions.items()}
    plan_episodes(effective.tasks, counts, [("", None)])
    recording = check_recording(record, effective) if record is not None else None
    _require_space(target)
    _check_out(effective, target, resume)
    return RunRequest(effective, target, resume, bool(nfe), workers, descriptions, light, recording)


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
    for label, info in infos.items():
        require_able(label, info, asked, suite.protocol.control_mode)


def _refuse_nfe(infos: Mapping[str, PolicyInfo]) -> None:
    without = [label for label, info in infos.items() if not info.nfe_options]
    if without:
        raise UsageError(
            f"NFE was asked for, but policy {without[0]!r} has no denoising loop; drop --nfe, or drop the policy."
        )


def _require_policies(suite: Suite, *, local: bool) -> None:
    from harness.policies.registry import POLICIES

    if suite.tasks and not suite.policies:
        raise UsageError(f"Suite {suite.name!r} names no policy; give one with --policy, e.g. --policy scripted.")
    for spec in (*suite.policies, *(suite.probe.policies if suite.probe else ())):
        POLICIES.check(spec, local=local)


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
    location.make_dir(location.root)

"""Policies by kind: lazy `module:attribute` targets, so that a name costs no import until a policy is built.

A target is a factory: called with the policy's spec, it returns a `Policy`. Third parties add kinds by entry point:

    [project.entry-points."harness.policies"]
    my_policy = "my_package.policy:make"
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from harness.errors import PolicyError, UsageError, unknown_name
from harness.policies.base import Policy, in_world
from harness.policies.options import ServingOptions, read_options
from harness.policies.uri import fetch, is_uri
from harness.spec.action_space import ActionSpace
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import ACTION_DIM, PolicyInfo

ENTRY_POINT_GROUP = "harness.policies"
PYTHON_KIND = "python"
"""The kind whose `path` is itself the target: `PolicySpec(kind="python", path="package.module:Factory")`."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """What is known of a kind before any policy of it is built."""

    target: str
    """Its factory, "module:attribute"."""
    written: str
    """How it is written on a command line."""
    about: str
    """What it is, in a line."""
    check: str = ""
    """What can be checked before it is built, as "module:function": called with the request and whether the policy will
    be built on this machine. Imports no torch."""
    light: bool = False
    """Whether a driver may build it: it imports neither torch nor a simulator. Any other kind is built in an actor
    first, because nobody knows what it imports before it is built."""
    remote: bool = False
    """Whether building it opens a connection."""
    needs: tuple[str, ...] = ()
    """Modules that building it imports and an installation without extras lacks."""
    action_dim: int | None = None
    """Numbers of an action, where all policies of the kind answer the same; None: each says so once it is built."""


BUILTIN: Mapping[str, PolicyKind] = {
    "scripted": PolicyKind(
        "harness.policies.scripted:make",
        "scripted",
        "expert on object poses; the positive control (libero_spatial, libero_object)",
        "harness.policies.registry:require_bare",
        light=True,
    ),
    "noop": PolicyKind(
        "harness.policies.controls:make_noop",
        "noop",
        "does nothing; the negative control",
        "harness.policies.registry:require_bare",
        light=True,
    ),
    "random": PolicyKind(
        "harness.policies.controls:make_random",
        "random",
        "uniform actions, keyed by episode; a negative control",
        "harness.policies.registry:require_bare",
        light=True,
    ),
    "expert": PolicyKind(
        "harness.policies.expert:make",
        "expert",
        "what the world's own expert would do; the positive control of metaworld",
        "harness.policies.registry:require_bare",
        light=True,
    ),
    "flow": PolicyKind(
        "harness.policies.flow:make",
        "flow[:PATH]",
        "small flow-matching chunk policy in torch; the trained teacher, flow:student, or yours",
        "harness.policies.flow.options:check",
        needs=("torch", "safetensors"),
        action_dim=ACTION_DIM,
    ),
    "lerobot": PolicyKind(
        "harness.policies.lerobot:make",
        "lerobot:REPO_OR_PATH",
        "any LeRobot policy; lerobot:pi05?weights=random for latency only",
        "harness.policies.lerobot.check:check",
        needs=("torch", "lerobot"),
        action_dim=ACTION_DIM,
    ),
    "arch": PolicyKind(
        "harness.policies.arch:make",
        "arch:NAME",
        "an architecture file with random weights, e.g. arch:student-650m-int8; for latency and memory only",
        "harness.policies.arch.options:check",
        needs=("torch",),
        action_dim=ACTION_DIM,
    ),
    "openpi": PolicyKind(
        "harness.policies.openpi:make",
        "openpi://HOST:PORT[/PATH]",
        "a policy behind `harness serve`, or behind any server of openpi's protocol",
        "harness.policies.openpi:check",
        light=True,
        remote=True,
        action_dim=ACTION_DIM,
    ),
    "vla-eval": PolicyKind(
        "harness.policies.vla_eval:make",
        "vla-eval://HOST:PORT",
        "a policy behind a model server of vla-evaluation-harness",
        "harness.policies.vla_eval:check",
        light=True,
        remote=True,
    ),
    "lerobot-grpc": PolicyKind(
        "harness.policies.lerobot_grpc:make",
        "lerobot-grpc://HOST:PORT?checkpoint=REPO",
        "a checkpoint that LeRobot's own policy server loads",
        "harness.policies.lerobot_grpc:check",
        remote=True,
        needs=("torch", "lerobot", "grpc"),
    ),
    "gr00t": PolicyKind(
        "harness.policies.gr00t:make",
        "gr00t://HOST:PORT",
        "a policy behind NVIDIA's GR00T server",
        "harness.policies.gr00t:check",
        light=True,
        remote=True,
        needs=("zmq",),
    ),
    "vlacpp": PolicyKind(
        "harness.policies.vlacpp:make",
        "vlacpp://HOST:PORT?arch=pi0&tokenizer=REPO",
        "a pi0 or smolvla behind vla.cpp's server",
        "harness.policies.vlacpp:check",
        light=True,
        remote=True,
        needs=("zmq", "google.protobuf", "tokenizers"),
    ),
    PYTHON_KIND: PolicyKind(
        "",
        "python:MODULE:FACTORY",
        "a policy of your own, from an importable factory",
        "harness.policies.importable:check",
    ),
}
"""The kinds that come with the harness."""


class PolicyRequest(Protocol):
    """What a factory may read of a policy's spec."""

    @property
    def kind(self) -> str:
        """Registered name of the policy."""
        ...

    @property
    def path(self) -> str | None:
        """Checkpoint, repository, address or target; None when the kind needs none."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the policy, by name."""
        ...


Factory = Callable[[Any], Policy]

SERVING_OPTIONS = tuple(ServingOptions.model_fields)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request without its serving options."""

    kind: str
    path: str | None
    options: Mapping[str, Any]
    label: str


def serving_options(options: Mapping[str, Any]) -> ServingOptions:
    """Those of a policy's options that say how a server batches it.

    Raises:
        UsageError: A value that is no size or no time.
    """
    given = {name: value for name, value in options.items() if name in SERVING_OPTIONS}
    return read_options(ServingOptions, "policy option", given)


def without_serving(spec: PolicyRequest) -> PolicyRequest:
    """A request as its factory may see it."""
    if not set(SERVING_OPTIONS) & set(spec.options):
        return spec
    options = {name: value for name, value in spec.options.items() if name not in SERVING_OPTIONS}
    return _Request(spec.kind, spec.path, options, getattr(spec, "label", ""))


class PolicyRegistry:
    """Factories of policies by kind: built-in ones, plugins from entry points, and those registered at run time."""

    def __init__(self, kinds: Mapping[str, PolicyKind], plugins: Iterable[EntryPoint] | None = None) -> None:
        """Start from `kinds`.

        Args:
            kinds: By name.
            plugins: Entry points to offer as well; None discovers those of the installed packages when first needed.
        """
        self._kinds = dict(kinds)
        self._targets: dict[str, str | Factory] = {name: kind.target for name, kind in kinds.items()}
        self._plugins = plugins
        self._discovered: dict[str, str] | None = None

    def register(self, kind: str, target: str | Factory) -> None:
        """Add a kind.

        Args:
            kind: The name in suites and on the command line.
            target: "module:attribute", imported when first used, or the factory itself.

        Raises:
            UsageError: The kind is taken by another target.
        """
        if self._targets.get(kind, target) != target:
            raise UsageError(f"Policy kind {kind!r} is already registered; choose another name.")
        self._targets[kind] = target

    def kinds(self) -> tuple[str, ...]:
        """Every kind that can be asked for, sorted. Imports no policy."""
        return tuple(sorted({*self._targets, *self._discover()}))

    def describe(self, kind: str) -> tuple[str, str]:
        """How a kind is written, and what it is."""
        known = self._kinds.get(kind)
        return (known.written, known.about) if known is not None else (kind, "from a plugin")

    def is_light(self, kind: str) -> bool:
        """Whether a driver may build policies of this kind; see `PolicyKind.light`."""
        return kind in self._kinds and self._kinds[kind].light

    def action_dim(self, kind: str) -> int | None:
        """See `PolicyKind.action_dim`; None for plugins."""
        return self._kinds[kind].action_dim if kind in self._kinds else None

    def check(self, spec: PolicyRequest, *, local: bool = True) -> None:
        """Check a request as far as that is cheap: kind, options, that its files or its module are there. No torch.

        Args:
            spec: Kind, path and options that were asked for.
            local: Whether the policy will be built on this machine; else only what is the same everywhere is checked.

        Raises:
            UsageError: An unknown kind or option, or a value that it does not take.
            PolicyError: What it names, or a module that it needs, is not there.
        """
        if spec.kind not in self.kinds():
            raise unknown_name("policy", spec.kind, self.kinds())
        serving_options(spec.options)
        known = self._kinds.get(spec.kind)
        if known is not None and known.check:
            # What lies on an object store is looked at when it is fetched.
            here = local and not is_uri(spec.kind, spec.path)
            load_target(known.check, named=spec.kind)(without_serving(spec), here)
        module = self.lacking(spec) if local else None
        if module is not None:
            raise PolicyError(_not_installed(spec.kind, module))

    def lacking(self, spec: PolicyRequest) -> str | None:
        """The first module that building a policy would import and that is not installed here; imports none."""
        needs = self._kinds[spec.kind].needs if spec.kind in self._kinds else ()
        return next((module for module in needs if importlib.util.find_spec(module) is None), None)

    def stated_info(self, spec: PolicyRequest, space: ActionSpace | None = None) -> PolicyInfo | None:
        """What a policy says of itself where that is known without torch, files or a connection; else None.

        Args:
            spec: The policy.
            space: What an action is in the world that it is asked for.

        Raises:
            UsageError: The kind does not take an option of `spec`.
        """
        known = self._kinds.get(spec.kind)
        return in_world(self.make(spec), space).info if known is not None and known.light and not known.remote else None

    def load(self, spec: PolicyRequest) -> None:
        """Import the code of a policy and build nothing.

        Raises:
            UsageError: Nothing is registered under `spec.kind`.
            PolicyError: The factory cannot be imported.
        """
        self._factory(spec)

    def make(self, spec: PolicyRequest) -> Policy:
        """Build the policy that a spec asks for.

        Raises:
            UsageError: Nothing is registered under `spec.kind`, or the kind does not take an option of `spec`.
            PolicyError: The factory cannot be imported, or what it returns is no policy.
        """
        factory = self._factory(spec)
        asked = without_serving(spec)
        if is_uri(spec.kind, spec.path):
            asked = _Request(spec.kind, str(fetch(spec.path or "")), asked.options, getattr(spec, "label", ""))
        policy = factory(asked)
        if not isinstance(policy, Policy):
            raise PolicyError(
                f"The factory of policy kind {spec.kind!r} returned a {type(policy).__name__}, which lacks `info` or "
                "`act`; return an object that implements harness.policies.base.Policy."
            )
        if not isinstance(policy.info, PolicyInfo):
            raise PolicyError(
                f"The policy of kind {spec.kind!r} has an `info` that is a {type(policy.info).__name__}; make it a "
                "harness.spec.observation.PolicyInfo, e.g. PolicyInfo(policy_id='mine', cameras=('agentview',))."
            )
        if asked.path != spec.path:
            # Ledgers name the checkpoint as the user does, wherever it was fetched to.
            named = policy.info.policy_id.replace(asked.path or "", spec.path or "")
            policy.info = replace(policy.info, policy_id=named, checkpoint=spec.path)
        if spec.kind == PYTHON_KIND and policy.info.identity is None:
            policy.info = replace(policy.info, identity=_source_identity(spec, policy.info))
        return policy

    def _factory(self, spec: PolicyRequest) -> Factory:
        if spec.kind == PYTHON_KIND:
            if not spec.path:
                raise UsageError('A policy of kind "python" needs path: "package.module:Factory".')
            return load_target(spec.path, named=f"{PYTHON_KIND}:{spec.path}")
        target = self._targets.get(spec.kind) or self._discover().get(spec.kind)
        if target is None:
            raise unknown_name("policy", spec.kind, self.kinds())
        return load_target(target, named=spec.kind) if isinstance(target, str) else target

    def _discover(self) -> Mapping[str, str]:
        """Targets of usable plugins; one that shadows a kind or is not installed is named in a warning and left out."""
        if self._discovered is None:
            plugins = entry_points(group=ENTRY_POINT_GROUP) if self._plugins is None else self._plugins
            self._discovered = {}
            for plugin in plugins:
                fault = self._plugin_fault(plugin)
                if fault is None:
                    self._discovered[plugin.name] = plugin.value
                else:
                    warnings.warn(f"Policy plugin {_plugin_name(plugin)} is ignored: {fault}.", stacklevel=3)
        return self._discovered

    def _plugin_fault(self, plugin: EntryPoint) -> str | None:
        if plugin.name in self._targets:
            return f"the kind {plugin.name!r} is taken"
        module, colon, attribute = plugin.value.partition(":")
        if not (module and colon and attribute):
            return f"its target {plugin.value!r} is not of the form 'module:attribute'"
        # The top package is looked for, not imported: a plugin may be heavy, and nobody has asked for it yet.
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            return f"its package {module.partition('.')[0]!r} is not installed"
        return None


def load_target(target: str, *, named: str) -> Callable[..., Any]:
    """Import the factory that "module:attribute" points at.

    Args:
        target: "module:attribute"; the attribute may be dotted.
        named: The policy it was asked for, for the message of an error.

    Raises:
        PolicyError: The text has another form, the import fails for whatever reason, or what it names is not callable.
    """
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute):
        raise PolicyError(f"Policy {named!r} points at {target!r}; write it as 'package.module:Factory'.")
    try:
        found: object = importlib.import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except ModuleNotFoundError as error:
        raise PolicyError(_not_installed(named, str(error.name))) from error
    except Exception as error:
        raise PolicyError(f"Policy {named!r} cannot be loaded from {target!r}: {error!r}.") from error
    if not callable(found):
        raise PolicyError(f"Policy {named!r} points at {target!r}, a {type(found).__name__}; it must be a factory.")
    return found


SERVERS_MODULES = ("grpc", "zmq", "google.protobuf", "tokenizers")
"""Modules that the extra `servers` brings."""


def _not_installed(named: str, module: str) -> str:
    extra, what = ("policies", "torch and the learned policies")
    if module in SERVERS_MODULES:
        extra, what = ("servers", "the clients of other projects' servers")
    return (
        f"Policy {named!r} needs the module {module!r}, which is not installed here; install it "
        f"(`pip install 'vla-harness[{extra}]'` brings {what})."
    )


def _source_identity(spec: PolicyRequest, info: PolicyInfo) -> PolicyIdentity:
    """The identity of a policy that states none: the source file that makes it. Options stand in the suite."""
    module = sys.modules.get((spec.path or "").partition(":")[0])
    source = Path(getattr(module, "__file__", None) or "")
    text = source.read_bytes() if source.is_file() else b""
    settings = digest_of([hashlib.sha256(text).hexdigest(), info.chunk_length, info.replan_interval])
    return replace(info.stated_identity, configuration=settings)


def require_bare(spec: PolicyRequest, local: bool = True) -> None:
    """Refuse a path or options on a policy that takes neither.

    Raises:
        UsageError: Names what was given.
    """
    del local
    given = [*([f"path {spec.path!r}"] if spec.path else []), *(f"option {name!r}" for name in sorted(spec.options))]
    if given:
        raise UsageError(f"Policy {spec.kind!r} takes no path and no options, but got {', '.join(given)}; remove it.")


def _plugin_name(plugin: EntryPoint) -> str:
    distribution = plugin.dist.name if plugin.dist is not None else "an unknown distribution"
    return f"{plugin.name!r} of {distribution}"


POLICIES = PolicyRegistry(BUILTIN)
"""The registry that suites and the command line use."""


def register(kind: str, target: str | Factory) -> None:
    """Add a kind to `POLICIES`; see `PolicyRegistry.register`."""
    POLICIES.register(kind, target)


def make_policy(spec: PolicyRequest) -> Policy:
    """Build a policy from `POLICIES`; see `PolicyRegistry.make`."""
    return POLICIES.make(spec)

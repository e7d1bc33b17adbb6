"""Policies by kind: built-in, by Python path, and from plugins, good and broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from harness.errors import PolicyError, UsageError
from harness.policies.base import EpisodicPolicy, Policy
from harness.policies.controls import NoopPolicy
from harness.policies.registry import BUILTIN, ENTRY_POINT_GROUP, PolicyRegistry, make_policy
from harness.spec.policy import PolicySpec, parse_policy


def labelled_noop(spec: PolicySpec) -> NoopPolicy:
    """A third party's factory."""
    policy = NoopPolicy()
    policy.label = spec.label  # type: ignore[attr-defined]
    return policy


def no_policy(spec: PolicySpec) -> object:
    """A factory that does not keep its word."""
    return object()


@pytest.fixture
def registry() -> PolicyRegistry:
    """A registry of its own, without the plugins of this machine."""
    return PolicyRegistry(BUILTIN, plugins=())


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on the path in which distributions can be installed."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, name: str, target: str, source: str) -> None:
    """Install a distribution with one module and one entry point, as pip would."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {target}\n")
    (site / f"{name}_module.py").write_text(dedent(source))


@pytest.mark.parametrize("kind", ["scripted", "noop", "random"])
def test_a_reference_policy_is_built_by_its_name(kind: str) -> None:
    policy = make_policy(parse_policy(kind))
    assert isinstance(policy, Policy)
    assert policy.info.policy_id == kind


def test_only_the_expert_keeps_episodes(registry: PolicyRegistry) -> None:
    assert isinstance(registry.make(parse_policy("scripted")), EpisodicPolicy)
    assert not isinstance(registry.make(parse_policy("noop")), EpisodicPolicy)


@pytest.mark.parametrize("text", ["noop?speed=2", "random:somewhere", "scripted?chunk=10"])
def test_an_option_that_a_policy_does_not_take_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"takes no path and no options, but got .*(speed|somewhere|chunk)"):
        make_policy(parse_policy(text))


def test_an_unknown_kind_is_answered_with_the_nearest_known(registry: PolicyRegistry) -> None:
    with pytest.raises(UsageError, match=r"Unknown policy 'skripted'\. Did you mean 'scripted'\?"):
        registry.make(PolicySpec(kind="skripted"))


def test_naming_kinds_and_building_a_control_imports_no_heavy_package() -> None:
    code = """
        import sys
        from harness.policies.registry import POLICIES
        from harness.spec.policy import parse_policy
        assert {"flow", "noop", "python", "scripted"} <= set(POLICIES.kinds())
        for kind in ("noop", "random", "scripted"):
            POLICIES.make(parse_policy(kind))
        heavy = {"torch", "ray", "mujoco", "robosuite", "libero", "lerobot"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", dedent(code)], check=True, timeout=120)


def test_a_factory_is_addressed_by_its_python_path(registry: PolicyRegistry) -> None:
    policy = registry.make(PolicySpec(kind="python", path=f"{__name__}:labelled_noop", label="mine"))
    assert policy.label == "mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (None, UsageError, "needs path"),
        ("no_colon", PolicyError, "write it as 'package.module:Factory'"),
        ("no_such_package.policy:make", PolicyError, "needs the module 'no_such_package', which is not installed"),
        (f"{__name__}:missing", PolicyError, "has no attribute 'missing'"),
        (f"{__name__}:__doc__", PolicyError, "must be a factory"),
        (f"{__name__}:no_policy", PolicyError, "returned a object, which lacks `info` or `act`"),
    ],
)
def test_a_bad_python_path_says_what_is_wrong_with_it(
    registry: PolicyRegistry, path: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        registry.make(PolicySpec(kind="python", path=path))


def test_a_kind_can_be_registered_once(registry: PolicyRegistry) -> None:
    registry.register("mine", f"{__name__}:labelled_noop")
    registry.register("mine", f"{__name__}:labelled_noop")
    assert "mine" in registry.kinds()
    assert isinstance(registry.make(PolicySpec(kind="mine")), NoopPolicy)
    for taken in ("mine", "scripted", "python"):
        with pytest.raises(UsageError, match=f"'{taken}' is already registered"):
            registry.register(taken, labelled_noop)


def test_a_plugin_is_found_by_its_entry_point_and_imported_only_when_used(installed: Path) -> None:
    source = """
        from harness.policies.controls import NoopPolicy
        def make(spec):
            return NoopPolicy()
    """
    install(installed, "quiet_plugin", "quiet_plugin_module:make", source)
    registry = PolicyRegistry(BUILTIN)
    assert "quiet_plugin" in registry.kinds()
    assert "quiet_plugin_module" not in sys.modules
    assert isinstance(registry.make(PolicySpec(kind="quiet_plugin")), NoopPolicy)


def test_a_plugin_that_fails_to_import_names_itself_and_leaves_the_others_alone(installed: Path) -> None:
    install(installed, "crashing_plugin", "crashing_plugin_module:make", "raise RuntimeError('no licence')")
    registry = PolicyRegistry(BUILTIN)
    assert registry.make(PolicySpec(kind="noop")).info.policy_id == "noop"
    with pytest.raises(PolicyError, match=r"'crashing_plugin' cannot be loaded .*no licence"):
        registry.make(PolicySpec(kind="crashing_plugin"))


@pytest.mark.parametrize(
    ("name", "target", "fault"),
    [
        ("broken_plugin", "not_installed_anywhere.policy:make", "'not_installed_anywhere' is not installed"),
        ("shapeless_plugin", "shapeless_plugin_module", "not of the form 'module:attribute'"),
        ("scripted", "scripted_module:make", "the kind 'scripted' is taken"),
    ],
)
def test_a_broken_plugin_is_warned_of_by_name_and_left_out(installed: Path, name: str, target: str, fault: str) -> None:
    install(installed, name, target, "")
    registry = PolicyRegistry(BUILTIN)
    with pytest.warns(UserWarning, match=f"Policy plugin '{name}' of {name} is ignored: .*{fault}"):
        kinds = registry.kinds()
    assert set(BUILTIN) <= set(kinds)
    assert (name in kinds) == (name in BUILTIN)
    assert registry.make(PolicySpec(kind="scripted")).info.policy_id == "scripted"


def test_a_policy_by_python_path_that_states_no_identity_has_that_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from harness.policies.controls import NoopPolicy\ndef make(spec):\n    return NoopPolicy()\n"
    (tmp_path / "made_one.py").write_text(source)
    (tmp_path / "made_two.py").write_text(source + "# changed\n")
    monkeypatch.syspath_prepend(tmp_path)
    one, two = (make_policy(parse_policy(f"python:{name}:make")).info for name in ("made_one", "made_two"))
    again = make_policy(parse_policy("python:made_one:make?max_batch=3")).info
    assert one.checkpoint_sha256 == again.checkpoint_sha256 is not None
    assert one.stated_identity.compare(two.stated_identity).differ == ("configuration",)

"""Suites, protocols and policies as YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import SpecError, UsageError
from harness.spec import PolicySpec, Protocol, Suite, load_suite, parse_policy, presets
from harness.spec.resolve import names, parse
from harness.spec.rules import load_rules
from harness.worlds.registry import get_world

MINIMAL = {"name": "mine", "description": "d", "protocol": "lerobot", "tasks": [{"suite": "libero_spatial"}]}


def suite_with(**changes: object) -> Suite:
    return parse(Suite, {**MINIMAL, **changes}, "mine.yaml")


@pytest.mark.parametrize("name", sorted(set(names("suites")) - {"libero_pro", "metaworld"}))
def test_every_shipped_suite_loads_and_survives_its_own_yaml(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert parse(Suite, yaml.safe_load(suite.to_yaml()), "again") == suite


def test_one_file_serves_every_libero_pro_variant() -> None:
    suite = load_suite("libero_pro:libero_10_swap")
    assert suite.tasks[0].suite == "libero_10_swap"
    assert suite.name == "libero_pro:libero_10_swap"
    assert suite.protocol.max_steps_of("libero_10_swap") == 520


def test_a_parametrised_suite_without_a_variant_says_how_to_name_one() -> None:
    with pytest.raises(SpecError, match=r"libero_pro:libero_spatial_swap"):
        load_suite("libero_pro")


def test_a_variant_of_a_plain_suite_is_refused() -> None:
    with pytest.raises(SpecError, match="takes no variant"):
        load_suite("seed:libero_10")


def test_an_unknown_suite_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'libero_spatial'"):
        load_suite("libero_spatail")


def test_a_suite_in_the_working_directory_shadows_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "seed.yaml").write_text(yaml.safe_dump({**MINIMAL, "name": "seed", "description": "my own"}))
    monkeypatch.chdir(tmp_path)
    assert load_suite("seed").description == "my own"
    assert load_suite("demo").name == "demo"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocl": "lerobot"}, "protocl: unknown key, did you mean 'protocol'"),
        ({"tasks": [{"suite": "libero_spatial", "init_state": 3}]}, r"tasks\.0\.init_state: .*'init_states'"),
        ({"protocol": "lerobt"}, "Did you mean 'lerobot'"),
        ({"protocol": {"preset": "lerobot", "replan_interval": 900}}, "replan_interval 900 exceeds max_steps 280"),
        ({"protocol": {"preset": "lerobot", "control_hz": 30}}, "control_hz 30 does not divide"),
        ({"protocol": {"preset": "lerobot", "image_orientation": "upside"}}, "got 'upside'"),
        ({"tasks": [{"suite": "libero_foo"}]}, "no max_steps for suite 'libero_foo'"),
        ({"tasks": [{"suite": "libero_spatial", "tasks": [1, 1]}]}, r"tasks repeats \[1\]"),
        ({"tasks": [{"suite": "libero_spatial", "init_states": []}]}, "init_states is an empty list"),
        ({"tasks": [{"suite": "libero_spatial"}, {"suite": "libero_spatial"}]}, "names 'libero_spatial' twice"),
        ({"tasks": []}, "neither tasks nor a probe"),
        ({"nfe": [0]}, "got 0"),
        ({"nfe": [1, 1]}, "names 1 twice"),
        ({"policies": ["noop", "noop"]}, "names 'noop' twice"),
        ({"limits": {"episode_s": -1}}, "got -1"),
    ],
)
def test_a_wrong_suite_is_refused_with_the_value_and_the_remedy(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        suite_with(**changes)


def test_a_file_that_is_no_yaml_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\n  tasks: [")
    with pytest.raises(SpecError, match=r"broken\.yaml is not valid YAML.*line 2"):
        load_suite(str(path))


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(SpecError, match=r"empty\.yaml is empty; a mapping"):
        load_suite(str(path))


def test_a_value_that_stands_for_a_list_is_shown_as_one() -> None:
    with pytest.raises(SpecError) as caught:
        parse(Suite, {"name": "x", "description": "y", "policies": "scripted", "nfe": 10, "tasks": {"a": 1}}, "f")
    said = str(caught.value)
    assert "policies: input should be a list, e.g. [scripted] (got 'scripted')" in said
    assert "nfe: input should be a list, e.g. [10] (got 10)" in said
    assert "tasks: input should be a list (got a mapping)" in said
    assert "tuple" not in said


def test_yaml_tags_are_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("name: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_suite(str(path))


def test_presets_carry_the_published_lengths_and_their_source() -> None:
    lerobot, openpi = (Protocol.model_validate(name) for name in ("lerobot", "openpi"))
    suites = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
    assert [lerobot.max_steps_of(suite) for suite in suites] == [280, 280, 300, 520, 400]
    assert [openpi.max_steps_of(suite) for suite in suites] == [220, 280, 300, 520, 400]
    assert openpi.replan_interval == 5
    assert lerobot.replan_interval is None
    for protocol in (lerobot, openpi):
        assert (protocol.settle_steps, protocol.resolution, protocol.control_hz) == (10, 256, 20)
        assert protocol.image_orientation == "rotated_180"
    assert (lerobot.placement_seeding, lerobot.placement_seed) == ("per_episode", 1000)
    assert (openpi.placement_seeding, openpi.placement_seed) == ("per_task", 7)
    assert all(preset["source"] for preset in presets().values())


def test_a_preset_may_be_changed_key_by_key() -> None:
    protocol = Protocol.model_validate({"preset": "lerobot", "max_steps": {"libero_spatial": 100}})
    assert protocol.max_steps_of("libero_spatial") == 100
    assert protocol.max_steps_of("libero_10") == 520


@pytest.mark.parametrize(
    ("text", "kind", "path", "options"),
    [
        ("scripted", "scripted", None, {}),
        ("flow:/tmp/x", "flow", "/tmp/x", {}),
        ("lerobot:lerobot/pi05-libero", "lerobot", "lerobot/pi05-libero", {}),
        ("lerobot:pi05?weights=random&seed=3", "lerobot", "pi05", {"weights": "random", "seed": 3}),
        ("openpi://127.0.0.1:8000", "openpi", "127.0.0.1:8000", {}),
        ("flow?compile=true&scale=0.5", "flow", None, {"compile": True, "scale": 0.5}),
    ],
)
def test_a_policy_parses_from_text_and_back(text: str, kind: str, path: str | None, options: dict[str, object]) -> None:
    spec = parse_policy(text)
    assert (spec.kind, spec.path, spec.options, spec.label) == (kind, path, options, text)
    assert parse_policy(spec.text) == spec


def test_a_policy_may_carry_its_own_label() -> None:
    spec = PolicySpec.model_validate({"kind": "flow", "path": "a/b", "label": "student"})
    assert spec.label == "student"
    assert spec.text == "flow:a/b"


def test_a_probe_without_policies_times_what_the_suite_runs() -> None:
    suite = suite_with(policies=["scripted", "flow"], nfe=[1, 10], probe={})
    assert suite.probe_plan is not None
    assert [spec.label for spec in suite.probe_plan.policies] == ["flow"]
    assert (suite.probe_plan.nfe, suite.probe_plan.launches) == ((1, 10), 5)
    assert suite_with(policies=["scripted"], probe={}).probe_plan is None


def test_the_nightly_suite_measures_what_the_nightly_rules_judge() -> None:
    probe, rules = load_suite("nightly").probe, load_rules("nightly")
    assert probe is not None
    assert probe.launches >= 5
    assert probe.budget.min_samples >= max(1 / (1 - rule.quantile) for rule in rules.latency) - 1e-9
    assert [(rule.quantile, rule.when) for rule in rules.latency] == [(0.5, "always"), (0.99, "decidable")]


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/x", "..", ".hidden", "a/b", "a\\b", "", "a\nb", "a\x00"])
def test_a_name_that_would_lead_a_run_or_a_ledger_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="folders are called by it"):
        suite_with(name=name)


@pytest.mark.parametrize("suite", ["../../etc", "/etc", "..", "libero_spatial/../../x"])
@pytest.mark.parametrize("world", ["libero", "stub"])
def test_a_task_suite_that_is_a_path_is_an_unknown_suite(suite: str, world: str) -> None:
    with pytest.raises(UsageError, match="suite"):
        get_world(world).describe(suite)

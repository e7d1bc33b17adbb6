"""YAML is read as it is written, and nothing that stands in a file ends in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.spec.architecture import load_architecture
from harness.spec.profile import load_profile
from harness.spec.resolve import load_yaml
from harness.spec.rules import load_rules
from harness.spec.strict_yaml import MAX_BYTES, read_yaml
from harness.spec.suite import load_suite

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)
"""Ten lines that stand for 3.5 billion values."""
READERS: list[Callable[[str], Any]] = [load_suite, load_rules, load_profile, load_architecture]


def write(folder: Path, text: str) -> str:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_key_that_stands_twice_is_refused_with_both_lines(reader: Callable[[str], Any], tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ndescription: x\nsuccess: {margin: 0.01}\nname: b\n")
    with pytest.raises(SpecError, match=r"the key 'name' stands in line 1 and in line 4; keep one of the two"):
        reader(path)


def test_a_key_that_stands_twice_deep_inside_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="'b' stands in line 3 and in line 4"):
        read_yaml("a:\n  - c: 1\n    b: 1\n    b: 1\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("010", "010 is 8 in YAML; write 8, or '010' in quotes"),
        ("1:30", "1:30 is 90 in YAML"),
        ("-012", "-012 is -10 in YAML"),
        ("1:30.5", "1:30.5 is 90.5 in YAML"),
        pytest.param(f"0x{'f' * 5000}", "a whole number of more than 64 bits", id="a number that cannot be shown"),
    ],
)
def test_a_number_that_yaml_reads_as_another_one_is_refused(text: str, told: str) -> None:
    with pytest.raises(yaml.YAMLError) as error:
        read_yaml(f"a: {text}")
    assert told in str(error.value)


@pytest.mark.parametrize("text", ["on", "off", "yes", "No", "y", "2026-01-01", "1e3x"])
def test_what_looks_like_text_is_text(text: str) -> None:
    assert read_yaml(f"{text}: {text}") == {text: text}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("0", 0), ("-7", -7), ("1_000", 1000), ("0.5", 0.5), ("~", None)],
)
def test_the_rest_is_read_as_ever(text: str, value: object) -> None:
    assert read_yaml(f"a: {text}") == {"a": value}


def test_every_shipped_file_reads_as_plain_yaml_does() -> None:
    root = Path(__file__).parents[2]
    files = [
        path
        for folder in ("suites", "gates", "hardware_profiles", "architectures")
        for path in (root / folder).glob("*.yaml")
    ]
    files += list((root / "harness").rglob("*.yaml"))
    assert len(files) > 20
    for path in files:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert str(load_yaml(path)) == str(plain), path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: " + "[" * 10_000, "nested deeper than 64"),
        ("a: " * 200, "not valid YAML"),
        ("a: &x [*x]", "an anchor that contains itself"),
        (BOMB, "more than 100,000 values"),
        ("x" * (MAX_BYTES + 1), "at most 1,000,000 are read"),
        ("a: !!int x", "cannot be read"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: 1", "a list or a mapping as a key"),
        ("- 1", "holds list at the top"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        load_yaml(Path(write(tmp_path, text)))
    assert told in str(error.value)


@pytest.mark.parametrize(
    "key", ["alpha: .inf", "alpha: .nan", "latency: [{max_ratio: .inf}]", "budgets: [{max_ms: .inf}]"]
)
def test_infinite_limits_are_no_limits(key: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"finite|less than"):
        load_rules(write(tmp_path, f"name: x\nsuccess: {{margin: 0.1}}\n{key}\n"))


KEYS = [
    "name",
    "description",
    "tasks",
    "protocol",
    "policies",
    "success",
    "margin",
    "alpha",
    "probe",
    "nfe",
    "preset",
    "world",
    "budgets",
    "latency",
    "looks",
    "<<",
    "memory",
    "suite",
    "init_states",
    "options",
    "kind",
    "per_task",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["stub", "lerobot", "all", "flow?a=1"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), cut=st.integers(0, 400), noise=st.text(max_size=4)
)
def test_no_file_ends_in_a_traceback(data: dict[str, Any], cut: int, noise: str, tmp_path: Path) -> None:
    told: list[str] = []
    text = yaml.safe_dump(data, allow_unicode=True)
    for content in (text, text[:cut] + noise + text[cut:]):
        path = tmp_path / "file.yaml"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        for reader in READERS:
            try:
                reader(str(path))
            except SpecError as error:
                told.append(str(error))
    assert all(str(tmp_path) in one for one in told)

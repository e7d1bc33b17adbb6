"""Attribution with real reruns: the stub world on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness
from harness.analysis.paired.compare import compare
from harness.cli.app import invoke
from harness.errors import UsageError
from harness.gate.rerun import flipped, plan_cells, read_recipe
from harness.spec import Suite
from harness.spec.resolve import parse

pytestmark = pytest.mark.usefixtures("gate_cluster")


def suite(factory: str, **options: Any) -> Suite:
    data = {
        "name": "rerun",
        "description": "attribution tests",
        "world": "stub",
        "protocol": {"max_steps": {"stub": 30}, "settle_steps": 0},
        "tasks": [{"suite": "stub", "tasks": [0, 1, 2, 3], "init_states": 25}],
        "policies": [{"kind": "python", "path": f"rerun_policies:{factory}", "options": options, "label": "pi"}],
    }
    return parse(Suite, data, "test")


def run(path: Path, factory: str, **options: Any) -> Path:
    harness.run(suite(factory, **options), out=path, workers=2)
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return run(tmp_path / "base", "good", mode="slow")


def attribute(base: Path, candidate: Path, out: Path) -> int:
    return invoke(["gate", str(base), str(candidate), "--attribute", "--out", str(out), "--workers", "2"])


def test_a_worse_checkpoint_is_found_behind_a_changed_but_harmless_runtime(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = run(tmp_path / "new", "bad", mode="other")
    assert attribute(base, candidate, tmp_path / "reruns") == 1
    printed = capsys.readouterr().out
    assert "checkpoint: Of" in printed
    assert "path rerun_policies:good → rerun_policies:bad" in printed
    assert "mode slow → other" in printed
    cells = sorted(path.name for path in (tmp_path / "reruns").iterdir())
    assert len(cells) == 4
    flips = len(flipped(compare(base, candidate).success[0]))
    assert {len(harness.read(tmp_path / "reruns" / name).episodes) for name in cells} == {flips}


def test_a_worse_runtime_is_found_with_one_checkpoint_in_two_cells(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = run(tmp_path / "new", "good", mode="fast")
    assert attribute(base, candidate, tmp_path / "reruns") == 1
    assert "runtime: Of" in capsys.readouterr().out
    assert len(list((tmp_path / "reruns").iterdir())) == 2


def test_flakes_are_called_chance_and_the_mixed_cells_are_not_run(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = run(tmp_path / "new", "bad", flaky=True)
    assert attribute(base, candidate, tmp_path / "reruns") == 1
    assert "chance: Only" in capsys.readouterr().out
    assert len(list((tmp_path / "reruns").iterdir())) == 2


def test_equal_sides_and_ledgers_without_a_recipe_are_refused(base: Path, make_ledger: Any) -> None:
    (success,) = compare(base, base).success
    recipe = read_recipe(success.base)
    with pytest.raises(UsageError, match="nothing to attribute"):
        plan_cells(recipe, recipe)
    (foreign,) = compare(make_ledger("a", ["+"]), make_ledger("b", ["-"])).success
    with pytest.raises(UsageError, match="does not say how pi was run"):
        read_recipe(foreign.base)

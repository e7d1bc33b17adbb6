"""What a release says of itself agrees."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import harness

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_comes_from_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "harness/__init__.py"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == harness.__version__


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert all(re.match(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)$", heading) for heading in headings[1:])


def test_workflows_and_templates_are_read_and_run_what_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text()), path
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {command.split()[1] for command in commands} == {"lint", "test", "docs", "wheel"}
    assert [each for each in commands if f"\n{each.split()[1]}:" not in makefile] == []


def test_nothing_names_a_package_registry() -> None:
    files = [ROOT / name for name in ("Makefile", "pyproject.toml", "requirements.lock", ".pre-commit-config.yaml")]
    for path in [*files, *(ROOT / ".github").rglob("*.yml"), *(ROOT / "scripts").rglob("*.sh")]:
        lines = [line for line in path.read_text().splitlines() if not line.strip().startswith(("entry:", "@!"))]
        assert not re.search(r"pypi\.org|pythonhosted|--(extra-)?index-url[ =]", "\n".join(lines)), path

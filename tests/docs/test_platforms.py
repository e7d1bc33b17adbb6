"""The check that the lock serves other machines: what is wrong with it is told, and what could not be checked."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_platforms", ROOT / "scripts" / "check_platforms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, version: str, *wheels: str) -> dict[str, Any]:
    return {"name": name, "version": version, "wheels": [{"url": f"https://index/{wheel}"} for wheel in wheels]}


@pytest.fixture
def lock(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("fast==1.0 \\\n    --hash=sha256:00\npure==2.0 \\\n    --hash=sha256:01\n")
    monkeypatch.setattr(script, "LOCK", path)
    return path


FAST = ("fast-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", "fast-1.0-cp312-cp312-manylinux_2_28_aarch64.whl")
PURE = package("pure", "2.0", "pure-2.0-py3-none-any.whl")


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ([package("fast", "1.0", *FAST), PURE], []),
        ([package("fast", "1.0", FAST[0]), PURE], ["fast 1.0 has no wheel and would be built from source"]),
        ([package("fast", "1.1", *FAST), PURE], ["fast is 1.1, the lock has 1.0"]),
        ([package("fast", "1.0", *FAST)], ["pure 2.0 of the lock is not needed"]),
        (
            [package("fast", "1.0", *FAST), PURE, package("more", "3", "more-3-py3-none-any.whl")],
            ["more 3 is not in the lock"],
        ),
        (
            [package("fast", "1.0", *FAST), package("pure", "2.0")],
            ["pure 2.0 has no wheel and would be built from source"],
        ),
    ],
)
def test_each_fault_of_the_lock_on_another_machine_is_told(
    script: ModuleType, lock: Path, monkeypatch: pytest.MonkeyPatch, packages: list[dict[str, Any]], said: list[str]
) -> None:
    monkeypatch.setattr(script, "resolve", lambda platform, extra: packages)
    assert script.faults("aarch64") == said
    monkeypatch.setattr(script, "MACHINES", {"aarch64": "aarch64-manylinux_2_35"})
    assert script.main([]) == bool(said)


def test_an_index_that_cannot_be_reached_is_said_and_fails_nothing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    assert script.main([]) == 0
    assert "was NOT checked" in capsys.readouterr().out


def test_the_table_of_the_documentation_names_every_extra(script: ModuleType) -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    for extra in script.EXTRAS:
        assert f"| {f'`{extra}`' if extra else 'none'} | " in page

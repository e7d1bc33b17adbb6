"""`--on` of the commands that judge one policy: they hand it on, and refuse several places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import invoke
from harness.errors import HarnessError


class Asked(HarnessError):
    """The run that a command asked for."""


@pytest.mark.parametrize("command", [["nightly", "--policy", "flow"], ["watch", ".", "--suite", "smoke", "--once"]])
@pytest.mark.parametrize(("on", "told"), [("a100-sxm-80gb,h200", "in one place"), ("a100-sxm-80g", "a100-sxm-80gb")])
def test_several_or_unknown_places_are_a_usage_error(command: list[str], on: str, told: str, capsys: Any) -> None:
    assert invoke([*command, "--on", on]) == 64
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_night_is_served_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(suite: Any, **options: Any) -> None:
        asked.append(suite)
        raise Asked("enough")

    monkeypatch.setattr("harness.evaluation.run", run)
    invoke(["nightly", "--policy", "flow", "--root", str(tmp_path), "--on", "h200"])
    assert [suite.on for suite in asked] == [("h200",)]


def test_a_watched_checkpoint_is_served_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def watcher(settings: Any, *arguments: Any, **options: Any) -> None:
        asked.append(settings)
        raise Asked("enough")

    monkeypatch.setattr("harness.watch.service.Watcher", watcher)
    out = str(tmp_path / "out")
    invoke(
        ["watch", str(tmp_path), "--suite", "smoke", "--once", "--policy-kind", "flow", "--on", "h200", "--out", out]
    )
    assert [yaml.safe_load(settings.evaluation.suite)["on"] for settings in asked] == [["h200"]]

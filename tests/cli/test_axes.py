"""Specification of a probe's axes on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import invoke
from harness.cli.values import parse_axes
from harness.errors import UsageError


def test_values_are_read_as_a_policy_reads_its_options_and_none_leaves_the_option_out() -> None:
    axes = parse_axes({"dtype": "none,bfloat16", "tf32": "true,false"}, ["cameras=1,2", "graphs=none,true"])
    assert axes == {
        "dtype": (None, "bfloat16"),
        "tf32": (True, False),
        "cameras": (1, 2),
        "graphs": (None, True),
    }


@pytest.mark.parametrize(
    ("named", "others", "said"),
    [
        ({}, ["graphs"], "write OPTION=VALUE,VALUE"),
        ({}, ["=1"], "write OPTION=VALUE,VALUE"),
        ({"dtype": "none"}, ["dtype=bfloat16"], "axis dtype is given twice"),
        ({"dtype": "none,,bfloat16"}, [], "axis dtype is 'none,,bfloat16'"),
    ],
)
def test_an_axis_that_cannot_be_read_says_how_to_write_it(named: dict[str, str], others: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_axes(named, others)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--vary", "graphs"], "write OPTION=VALUE,VALUE"),
        (["--prompt-words", "few"], "--prompt-words is 'few'"),
        (["--process-per", "node"], "process_per"),
        (["--components-every", "0"], "components_every"),
        (["--nfe", "0"], "--nfe has 0"),
        (["--min-samples", "9" * 30], "min_samples"),
    ],
)
def test_a_wrong_axis_is_one_message_and_leaves_nothing_behind(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(["probe", "-p", "flow", *argv, "--out", str(tmp_path / "out")]) == 64
    assert said in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_limit_below_the_least_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["probe", "-p", "flow", "--min-seconds", "1", "--max-seconds", "0.1", "--out", str(tmp_path / "L")]
    assert invoke(argv) == 64
    assert "max_seconds (0.1) is below min_seconds (1)" in capsys.readouterr().err
    assert not (tmp_path / "L").exists()

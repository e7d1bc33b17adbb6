"""Generated pages follow the code."""

from __future__ import annotations

import checks
import columns
import commands
import fences
import python_names

from harness.doctor import CHECKS
from harness.ledger.schema import TABLES
from harness.report.contents import AGGREGATES


def test_the_command_line_reference_holds_every_verb_option_and_example() -> None:
    text = commands.render()
    for name, command in commands.commands():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0].replace("\\|", "|")
        for parameter in command.params:
            said = [parameter.help or "", *(parameter.opts if parameter.param_type_name == "option" else [])]
            assert parameter.hidden or [each for each in said if each not in section] == [], f"{name} {parameter.name}"
        assert "[bold]" not in section
    assert "harness baseline set" in text
    assert "`failures`" in text


def test_the_ledger_reference_holds_every_column() -> None:
    text = columns.render()
    for table, schema in TABLES.items():
        section = text.split(f"### {table}\n")[1].split("\n### ")[0]
        assert [column.name for column in schema if f"| `{column.name}` |" not in section] == []


def test_the_ledger_reference_holds_every_column_of_the_summary() -> None:
    text = columns.render_aggregates()
    for name, aggregate in AGGREGATES.items():
        section = text.split(f"### summary/{name}.parquet\n")[1].split("\n### ")[0]
        assert [column.name for column in aggregate.columns if f"| `{column.name}` |" not in section] == []


def test_troubleshooting_holds_every_check_with_its_remedies() -> None:
    text = checks.render_machine()
    for check in CHECKS:
        assert f"### {check.__name__.replace('_', ' ')}\n" in text
    assert "pip install mujoco==3.3.2" in text
    assert "images upside down" in checks.render_policy()


def test_every_public_name_is_in_the_python_reference() -> None:
    text = python_names.render()
    assert ".. autofunction:: harness.run\n" in text
    assert ".. autoclass:: harness.EvalClient\n" in text


def test_attributes_for_tests_do_not_reach_the_site() -> None:
    text = '```bash parse="needs a GPU" title="a.sh"\nls\n```\n'
    assert fences.without_attributes(text) == '```bash title="a.sh"\nls\n```\n'
    (block,) = fences.blocks_of(text, "page.md")
    assert (block.language, block.reason, block.attributes["title"], block.body) == (
        "bash",
        "needs a GPU",
        "a.sh",
        "ls\n",
    )

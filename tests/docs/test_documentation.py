"""Every code block of the documentation works: it is run, or, where it says why not, parsed by the real parsers."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from command_lines import check, check_harness, simple_commands
from pages import FILES, PAGES, ROOT, Block, blocks, make_folder, name_of, run_python, run_shell

from harness.spec import load_suite
from harness.spec.rules import load_rules

ALL = [block for page in PAGES for block in blocks(page)]
PARSED = [block for block in ALL if block.reason is not None]
RUN = [page for page in PAGES if any(_.reason is None and _.language in ("bash", "python") for _ in blocks(page))]
RUNNERS = {"bash": run_shell, "python": run_python}
README = (ROOT / "README.md").read_text()


def test_the_readme_stays_one_read() -> None:
    assert len(README.splitlines()) <= 130
    table = README.split("## Best results against target")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) - 2 <= 12


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(targets) > 10
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_blocks_are_of_known_languages_and_say_why_they_are_not_run() -> None:
    assert {block.language for block in ALL} <= {"bash", "python", "text", *FILES}
    assert [block.place for block in PARSED if len(block.reason or "") < 8] == []


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    found = blocks(page)
    folder = make_folder(tmp_path, found)
    todo = [block for block in found if block.reason is None and "title" not in block.attributes]
    for language, group in itertools.groupby(todo, lambda block: block.language):
        if language in RUNNERS:
            RUNNERS[language](list(group), folder)


@pytest.mark.parametrize("block", PARSED, ids=lambda block: f"{block.place}: {block.reason}")
def test_a_block_that_is_not_run_is_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder(tmp_path, blocks(ROOT / block.page)))
    if block.language == "python":
        _require_names(ast.parse(block.body))
        return
    assert block.language == "bash"
    subprocess.run(["bash", "-n"], input=block.body, text=True, check=True)
    for words in simple_commands(block.body):
        check(words, ROOT)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_the_text_are_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_folder(tmp_path, blocks(page)))
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`((?:harness|python|make|pip) [^`]+)`", prose):
        if "…" not in code and not re.search(r"\b[A-Z]{4,}\b", code):
            check(simple_commands(code)[0], ROOT, mention=True)


@pytest.mark.parametrize("block", [_ for _ in ALL if _.language in FILES], ids=lambda block: block.place)
def test_a_file_that_a_page_says_to_write_is_accepted(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_folder(tmp_path, [block]))
    title = block.attributes["title"]
    if title.startswith("suites/"):
        load_suite(title)
    elif title.startswith("gates/"):
        load_rules(title)
    elif block.language == "yaml":
        manifest = yaml.safe_load(block.body)
        if entrypoint := manifest.get("spec", {}).get("entrypoint"):
            check_harness(simple_commands(entrypoint)[0][1:])


def _require_names(tree: ast.Module) -> None:
    """Every import works, and every `harness.NAME` exists."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "harness":
            assert hasattr(importlib.import_module("harness"), node.attr), ast.unparse(node)

"""Command lines of the documentation, checked by the parsers that would read them, without running anything."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from harness.cli.app import app
from harness.policies.registry import POLICIES
from harness.spec import load_suite, parse_policy
from harness.spec.architecture import load_architecture
from harness.spec.profile import load_profile
from harness.spec.rules import load_rules

PLAIN = frozenset(
    {"cd", "source", "sudo", "ssh", "ray", "git", "export", "wait", "set", "head", "flock", "mail", "pytest"}
) | {"vla-eval", "srun", "scontrol", "kubectl", "docker", "uv"}
"""Commands that are others': only their place in a shell's grammar is checked."""
BUILDS = frozenset({"run", "probe", "serve", "nightly", "doctor"})
"""Verbs whose --policy is built; elsewhere it is a name in a ledger."""
OPERATORS = frozenset({"&&", "||", "|", ";", "&", "(", ")"})


def simple_commands(script: str) -> list[list[str]]:
    """The commands of a script as lists of words, without comments, operators and assignments."""
    found: list[list[str]] = [[]]
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();&|<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        for word in lexer:
            if word in OPERATORS:
                found.append([])
            elif found[-1] or not re.match(r"^[A-Za-z_]\w*=", word):
                found[-1].append(word)
        found.append([])
    return [words for words in found if words]


def check(words: list[str], root: Path, *, mention: bool = False) -> None:
    """Refuse a command that does not exist, or that its own parser refuses.

    Args:
        words: The command.
        root: The repository.
        mention: Whether a verb may stand alone, without the arguments that it needs.

    Raises:
        AssertionError: Names what is wrong.
        HarnessError: A suite, policy, profile or rules that do not exist.
    """
    if "harness" in words:
        check_harness(words[words.index("harness") + 1 :], mention=mention)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE)
        unknown = set(words[1:]) - set(targets)
        assert not unknown, f"make has no target {sorted(unknown)}"
    elif words[0] == "python" and len(words) > 1 and not words[1].startswith("-"):
        check_script(words[1:], root)
    elif words[0] == "pip" or words[:2] == ["uv", "pip"]:
        extras = re.findall(r"vla-harness\[([a-z,]+)\]", " ".join(words))
        known = re.findall(r"^([a-z]+) = \[", (root / "pyproject.toml").read_text(), re.MULTILINE)
        assert all(extra in known for each in extras for extra in each.split(",")), f"no such extra: {extras}"
    else:
        assert words[0] in PLAIN, f"unknown command {words[0]!r}; if it is another program's, list it in PLAIN"


def check_script(words: list[str], root: Path) -> None:
    """A script of this repository: it exists, and its options stand in its source."""
    path = root / words[0]
    assert path.exists(), f"no script {words[0]}"
    source = path.read_text()
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in source or option.removeprefix("--").replace("-", "_") in source, f"{words[0]} {option}"


def check_harness(words: list[str], *, mention: bool = False) -> None:
    """Parse arguments and options as `harness` would, and look names up."""
    command: Any = typer.main.get_command(app)
    name = "harness"
    while words and hasattr(command, "commands"):
        verb = words[0]
        if verb in ("--help", "--version", "--install-completion"):
            return
        assert verb in command.commands, f"{name} has no verb {verb!r}"
        command, name, words = command.commands[verb], f"{name} {verb}", words[1:]
    if mention and (not words or words[-1].startswith("--")):
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(words) <= known, f"{name} has no {sorted(set(words) - known)}"
    elif "--help" not in words:
        given = command.make_context(name, list(words)).params
        _look_up(given, builds=name.removeprefix("harness ") in BUILDS)


def _look_up(given: dict[str, Any], *, builds: bool) -> None:
    if (suite := given.get("suite")) is not None:
        load_suite(suite)
    policies = (given.get("policy") or []) if builds else []
    for policy in [policies] if isinstance(policies, str) else policies:
        if "$" not in policy:
            assert parse_policy(policy).kind in POLICIES.kinds(), policy
    for names, load in ((given.get("to"), load_profile), (given.get("architecture"), load_architecture)):
        for name in (names or "").split(","):
            if name:
                load(name)
    if (rules := given.get("rules")) is not None:
        load_rules(rules)
    if (hardware := given.get("hardware")) not in (None, "same", "any"):
        load_profile(hardware)

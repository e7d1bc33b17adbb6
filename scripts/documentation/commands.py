"""The command line reference, from the same objects that print `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import typer

from harness.cli.app import app

MARKUP = re.compile(r"\[/?bold\]")


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb, and every verb of a group, as ("harness run", command)."""
    yield from _walk("harness", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    subcommands = getattr(command, "commands", {})
    if not subcommands:
        yield name, command
    for verb, subcommand in subcommands.items():
        yield from _walk(f"{name} {verb}", subcommand)


def render() -> str:
    """The reference as Markdown: one section a verb, with usage, arguments, options and examples."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    shown = [each for each in command.params if not each.hidden]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    parts = [f"## {name}", _prose(command.help), f"```text\n{_usage(command, context)}\n```"]
    for title, group in (("argument", arguments), ("option", options)):
        if group:
            rows = "\n".join(_row(each, context) for each in group)
            parts.append(f"| {title} | what it means | default |\n| :--- | :--- | :--- |\n{rows}")
    if command.epilog:
        lines = [line.strip() for line in MARKUP.sub("", command.epilog).splitlines() if line.strip() != "Examples"]
        parts.append("```bash\n" + "\n".join(line for line in lines if line) + "\n```")
    return "\n\n".join(part for part in parts if part)


def _usage(command: Any, context: Any) -> str:
    return str(command.get_usage(context)).removeprefix("Usage: ").strip()


def _row(parameter: Any, context: Any) -> str:
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
    spelled = ", ".join(f"`{each}`" for each in [*names, *parameter.secondary_opts])
    return f"| {spelled} | {_cell(parameter.help or '')}{_kind(parameter)} | {_default(parameter, context)} |"


def _kind(parameter: Any) -> str:
    """The choices of an enum or a Literal, and the bounds of a number."""
    choices = _choices(getattr(parameter.type_descriptor, "annotation", None))
    bounds = [
        f"{word} {value}" for word, value in (("from", parameter.min), ("to", parameter.max)) if value is not None
    ]
    said = [", ".join(f"`{each}`" for each in choices), " ".join(bounds)]
    return "".join(f" ({each})" for each in said if each)


def _choices(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(each.value) for each in annotation]
    options = (annotation, *get_args(annotation))
    return [str(value) for each in options if get_origin(each) is Literal for value in get_args(each)]


def _default(parameter: Any, context: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return _cell(parameter.show_default)
    value = parameter.get_default(context, call=False)
    value = getattr(value, "value", value)
    return "" if value in (None, False, (), []) or callable(value) else f"`{_cell(str(value))}`"


def _prose(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", (text or "").strip())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""What the doctor checks, from the checks themselves: their docstrings, and the remedies in their source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping

from harness.doctor import CHECKS
from harness.doctor.faults import FAULTS
from harness.doctor.upstream import UPSTREAM


def render_machine() -> str:
    """One section a check of the machine: what it finds, and each finding with its remedy."""
    return "\n\n".join(_section(check) for check in CHECKS)


def render_policy() -> str:
    """A table of the mistakes that `harness doctor --policy` recognises."""
    rows = [f"| {fault.cause} | {fault.remedy} |" for fault in FAULTS.values()]
    return "| what is wrong | what to do |\n| :--- | :--- |\n" + "\n".join(rows)


def render_upstream() -> str:
    """A table of the known faults of the packages beneath, with their threads."""
    rows = [
        f"| {issue.package} {issue.affected or 'every version'} | {issue.symptom} | {_threads(issue.thread)} | "
        f"{issue.state} | {issue.remedy} |"
        for issue in UPSTREAM
    ]
    head = "| versions | what goes wrong | thread | state | what to do |\n| :--- | :--- | :--- | :--- | :--- |\n"
    return head + "\n".join(rows)


def _threads(named: str) -> str:
    links = []
    for thread in named.split(", "):
        repository, _, number = thread.partition("#")
        links.append(f"[{repository.partition('/')[2]}#{number}](https://github.com/{repository}/issues/{number})")
    return ", ".join(links)


def _section(check: Callable[..., object]) -> str:
    title = check.__name__.replace("_", " ")
    about = textwrap.dedent(inspect.getdoc(check) or "")
    rows = [f"| {status} | {found} | {remedy} |" for status, found, remedy in _findings(check)]
    table = "| | found | what to do |\n| :--- | :--- | :--- |\n" + "\n".join(rows) if rows else ""
    return "\n\n".join(part for part in (f"### {title}", about, table) if part)


def _findings(check: Callable[..., object]) -> Iterator[tuple[str, str, str]]:
    """The calls of `Check(…, Status.WARN or FAIL, found, remedy)` in a check's source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check":
            status = node.args[1] if len(node.args) > 1 else None
            if isinstance(status, ast.Attribute) and status.attr in ("WARN", "FAIL"):
                found, remedy = (_words(node.args[at], named) if len(node.args) > at else "" for at in (2, 3))
                yield status.attr.lower(), found, f"`{remedy}`" if _is_command(remedy) else remedy


def _words(node: ast.expr, named: Mapping[str, ast.expr]) -> str:
    """A message as a reader sees it, with … for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("|", "\\|")
    if isinstance(node, ast.JoinedStr):
        return "".join(_words(part, named) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _words(node.left, named) + _words(node.right, named)
    if isinstance(node, ast.Name) and isinstance(named.get(node.id), (ast.Constant, ast.JoinedStr)):
        return _words(named[node.id], named)
    return "…"


def _is_command(remedy: str) -> bool:
    return remedy.startswith(("pip ", "apt-get ", "ulimit ", "harness ", "uv "))

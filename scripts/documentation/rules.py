"""The keys of a gate's rules, from the models that read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from harness.spec.rules import GateRules


def render() -> str:
    """One table of the keys of a rules file, and one for each rule that has keys of its own."""
    return "\n\n".join(_tables(GateRules, ""))


def _tables(model: type[BaseModel], name: str) -> Iterator[str]:
    title = f"## {name}\n\n{_one_line(model.__doc__)}\n\n" if name else ""
    rows, inner = [], []
    for key, field in model.model_fields.items():
        own = _model_in(field.annotation)
        if own is not None:
            inner.append((f"`{key}`", own))
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        rows.append(f"| `{key}` | {default} | {_one_line(field.description)} |")
    yield title + "| key | default | what it is |\n| :--- | :--- | :--- |\n" + "\n".join(rows)
    for title_of, own in inner:
        yield from _tables(own, title_of)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds: itself, or one of several, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "as below"
    return "unset" if value is None or value in ((), "") else f"`{value}`"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")

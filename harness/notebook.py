"""What a notebook shows of a ledger and of what is made of it."""

from __future__ import annotations

from importlib import import_module


class ShownInNotebooks:
    """An object that notebooks show as HTML.

    `harness.report` renders it, and is imported only when a notebook asks: what reads and judges knows of no renderer.
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        text: str = import_module("harness.report.notebook").html_of(self)
        return text

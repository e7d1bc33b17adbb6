"""YAML read as it is written: no key twice, no `010` that becomes 8, no `on` that becomes true; bounded in size."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from harness.strict_json import MAX_INTEGER

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_NODES = 100_000
"""Values of one file, those that anchors repeat counted as often as they are repeated."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)")
_BOOLEAN = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_AS_WRITTEN = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
"""What YAML 1.1 finds in `on`, `no` and `2026-01-01`, where people wrote text."""


class StrictLoader(yaml.SafeLoader):
    """`yaml.SafeLoader` without the readings of YAML 1.1 that nobody expects."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, as deep as the limit allows."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_data(self) -> Any:
        """The document's value.

        Raises:
            yaml.YAMLError: No YAML, or too much of it.
        """
        node = self.get_single_node()
        if node is None:
            return None
        _count(node, {}, set())
        return self.construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, in which each key stands once."""
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            found = self.construct_object(key, deep=True)
            if not isinstance(found, Hashable):
                raise yaml.MarkedYAMLError(problem="a list or a mapping as a key", problem_mark=key.start_mark)
            if found in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {found!r} stands in line {lines[found]} and in line {line}; keep one of the two"
                )
            lines[found] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer that means what it looks like."""
        if not _INTEGER.fullmatch(node.value):
            value = super().construct_yaml_int(node)
            raise yaml.MarkedYAMLError(
                problem=f"{node.value} is {value} in YAML; write {value}, or '{node.value}' in quotes for text",
                problem_mark=node.start_mark,
            )
        value = int(super().construct_yaml_int(node))
        if abs(value) > MAX_INTEGER:
            # Whoever shows it in decimal digits would fail, or take long.
            raise yaml.MarkedYAMLError(problem="a whole number of more than 64 bits", problem_mark=node.start_mark)
        return value

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A float that means what it looks like."""
        value = float(super().construct_yaml_float(node))
        if ":" in node.value:
            raise yaml.MarkedYAMLError(
                problem=f"{node.value} is {value:g} in YAML; write {value:g}, or '{node.value}' in quotes for text",
                problem_mark=node.start_mark,
            )
        return value


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)
StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _AS_WRITTEN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOLEAN, list("tTfF"))


def read_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        yaml.YAMLError: No YAML, a key twice, a number that YAML reads as another one, too long, or too deep.
    """
    if len(text) > MAX_BYTES:
        raise yaml.YAMLError(f"{len(text):,} characters; at most {MAX_BYTES:,} are read")
    loader = StrictLoader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:  # values of explicit tags (`!!int x`) fail inside PyYAML in many ways
        raise yaml.YAMLError(f"a value cannot be read ({type(error).__name__}: {error})") from error
    finally:
        loader.dispose()


def _count(node: yaml.Node, sizes: dict[int, int], within: set[int]) -> int:
    """Values below a node, with what anchors repeat."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in within:
        raise yaml.MarkedYAMLError(problem="an anchor that contains itself", problem_mark=node.start_mark)
    if id(node) not in sizes:
        within.add(id(node))
        children = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        sizes[id(node)] = 1 + sum(_count(child, sizes, within) for child in children)
        within.discard(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=node.start_mark)
    return sizes[id(node)]

"""A value as it was written: JSON's kinds of values, each with its line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from rerank_api.fields import Path
from rerank_api.scalars import Value


@dataclass(frozen=True)
class Scalar:
    """A value that holds no others."""

    line: int
    value: Value
    text: str
    quoted: bool


@dataclass(frozen=True)
class Items:
    """A list."""

    line: int
    items: "tuple[Node, ...]"


@dataclass(frozen=True)
class Entry:
    """A field: the line of its key, and its value."""

    line: int
    node: "Node"


@dataclass(frozen=True)
class Fields:
    """A mapping."""

    line: int
    entries: Mapping[str, Entry]


Node: TypeAlias = Scalar | Items | Fields


def plain(node: Node) -> Any:
    """Return the JSON value of a tree."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key: plain(entry.node) for key, entry in node.entries.items()}


def children(node: Node) -> Iterator[tuple[str | int, Node]]:
    """Yield the fields or the items of a tree with their keys or positions."""
    if isinstance(node, Items):
        yield from enumerate(node.items)
    elif isinstance(node, Fields):
        yield from ((key, entry.node) for key, entry in node.entries.items())


def find(node: Node, path: Path) -> tuple[int, Node | None]:
    """Return the line of a field and its value; for an absent one, its nearest holder's line and None."""
    line = node.line
    for step in path:
        if isinstance(node, Fields) and isinstance(step, str) and step in node.entries:
            line, node = node.entries[step].line, node.entries[step].node
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            line = node.line
        else:
            return line, None
    return line, node

"""Reads YAML text into a tree that knows its lines, within bounds.

JSON is read as the YAML that it nearly is. Aliases and `<<` work as in kubectl, but no text may unfold into
more than `MAX_VALUES` values, nest deeper than `MAX_DEPTH`, or name itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from rerank_api.fields import Path
from rerank_api.scalars import is_not_finite, resolve
from rerank_api.tree import Entry, Fields, Items, Node, Scalar

MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 64

_KNOWN_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq"))
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_PAIR: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB]\w\w)\\u([dD][c-fC-F]\w\w)")


@dataclass(frozen=True)
class Fault:
    """Something wrong with the text itself."""

    line: int
    path: Path
    message: str


@dataclass(frozen=True)
class Composed:
    """The documents of a text, empty ones left out, and what is wrong with it."""

    documents: tuple[Node, ...]
    faults: tuple[Fault, ...]


class _UnreadableError(Exception):
    """The text cannot be read any further."""

    def __init__(self, line: int, path: Path, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(line, path, message)


@dataclass
class _State:
    events: Iterator[Any]
    faults: list[Fault] = field(default_factory=list)
    anchors: dict[str, "_Measured | None"] = field(default_factory=dict)
    """None while the anchor's own value is being read."""
    values: int = 0


@dataclass(frozen=True)
class _Measured:
    node: Node
    values: int
    height: int


def compose(text: str) -> Composed:
    """Read YAML or JSON text. Never raises: what is wrong is in the faults."""
    state = _State(iter(()))
    documents: list[Node] = []
    try:
        state.events = iter(yaml.parse(_joined_surrogates(text), Loader=_loader()))
        for event in state.events:
            if isinstance(event, yaml.DocumentStartEvent):
                state.anchors.clear()
                root = _node(state, next(state.events), (), MAX_DEPTH).node
                if not (isinstance(root, Scalar) and root.value is None):
                    documents.append(root)
    except _UnreadableError as stop:
        state.faults.append(stop.fault)
    except yaml.MarkedYAMLError as error:
        state.faults.append(_syntax_fault(error))
    except yaml.reader.ReaderError as error:
        line = text.encode("utf-8", "replace")[: error.position].count(b"\n") + 1
        state.faults.append(Fault(line, (), "A control character stands here: remove it"))
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        state.faults.append(Fault(line, (), "A character here is no Unicode text: save the file as UTF-8"))
    return Composed(tuple(documents), tuple(state.faults))


def _loader() -> Any:
    # libyaml where PyYAML has it: forty times as fast, and the parser that kubectl's was ported from.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _joined_surrogates(text: str) -> str:
    """Replace JSON's pairs of UTF-16 escapes, which YAML does not know, by the character they stand for."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return _SURROGATE_PAIR.sub(
        lambda pair: (
            pair[1]
            + (chr(int(pair[2], 16)) + chr(int(pair[3], 16)))
            .encode("utf-16", "surrogatepass")
            .decode("utf-16")
        ),
        text,
    )


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or "it ends too early"
    if "cannot start any token" in problem:
        problem = "a tab or a reserved character begins a value: indent with spaces, or quote the value"
    elif "mapping values are not allowed" in problem:
        problem = "a second ': ' stands where a value goes: quote the value, or check the indentation"
    return Fault(line, (), f"This is not valid YAML: {problem}")


def _node(state: _State, event: Any, path: Path, depth: int) -> _Measured:
    line = event.start_mark.line + 1
    if depth == 0:
        raise _UnreadableError(line, (), f"Values nest deeper than {MAX_DEPTH} levels: flatten them")
    if isinstance(event, yaml.AliasEvent):
        measured = _aliased(state, str(event.anchor), line, path, depth)
    else:
        _check_tag(state, event, line, path)
        if event.anchor is not None:
            state.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            measured = _Measured(_scalar(state, event, line, path), 1, 1)
        elif isinstance(event, yaml.SequenceStartEvent):
            measured = _items(state, line, path, depth)
        else:
            measured = _fields(state, line, path, depth)
        if event.anchor is not None:
            state.anchors[event.anchor] = measured
    return measured


def _count(state: _State, values: int, line: int) -> None:
    state.values += values
    if state.values > MAX_VALUES:
        raise _UnreadableError(
            line, (), f"This unfolds into more than {MAX_VALUES} values: split the file, or drop aliases"
        )


def _aliased(state: _State, anchor: str, line: int, path: Path, depth: int) -> _Measured:
    if anchor not in state.anchors:
        raise _UnreadableError(
            line, path, f"*{anchor} refers to nothing: put &{anchor} before the value that it repeats"
        )
    measured = state.anchors[anchor]
    if measured is None:
        raise _UnreadableError(line, path, f"*{anchor} refers to what it is part of: write the value out")
    if measured.height > depth:
        raise _UnreadableError(line, path, f"Values nest deeper than {MAX_DEPTH} levels: flatten them")
    _count(state, measured.values, line)
    return measured


def _check_tag(state: _State, event: Any, line: int, path: Path) -> None:
    tag = event.tag
    if tag is not None and tag != "!" and tag not in _KNOWN_TAGS:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        state.faults.append(Fault(line, path, f"The tag {shown} has no meaning here: remove it"))


def _scalar(state: _State, event: yaml.ScalarEvent, line: int, path: Path) -> Scalar:
    _count(state, 1, line)
    quoted = not event.implicit[0]
    if not quoted and is_not_finite(event.value):
        state.faults.append(Fault(line, path, f"{event.value} is no finite number: write a finite one"))
    if "\x00" in event.value:
        state.faults.append(Fault(line, path, "A zero character stands in this text: remove it"))
    if _SURROGATE.search(event.value):
        state.faults.append(
            Fault(line, path, "Half of a UTF-16 pair is no character: write the whole character")
        )
    return Scalar(line, event.value if quoted else resolve(event.value), event.value, quoted)


def _items(state: _State, line: int, path: Path, depth: int) -> _Measured:
    _count(state, 1, line)
    found: list[_Measured] = []
    while not isinstance(event := next(state.events), yaml.SequenceEndEvent):
        found.append(_node(state, event, (*path, len(found)), depth - 1))
    return _Measured(
        Items(line, tuple(item.node for item in found)),
        1 + sum(item.values for item in found),
        1 + max((item.height for item in found), default=0),
    )


def _fields(state: _State, line: int, path: Path, depth: int) -> _Measured:
    _count(state, 1, line)
    entries: dict[str, Entry] = {}
    merged: dict[str, Entry] = {}
    values, height = 1, 0
    while not isinstance(event := next(state.events), yaml.MappingEndEvent):
        key_line = event.start_mark.line + 1
        key = _key(event, key_line, path)
        value = _node(state, next(state.events), (*path, key), depth - 1)
        values, height = values + value.values, max(height, value.height)
        if key == "<<" and event.implicit[0]:
            merged |= _merged(value.node, key_line, path)
        elif key in entries:
            first = entries[key].line
            state.faults.append(
                Fault(key_line, (*path, key), f"This field stands twice, first in line {first}: remove one")
            )
        else:
            entries[key] = Entry(key_line, value.node)
    return _Measured(Fields(line, {**merged, **entries}), values, 1 + height)


def _key(event: Any, line: int, path: Path) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise _UnreadableError(
            line, path, "A list, a mapping or an alias cannot be the name of a field: write plain text"
        )
    if event.implicit[0] and not isinstance(resolve(event.value), str):
        raise _UnreadableError(
            line, path, f"The field name {event.value!r} is no text to YAML: put it in quotes"
        )
    if "\x00" in event.value:
        raise _UnreadableError(line, path, "A zero character stands in the name of a field: remove it")
    text: str = event.value
    return text


def _merged(node: Node, line: int, path: Path) -> dict[str, Entry]:
    """Return what `<<` brings in: of several mappings, the first that has a field wins."""
    sources = node.items if isinstance(node, Items) else (node,)
    merged: dict[str, Entry] = {}
    for source in reversed(sources):
        if not isinstance(source, Fields):
            raise _UnreadableError(
                line, path, "<< merges mappings alone: give it an alias of a mapping, e.g. <<: *common"
            )
        merged |= source.entries
    return merged

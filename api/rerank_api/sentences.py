"""The shape of a manifest against its schema, with a sentence for everything that does not fit."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rerank_api.fields import Path, show
from rerank_api.resource import ObjectMeta
from rerank_api.scalars import is_surprising
from rerank_api.schema import INT_OR_STRING, Schema, child_of, schema_at
from rerank_api.tree import Fields, Items, Node, Scalar, children, find

_METADATA_FIELDS: Final = tuple(field.alias or name for name, field in ObjectMeta.model_fields.items())

_WANTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list, with - before each item",
    "list_type": "a list, with - before each item",
    "dict_type": "fields, as name: value",
    "mapping_type": "fields, as name: value",
    "model_type": "fields, as name: value",
    "model_attributes_type": "fields, as name: value",
}
"""pydantic's error types that mean "another type", and what to write."""


@dataclass(frozen=True)
class Misfit:
    """A value that does not fit the schema."""

    path: Path
    message: str


@dataclass(frozen=True)
class _Case:
    """One of pydantic's findings with what there is to say about it."""

    error: ErrorDetails
    path: Path
    schema: Schema
    root: Schema
    node: Node | None

    @property
    def limit(self) -> Any:
        """The bound that the value is beyond."""
        context = self.error.get("ctx", {})
        bounds = ("max_length", "min_length", "ge", "gt", "le", "lt")
        return next(context[bound] for bound in bounds if bound in context)

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))


def misfits(root: Schema, tree: Node, error: ValidationError | None) -> tuple[Misfit, ...]:
    """Return what pydantic found, and what YAML's ways with words hide from it, once a field."""
    found = {misfit.path: misfit for misfit in _surprises(root, tree, ())}
    for detail in [] if error is None else error.errors(include_url=False):
        path: Path = tuple(detail["loc"])
        if path not in found:
            case = _Case(detail, path, schema_at(root, path) or {}, root, find(tree, path)[1])
            found[path] = Misfit(path, _SENTENCES.get(detail["type"], _unknown)(case))
    return tuple(found.values())


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the question with the closest known word, or nothing when none is close."""
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.55)
    return f", did you mean {by_lower_case[close[0]]}?" if close else ""


def _surprises(schema: Schema, node: Node, path: Path) -> Iterator[Misfit]:
    """Find, outside of free-form parts, what is no value and what is not the number that it looks like."""
    if isinstance(node, Scalar) and ("type" in schema or INT_OR_STRING in schema):
        if node.value is None:
            yield Misfit(path, "has no value: write one, or remove the line")
        elif schema.get("type") != "string" and not node.quoted and is_surprising(node.text):
            meaning = str(node.value).lower()
            yield Misfit(path, f"{node.text} means {meaning} to YAML: write {meaning}")
    for step, item in children(node):
        if (child := child_of(schema, step)) is not None:
            yield from _surprises(child, item, (*path, step))


def _unknown_field(case: _Case) -> str:
    *parent, name = case.path
    known = (
        _METADATA_FIELDS
        if parent == ["metadata"]
        else tuple((schema_at(case.root, tuple(parent)) or {}).get("properties", {}))
    )
    question = did_you_mean(str(name), known)
    holder = show(tuple(parent)) or "the manifest"
    advice = question or f": write one of {', '.join(sorted(known))}, or remove it"
    return f"is not a field of {holder}{advice}"


def _missing(case: _Case) -> str:
    if case.path in {("metadata",), ("metadata", "name")}:
        return "is missing: name the resource, e.g. metadata: {name: bge-reranker-v2-m3}"
    return f"is missing: add it. {case.description}"


def _other_type(case: _Case) -> str:
    wanted = _WANTED[case.error["type"]]
    if isinstance(case.node, Scalar):
        if wanted == "text" and not case.node.quoted:
            what = "a truth value" if isinstance(case.node.value, bool) else "a number"
            return f'{case.node.text} without quotes is {what} to YAML: write "{case.node.text}"'
        return f"{_shown(case)} is not what goes here: write {wanted}. {case.description}".rstrip()
    what = {Items: "a list", Fields: "a mapping"}.get(type(case.node), "a value")
    return f"This is {what}: write {wanted}. {case.description}".rstrip()


def _not_listed(case: _Case) -> str:
    choices = [str(choice) for choice in case.schema.get("enum", ())]
    value = case.node.text if isinstance(case.node, Scalar) else ""
    return f"{_shown(case)} is not one of {', '.join(choices)}{did_you_mean(value, choices)}"


def _too_short(case: _Case) -> str:
    return f"is empty: write one. {case.description}"


def _too_few(case: _Case) -> str:
    return f"has too few items: give at least {case.limit}. {case.description}"


def _too_long(case: _Case) -> str:
    return f"is longer than {case.limit} characters: shorten it"


def _too_many(case: _Case) -> str:
    return f"has more than {case.limit} items: remove some"


def _too_low(case: _Case) -> str:
    return f"{_shown(case)} is too low: write at least {case.limit}"


def _quantity(case: _Case) -> str:
    return f"{_shown(case)} is not a quantity: write a whole number, or text such as 500m or 16Gi"


def _unknown(case: _Case) -> str:
    return f"{_shown(case)} does not fit here. {case.description}".rstrip()


def _shown(case: _Case) -> str:
    if isinstance(case.node, Scalar):
        text = case.node.text if len(case.node.text) <= 60 else case.node.text[:57] + "..."
        return repr(text) if case.node.quoted or isinstance(case.node.value, str) else text
    return "This value"


_SENTENCES: Final[Mapping[str, Callable[[_Case], str]]] = {
    **dict.fromkeys(_WANTED, _other_type),
    "extra_forbidden": _unknown_field,
    "missing": _missing,
    "literal_error": _not_listed,
    "enum": _not_listed,
    "string_too_short": _too_short,
    "string_too_long": _too_long,
    "too_short": _too_few,
    "too_long": _too_many,
    "greater_than_equal": _too_low,
    "quantity": _quantity,
}

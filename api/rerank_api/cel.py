"""Evaluates the rules that a schema carries, as an API server would.

Language: https://kubernetes.io/docs/reference/using-api/cel/
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cel_expr_python import cel

from rerank_api.fields import Path, parse, show
from rerank_api.rules import KEYWORD
from rerank_api.schema import Schema, child_of

KEYWORDS: Final = frozenset(
    {
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    }
)
"""Properties of these names are written `__name__` in CEL."""

_READ: Final = re.compile(r"\bself\.(\w+)")


@dataclass(frozen=True)
class Violation:
    """A rule that a value breaks."""

    path: Path
    """The field to blame."""
    message: str


class RuleError(Exception):
    """A rule gave neither true nor false: the rule is at fault, or the value was not what the schema says."""


def violations(schema: Schema, value: Any, faulty: frozenset[Path] = frozenset()) -> Iterator[Violation]:
    """Yield each rule of `schema` that `value`, a JSON value with its defaults, breaks.

    `faulty` are paths where the value is known not to fit the schema; rules about those are passed over.
    """
    return _walk(schema, value, (), faulty)


def _walk(schema: Schema, value: Any, path: Path, faulty: frozenset[Path]) -> Iterator[Violation]:
    if rules := schema.get(KEYWORD):
        this = _escaped(schema, value)
        for rule in rules:
            blamed = path + parse(rule.get("fieldPath", "").removeprefix("."))
            read = {(*path, field) for field in _READ.findall(rule["rule"])}
            if _any_under(blamed, faulty) or read & faulty:
                continue
            if _is_broken(rule["rule"], this, path, faulty):
                yield Violation(blamed, _sentence(rule, this))
    children: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for step, item in children:
        if (child := child_of(schema, step)) is not None:
            yield from _walk(child, item, (*path, step), faulty)


def _is_broken(rule: str, this: Any, path: Path, faulty: frozenset[Path]) -> bool:
    holds = _compiled(rule).eval(data={"self": this})
    if holds.type() == cel.Type.BOOL:
        return not holds.value()
    if _any_under(path, faulty):
        return False
    raise RuleError(f"{rule} at {show(path) or 'the root'}: {holds.value()}")


def _sentence(rule: Mapping[str, str], this: Any) -> str:
    """Return the sentence that an API server would choose: the rule's wording if it is one line of text."""
    if wording := rule.get("messageExpression"):
        sentence = _compiled(wording).eval(data={"self": this})
        if sentence.type() == cel.Type.STRING:
            text: str = sentence.value()
            if text.strip() and "\n" not in text:
                return text
    return rule["message"]


@cache
def _compiled(source: str) -> Any:
    return _environment().compile(source)


@cache
def _environment() -> Any:
    return cel.NewEnv(variables={"self": cel.Type.DYN})


def _any_under(path: Path, faulty: frozenset[Path]) -> bool:
    return any(fault[: len(path)] == path for fault in faulty)


def _escaped(schema: Schema, value: Any) -> Any:
    """Rename declared properties as CEL sees them; the keys of maps stay as they are."""
    if isinstance(value, Mapping):
        declared = schema.get("properties", {})
        return {
            f"__{name}__" if name in declared and name in KEYWORDS else name: _escaped(
                child_of(schema, name) or {}, item
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_escaped(schema.get("items", {}), item) for item in value]
    return value

"""Refuses what a part does not act on: a field that a user set is obeyed or refused, never ignored."""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from rerank_api.fields import Path, parse, show
from rerank_api.key_secret import KeySecret
from rerank_api.manifests import Document
from rerank_api.problems import Problem
from rerank_api.schema import Schema, child_of, structural_schema, with_defaults
from rerank_api.tree import Node, children, plain

NO_SENTENCES: Final[Mapping[str, str]] = MappingProxyType({})
REMOVE: Final = "remove it"


def refusals(
    document: Document,
    acted_on: Collection[str],
    layer: str,
    sentences: Mapping[str, str] = NO_SENTENCES,
    advice: str = REMOVE,
) -> tuple[Problem, ...]:
    """Return a problem for each field of `spec` that the user set and that a layer does not act on.

    `acted_on` are paths without positions in lists, such as `spec.names` or `spec.template.env.value`; each
    stands for all that is under it. `layer` is the subject of the sentence, such as `the local runner`.
    `sentences` replace the sentence for a path and what is under it. A field that was written with its
    default value asks for nothing, and passes.
    """
    if isinstance(document.resource, KeySecret):
        return ()  # Kubernetes' own: what else is in it is not for us
    wanted = tuple(parse(field) for field in acted_on)
    own = {parse(field): sentence for field, sentence in sentences.items()}
    schema = structural_schema(type(document.resource))
    spec = document.tree.entries["spec"].node
    return tuple(
        document.problem(
            show(path), _own_sentence(own, path) or f"{layer} does not act on this field: {advice}"
        )
        for path in _ignored(spec, schema["properties"]["spec"], ("spec",), wanted)
    )


def _ignored(node: Node, schema: Schema | None, path: Path, wanted: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the shortest paths that lead to nothing acted on."""
    words = _words(path)
    if any(words[: len(field)] == field for field in wanted):
        return
    if any(field[: len(words)] == words for field in wanted):
        for step, item in children(node):
            yield from _ignored(
                item, None if schema is None else child_of(schema, step), (*path, step), wanted
            )
    elif not _is_default(node, schema):
        yield path


def _words(path: Path) -> Path:
    return tuple(step for step in path if isinstance(step, str))


def _is_default(node: Node, schema: Schema | None) -> bool:
    if schema is None or "default" not in schema:
        return False
    return bool(with_defaults(schema, plain(node)) == with_defaults(schema, schema["default"]))


def _own_sentence(own: Mapping[Path, str], path: Path) -> str | None:
    words = _words(path)
    return next((own[words[:length]] for length in range(len(words), 0, -1) if words[:length] in own), None)

"""The one reader of manifests, wherever they come from.

A text is read in layers: YAML with its lines, the shape that the schema gives, then the CEL rules of the same
schema. Every layer reports all that it finds, and nothing but `ManifestError` is raised. Secrets with keys of
consumers may stand among them; they are read for digests alone (`key_secret`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from rerank_api.cel import violations
from rerank_api.fields import parse, show
from rerank_api.key_secret import VERSION_AND_KIND, KeySecret, read_secret, without_values
from rerank_api.problems import ManifestError, Problem
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.rerank_model import RerankModel
from rerank_api.resource import API_VERSION
from rerank_api.schema import structural_schema, with_defaults
from rerank_api.sentences import did_you_mean, misfits
from rerank_api.tree import Entry, Fields, Node, Scalar, find, plain
from rerank_api.yaml_text import dump_yaml
from rerank_api.yaml_tree import compose

MAX_BYTES: Final = 1024 * 1024

Resource: TypeAlias = RerankModel | RerankConsumer | KeySecret

KINDS: Final[Mapping[str, type[RerankModel] | type[RerankConsumer]]] = {
    "RerankModel": RerankModel,
    "RerankConsumer": RerankConsumer,
}


@dataclass(frozen=True)
class Document:
    """A manifest that was read, and where each of its fields stands."""

    resource: Resource
    file: str
    tree: Fields
    """The text as written: what is in it was set by the user. Of a Secret without its values."""

    def line(self, field: str) -> int:
        """Return the line, from 1, of a field such as `spec.names[0]`, or of the nearest one that holds it.

        Raises `ValueError` for text that is no path.
        """
        return find(self.tree, parse(field))[0]

    def problem(self, field: str, message: str) -> Problem:
        """Build a problem with a field of this document."""
        return Problem(self.file, self.line(field), field, message)


def read_file(path: FilePath | str) -> tuple[Document, ...]:
    """Read the manifests of one file. Raises `ManifestError` with every problem in it."""
    return read_files((path,))


def read_files(paths: Iterable[FilePath | str]) -> tuple[Document, ...]:
    """Read the manifests of several files as one set, in which no resource may stand twice.

    Raises `ManifestError` with every problem in all of them.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        text = _text(FilePath(path), problems)
        if text is not None:
            documents += _documents(text, str(path), problems)
    return _checked(documents, problems)


def read_text(text: str, file: str) -> tuple[Document, ...]:
    """Read the manifests of a text; `file` is what problems call it. Raises `ManifestError`."""
    problems: list[Problem] = []
    return _checked(list(_documents(text, file, problems)), problems)


def dump(resource: RerankModel | RerankConsumer) -> str:
    """Write a resource as a manifest, with what was set in it and without its status."""
    fields = resource.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
    fields = _without_nulls(fields)
    return dump_yaml({"apiVersion": resource.api_version, "kind": resource.kind} | fields)


def _checked(documents: list[Document], problems: list[Problem]) -> tuple[Document, ...]:
    problems += _repeated(documents)
    if problems:
        raise ManifestError(tuple(problems))
    return tuple(documents)


def _text(path: FilePath, problems: list[Problem]) -> str | None:
    def refuse(message: str) -> None:
        problems.append(Problem(str(path), None, "", message))

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) <= MAX_BYTES:
            return raw.decode("utf-8-sig")
        refuse("The file is larger than 1 MiB: split it into smaller ones")
    except FileNotFoundError:
        refuse("There is no such file: check the path")
    except IsADirectoryError:
        refuse(f"This is a folder: name the files in it, e.g. {path}/*.yaml")
    except PermissionError:
        refuse("The file may not be read: check its permissions")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problems.append(Problem(str(path), line, "", "The file is not UTF-8 text: save it as UTF-8"))
    except (OSError, ValueError) as error:
        refuse(f"The file cannot be opened ({error}): check the path")
    return None


def _documents(text: str, file: str, problems: list[Problem]) -> Iterator[Document]:
    composed = compose(text) if len(text) <= MAX_BYTES else None
    if composed is None:
        problems.append(Problem(file, None, "", "The text is larger than 1 MiB: split it into smaller ones"))
        return
    found = [Problem(file, fault.line, show(fault.path), fault.message) for fault in composed.faults]
    documents: list[Document] = []
    for root in composed.documents:
        resource = _resource(root, file, found)
        if resource is not None and isinstance(root, Fields):
            tree = without_values(root) if isinstance(resource, KeySecret) else root
            documents.append(Document(resource, file, tree))
    if not composed.documents and not found:
        message = f"There is no manifest in it: write one that begins with apiVersion: {API_VERSION}"
        found.append(Problem(file, None, "", message))
    problems += sorted(found, key=lambda problem: problem.line or 0)
    yield from documents


def _resource(root: Node, file: str, problems: list[Problem]) -> Resource | None:
    if not isinstance(root, Fields):
        message = f"A manifest is a mapping: begin it with apiVersion: {API_VERSION}"
        problems.append(Problem(file, root.line, "", message))
        return None
    if (_scalar_text(root, "apiVersion"), _scalar_text(root, "kind")) == VERSION_AND_KIND:
        secret, misplaced = read_secret(root)
        problems += [
            Problem(file, find(root, wrong.path)[0], show(wrong.path), wrong.message) for wrong in misplaced
        ]
        return secret
    kind = _kind(root, file, problems)
    if kind is None:
        return None
    resource_type, root = KINDS[kind], _as_applied(root)
    schema = structural_schema(resource_type)
    resource, error = None, None
    try:
        # JSON mode: strict about types as an API server is, and lists become tuples.
        resource = resource_type.model_validate_json(
            json.dumps(plain(root)), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as failed:
        error = failed
    found = {misfit.path: misfit.message for misfit in misfits(schema, root, error)}
    faulty = frozenset(found)
    for violation in violations(schema, with_defaults(schema, plain(root)), faulty):
        found.setdefault(violation.path, violation.message)
    problems += [Problem(file, find(root, path)[0], show(path), message) for path, message in found.items()]
    return None if found else resource


def _kind(root: Fields, file: str, problems: list[Problem]) -> str | None:
    def refuse(field: str, message: str) -> None:
        problems.append(Problem(file, find(root, (field,))[0], field, message))

    version, kind = (_scalar_text(root, field) for field in ("apiVersion", "kind"))
    if version is None:
        refuse("apiVersion", f"is missing: write apiVersion: {API_VERSION}")
    elif version != API_VERSION:
        message = (
            f"{version!r} is not known here: write {API_VERSION}, and keep other resources in other files"
        )
        refuse("apiVersion", message)
    if kind is None:
        refuse("kind", f"is missing: write kind: {' or kind: '.join(KINDS)}")
    elif version == API_VERSION and kind not in KINDS:
        advice = did_you_mean(kind, tuple(KINDS)) or f": write {' or '.join(KINDS)}"
        refuse("kind", f"{kind!r} is not known{advice}")
    return kind if version == API_VERSION and kind in KINDS else None


def _scalar_text(root: Fields, field: str) -> str | None:
    entry = root.entries.get(field)
    if entry is None or (isinstance(entry.node, Scalar) and entry.node.value is None):
        return None
    return entry.node.text if isinstance(entry.node, Scalar) else "This"


def _as_applied(root: Fields) -> Fields:
    """Leave out what an API server leaves out: the status, and fields of the metadata without a value."""
    entries = {key: entry for key, entry in root.entries.items() if key != "status"}
    metadata = entries.get("metadata")
    if metadata is not None and isinstance(metadata.node, Fields):
        given = {
            key: entry
            for key, entry in metadata.node.entries.items()
            if not (isinstance(entry.node, Scalar) and entry.node.value is None)
        }
        entries["metadata"] = Entry(metadata.line, Fields(metadata.node.line, given))
    return Fields(root.line, entries)


def _repeated(documents: list[Document]) -> Iterator[Problem]:
    first: dict[tuple[str, str, str], Document] = {}
    for document in documents:
        metadata = document.resource.metadata
        key = (document.resource.kind, metadata.namespace or "default", metadata.name)
        other = first.setdefault(key, document)
        if other is not document:
            place = f"{other.file}:{other.line('metadata.name')}"
            message = (
                f"{metadata.name!r} names another {document.resource.kind} in {place}: rename one of them"
            )
            yield document.problem("metadata.name", message)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value

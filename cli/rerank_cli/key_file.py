"""Consumers and the digests of their keys in a file of manifests: read, and changed where they stand.

What else is in the file, comments included, stays as it is. Every change is read back before it is written.
"""

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from rerank_api.key_secret import KeySecret
from rerank_api.keys import encoded
from rerank_api.manifests import Document, dump, read_text
from rerank_api.problems import ManifestError
from rerank_api.rerank_consumer import RerankConsumer, RerankConsumerSpec
from rerank_api.resource import ObjectMeta, SecretReference
from rerank_api.yaml_text import dump_yaml
from rerank_api.yaml_tree import compose
from rerank_cli.errors import CliError

_VALUES = "data"
"""Of a Secret. Not stringData: `kubectl apply` leaves in a cluster what is removed from there."""

_FIELD = "key-"
_NUMBERED = re.compile(rf"{_FIELD}(\d+)")
_SEPARATOR = re.compile(r"^---(?:\s.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class KeyOfConsumer:
    """One key: the field of the Secret that holds its digest."""

    field: str
    digest: str


@dataclass(frozen=True)
class Known:
    """A consumer in the file, with its keys, the oldest first."""

    name: str
    models: tuple[str, ...]
    secret: str
    keys: tuple[KeyOfConsumer, ...]


class KeyFile:
    """The text of one file, changed in memory until `write`."""

    def __init__(self, path: Path) -> None:
        """Read the file; one that is not there yet is empty. Raises `CliError`."""
        self._path = path
        try:
            self._text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self._text = ""
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"{path} cannot be read: {error}.") from error
        self._documents = self._parsed(self._text)

    def consumers(self) -> tuple[Known, ...]:
        """Return the consumers in the order of the file."""
        secrets = {
            document.resource.metadata.name: document.resource
            for document in self._documents
            if isinstance(document.resource, KeySecret)
        }
        return tuple(
            _known(document.resource, secrets.get(document.resource.spec.key_secret.name))
            for document in self._documents
            if isinstance(document.resource, RerankConsumer)
        )

    def consumer(self, name: str) -> Known:
        """Return one consumer. Raises `CliError` where there is none of this name."""
        for known in self.consumers():
            if known.name == name:
                return known
        there = ", ".join(known.name for known in self.consumers()) or "none"
        raise CliError(f"{self._path} has no consumer {name!r}; there is: {there}.")

    def add_consumer(self, name: str, digest: str, models: tuple[str, ...]) -> None:
        """Append a consumer and a Secret of its name. Raises `CliError` where either is there already."""
        for document in self._documents:
            if document.resource.metadata.name == name and document.resource.kind != "RerankModel":
                raise CliError(
                    f"{self._path} has a {document.resource.kind} {name!r} already: add a key to it with "
                    f"`rerank key rotate {name}`, or choose another name."
                )
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            _VALUES: {f"{_FIELD}1": encoded(digest)},
        }
        consumer = RerankConsumer(
            metadata=ObjectMeta(name=name),
            spec=RerankConsumerSpec(key_secret=SecretReference(name=name), models=models),
        )
        begun = self._text and not self._text.endswith("\n")
        parts = (self._text + ("\n" if begun else ""), dump_yaml(secret), dump(consumer))
        self._change("---\n".join(part for part in parts if part))

    def add_key(self, consumer: Known, digest: str) -> None:
        """Add a key behind those that a consumer has."""
        last = max(
            (int(found[1]) for key in consumer.keys if (found := _NUMBERED.fullmatch(key.field))), default=0
        )
        node = self._values(consumer.secret)
        line, column = node.value[-1][1].end_mark.line, node.value[-1][0].start_mark.column
        added = f"{' ' * column}{_FIELD}{last + 1}: {encoded(digest)}\n"
        lines = self._text.splitlines(keepends=True)
        if not lines[line].endswith("\n"):
            lines[line] += "\n"
        self._change("".join((*lines[: line + 1], added, *lines[line + 1 :])))

    def remove_key(self, consumer: Known, key: KeyOfConsumer) -> None:
        """Remove one of several keys."""
        lines = self._text.splitlines(keepends=True)
        for name, value in self._values(consumer.secret).value:
            if name.value == key.field:
                del lines[name.start_mark.line : value.end_mark.line + 1]
        self._change("".join(lines))

    def remove_consumer(self, consumer: Known) -> None:
        """Remove a consumer, and its Secret unless another has it too."""
        gone = {("RerankConsumer", consumer.name)}
        if not any(one.secret == consumer.secret and one.name != consumer.name for one in self.consumers()):
            gone.add(("Secret", consumer.secret))
        kept = [part for part in _parts(self._text) if _named(part) not in gone]
        self._change("".join(kept).removeprefix("---\n"))

    def write(self) -> None:
        """Replace the file at once. One that is new may be read by its owner alone; an empty one is removed.

        `rerank up` takes an empty file for one that is just being written, and goes on with what was in it.
        """
        target = self._path.resolve()
        if not self._documents:
            target.unlink(missing_ok=True)
            return
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
            with os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
            ) as file:
                file.write(self._text)
                os.fchmod(file.fileno(), mode)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CliError(f"{self._path} cannot be written: {error.strerror}.") from error

    def _values(self, secret: str) -> yaml.MappingNode:
        """Return the mapping of a Secret's keys as it stands in the text, one key a line."""
        for node in yaml.compose_all(self._text, Loader=yaml.SafeLoader):
            if _field(node, "kind") == "Secret" and _field(_child(node, "metadata"), "name") == secret:
                found = _child(node, _VALUES)
                if isinstance(found, yaml.MappingNode) and found.value and not found.flow_style:
                    return found
        raise CliError(
            f"{self._path}: the keys of the Secret {secret!r} do not stand one a line under {_VALUES}: "
            "change them by hand."
        )

    def _change(self, text: str) -> None:
        """Take over a text that reads well."""
        self._documents = self._parsed(text)
        self._text = text

    def _parsed(self, text: str) -> tuple[Document, ...]:
        composed = compose(text)
        if not composed.documents and not composed.faults:
            return ()
        try:
            return read_text(text, str(self._path))
        except ManifestError as error:
            raise CliError(str(error)) from error


def _known(consumer: RerankConsumer, secret: KeySecret | None) -> Known:
    keys = () if secret is None else secret.keys
    found = [KeyOfConsumer(key.path[1], key.digest) for key in keys if key.digest is not None]
    return Known(
        consumer.metadata.name,
        consumer.spec.models,
        consumer.spec.key_secret.name,
        tuple(sorted(found, key=_age)),
    )


def _age(key: KeyOfConsumer) -> tuple[int, str]:
    """Sort keys as they were made; what was named by hand counts as the oldest."""
    numbered = _NUMBERED.fullmatch(key.field)
    return (int(numbered[1]) if numbered else 0, key.field)


def _parts(text: str) -> Iterator[str]:
    """Split a text before each line that begins a document."""
    begins = [0, *(found.start() for found in _SEPARATOR.finditer(text)), len(text)]
    for start, end in itertools.pairwise(begins):
        if end > start:
            yield text[start:end]


def _named(part: str) -> tuple[str | None, str | None]:
    node = yaml.compose(part, Loader=yaml.SafeLoader)
    return _field(node, "kind"), _field(_child(node, "metadata"), "name")


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name:
                found: yaml.Node = value
                return found
    return None


def _field(node: yaml.Node | None, name: str) -> str | None:
    found = _child(node, name)
    return str(found.value) if isinstance(found, yaml.ScalarNode) else None

"""Consumers and the digests of their keys in a file of manifests: read, and changed where they stand.

What else is in the file, comments included, stays as it is. Every change is read back before it is written.
"""

import itertools
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from rerank_api.key_secret import KeySecret
from rerank_api.keys import encoded
from rerank_api.manifests import Document, read_text
from rerank_api.problems import ManifestError
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.yaml_text import dump_yaml
from rerank_api.yaml_tree import compose
from rerank_cli.errors import CliError
from rerank_cli.key_objects import VALUES, Consumer, Held, KeyOfConsumer, Manifest, shared_secret_stays

_SEPARATOR = re.compile(r"^---(?:\s.*)?$", re.MULTILINE)


class KeyFile:
    """The text of one file. Every change is written at once."""

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

    @property
    def place(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def options(self) -> str:
        """What names the file to a command."""
        return f"--file {shlex.quote(str(self._path))}"

    def consumers(self) -> tuple[Consumer, ...]:
        """Return the consumers in the order of the file."""
        return tuple(
            Consumer(resource.metadata.name, resource.spec.models, resource.spec.key_secret.name)
            for resource in (document.resource for document in self._documents)
            if isinstance(resource, RerankConsumer)
        )

    def held(self, consumer: Consumer) -> Held:
        """Return what a consumer's Secret holds; nothing where there is none."""
        for document in self._documents:
            resource = document.resource
            if isinstance(resource, KeySecret) and resource.metadata.name == consumer.secret:
                return Held.of({key.path[1]: key.digest for key in resource.keys})
        return Held()

    def add_consumer(self, secret: Manifest, consumer: Manifest) -> None:
        """Append a consumer and its Secret. Raises `CliError` where there is such a Secret already."""
        name = secret["metadata"]["name"]
        for document in self._documents:
            if isinstance(document.resource, KeySecret) and document.resource.metadata.name == name:
                raise CliError(f"{self._path} has a Secret {name!r} already: choose another name.")
        begun = self._text and not self._text.endswith("\n")
        parts = (self._text + ("\n" if begun else ""), dump_yaml(secret), dump_yaml(consumer))
        self._change("---\n".join(part for part in parts if part))

    def add_key(self, consumer: Consumer, field: str, digest: str) -> None:
        """Add a key behind those that a consumer has."""
        node = self._values(consumer.secret)
        line, column = node.value[-1][1].end_mark.line, node.value[-1][0].start_mark.column
        added = f"{' ' * column}{field}: {encoded(digest)}\n"
        lines = self._text.splitlines(keepends=True)
        if not lines[line].endswith("\n"):
            lines[line] += "\n"
        self._change("".join((*lines[: line + 1], added, *lines[line + 1 :])))

    def remove_keys(self, consumer: Consumer, keys: Sequence[KeyOfConsumer]) -> None:
        """Remove some of several keys."""
        gone = {key.field for key in keys}
        lines = self._text.splitlines(keepends=True)
        for name, value in reversed(self._values(consumer.secret).value):
            if name.value in gone:
                del lines[name.start_mark.line : value.end_mark.line + 1]
        self._change("".join(lines))

    def remove_consumer(self, consumer: Consumer, sharing: Sequence[str]) -> str:
        """Remove a consumer, and its Secret unless others have it too; say what stays."""
        gone = {("RerankConsumer", consumer.name)}
        if not sharing:
            gone.add(("Secret", consumer.secret))
        kept = [part for part in _parts(self._text) if _named(part) not in gone]
        self._change("".join(kept).removeprefix("---\n"))
        return shared_secret_stays(consumer, sharing) if sharing else ""

    def _values(self, secret: str) -> yaml.MappingNode:
        """Return the mapping of a Secret's keys as it stands in the text, one key a line."""
        for node in yaml.compose_all(self._text, Loader=yaml.SafeLoader):
            if _field(node, "kind") == "Secret" and _field(_child(node, "metadata"), "name") == secret:
                found = _child(node, VALUES)
                if isinstance(found, yaml.MappingNode) and found.value and not found.flow_style:
                    return found
        raise CliError(
            f"{self._path}: the keys of the Secret {secret!r} do not stand one a line under {VALUES}: "
            "change them by hand."
        )

    def _change(self, text: str) -> None:
        """Take over a text that reads well, and write it."""
        self._documents = self._parsed(text)
        self._text = text
        self._write()

    def _write(self) -> None:
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

    def _parsed(self, text: str) -> tuple[Document, ...]:
        composed = compose(text)
        if not composed.documents and not composed.faults:
            return ()
        try:
            return read_text(text, str(self._path))
        except ManifestError as error:
            raise CliError(str(error)) from error


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

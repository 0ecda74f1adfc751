"""A Secret with API keys, read from a manifest. Keys become digests while they are read: none is kept.

A Secret is Kubernetes' own resource, so its other fields are left alone; only `data` and `stringData` count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from rerank_api.keys import KeyFaultError, read_digest, read_encoded
from rerank_api.resource import ObjectMeta
from rerank_api.tree import Entry, Fields, Node, Scalar, find, plain

VERSION_AND_KIND: Final = ("v1", "Secret")

_VALUES: Final = ("data", "stringData")
"""Where a Secret's values are, as API servers merge them: the later wins."""


@dataclass(frozen=True)
class Key:
    """One field of a Secret: the digest of the key in it, or why there is none."""

    path: tuple[str, str]
    """Where it is in the manifest."""
    digest: str | None
    fault: str = ""


@dataclass(frozen=True)
class KeySecret:
    """A Secret of which only digests are known."""

    metadata: ObjectMeta
    keys: tuple[Key, ...]
    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"

    @property
    def digests(self) -> tuple[str, ...]:
        """Return the digests of those fields that hold a key, each once."""
        return tuple(dict.fromkeys(key.digest for key in self.keys if key.digest is not None))


@dataclass(frozen=True)
class Misplaced:
    """A field of the Secret itself that is not what it has to be."""

    path: tuple[str, ...]
    message: str


def read_secret(root: Fields) -> tuple[KeySecret | None, tuple[Misplaced, ...]]:
    """Read a Secret. Whether a value can be a key matters only where a consumer has it: that is no error."""
    wrong = tuple(_misplaced(root))
    if wrong:
        return None, wrong
    metadata = plain(find(root, ("metadata",))[1] or Fields(root.line, {}))
    values: dict[str, Key] = {}
    for part in _VALUES:
        node = find(root, (part,))[1]
        if isinstance(node, Fields):
            values |= {name: _key(part, name, entry.node) for name, entry in node.entries.items()}
    named = ObjectMeta(name=metadata["name"], namespace=metadata.get("namespace"))
    return KeySecret(named, tuple(values.values())), ()


def without_values(root: Fields) -> Fields:
    """Return the tree with nothing left of the Secret's values but where they stood."""
    entries = dict(root.entries)
    for part in _VALUES:
        entry = entries.get(part)
        if entry is not None:
            entries[part] = Entry(entry.line, _blank(entry.node))
    return Fields(root.line, entries)


def _blank(node: Node) -> Node:
    if isinstance(node, Fields):
        kept = {name: Entry(entry.line, _blank(entry.node)) for name, entry in node.entries.items()}
        return Fields(node.line, kept)
    return Scalar(node.line, None, "", quoted=False)


def _misplaced(root: Fields) -> Iterator[Misplaced]:
    name = find(root, ("metadata", "name"))[1]
    if not (isinstance(name, Scalar) and isinstance(name.value, str) and name.value):
        yield Misplaced(("metadata", "name"), "is missing or no text: write the Secret's name")
    namespace = find(root, ("metadata", "namespace"))[1]
    if namespace is not None and not (
        isinstance(namespace, Scalar) and isinstance(namespace.value, str | None)
    ):
        yield Misplaced(("metadata", "namespace"), "is no text: write the name of a namespace, or remove it")
    for part in _VALUES:
        node = find(root, (part,))[1]
        if node is not None and not isinstance(node, Fields) and plain(node) is not None:
            yield Misplaced((part,), f"is no mapping: write one key a field, e.g. {part}: {{key-1: ...}}")


def _key(part: str, name: str, node: Node) -> Key:
    path = (part, name)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return Key(path, None, "is no text: put it in quotes")
    try:
        read = read_digest if part == "stringData" else read_encoded
        return Key(path, read(node.value))
    except KeyFaultError as fault:
        return Key(path, None, str(fault))

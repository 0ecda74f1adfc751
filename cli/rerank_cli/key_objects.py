"""Consumers and the Secrets with their keys, as data: what they are, and what commands make of them.

Pure, and the same wherever they are kept.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rerank_api.keys import encoded
from rerank_api.resource import API_VERSION
from rerank_cli.errors import UsageError

VALUES = "data"
"""Of a Secret. Not stringData: `kubectl apply` leaves in a cluster what is removed from there."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MADE_HERE = "rerank-key"
"""What that label says of a Secret that `rerank key` made, and may remove again."""

SHOWN_DIGITS = 8
"""Of a digest, enough to tell keys apart."""

_FIELD = "key-"
_NUMBERED = re.compile(rf"{_FIELD}(\d+)")

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Consumer:
    """A RerankConsumer: what it may call, and the name of the Secret that holds its keys."""

    name: str
    models: tuple[str, ...]
    secret: str


@dataclass(frozen=True)
class KeyOfConsumer:
    """One key: the field of the Secret that holds its digest."""

    field: str
    digest: str


@dataclass(frozen=True)
class Held:
    """What a consumer's Secret holds."""

    keys: tuple[KeyOfConsumer, ...] = ()
    """The oldest first."""
    fields: tuple[str, ...] = ()
    """All fields, also those that hold no key."""

    @classmethod
    def of(cls, fields: Mapping[str, str | None]) -> "Held":
        """Take the digests by field; None where a field holds no key."""
        found = [KeyOfConsumer(field, digest) for field, digest in fields.items() if digest is not None]
        return cls(tuple(sorted(found, key=_age)), tuple(fields))


def new_secret(name: str, digest: str) -> Manifest:
    """Return a Secret with one key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {MANAGED_BY: MADE_HERE}},
        "type": "Opaque",
        VALUES: {f"{_FIELD}1": encoded(digest)},
    }


def new_consumer(name: str, models: Iterable[str]) -> Manifest:
    """Return a RerankConsumer whose keys are in the Secret of its name."""
    return {
        "apiVersion": API_VERSION,
        "kind": "RerankConsumer",
        "metadata": {"name": name},
        "spec": {"keySecret": {"name": name}, "models": list(models)},
    }


def next_field(held: Held) -> str:
    """Return a field that is free, and behind all others by number."""
    numbers = (int(found[1]) for field in held.fields if (found := _NUMBERED.fullmatch(field)))
    return f"{_FIELD}{max(numbers, default=0) + 1}"


def sharing(consumer: Consumer, consumers: Iterable[Consumer]) -> tuple[str, ...]:
    """Return the names of the other consumers whose keys are in the same Secret."""
    return tuple(one.name for one in consumers if one.secret == consumer.secret and one.name != consumer.name)


def shared_secret_stays(consumer: Consumer, others: Sequence[str]) -> str:
    """Say why a consumer's Secret is not removed along with it."""
    return f"The Secret {consumer.secret!r} stays: {' and '.join(others)} has its keys there too."


def all_but_the_newest(held: Held) -> tuple[KeyOfConsumer, ...]:
    """Return the keys that are older than the newest one."""
    return held.keys[:-1]


def with_digest(consumer: Consumer, held: Held, prefix: str) -> tuple[KeyOfConsumer, ...]:
    """Return the fields of the one key whose digest begins so. Raises `UsageError` unless there is one."""
    wanted = prefix.lower().removeprefix("sha256:")
    found = tuple(key for key in held.keys if wanted and key.digest.startswith(wanted))
    if len({key.digest for key in found}) == 1:
        return found
    there = ", ".join(key.digest[:SHOWN_DIGITS] for key in held.keys) or "none"
    how_many = "Several digests" if found else "No digest"
    raise UsageError(f"{how_many} of {consumer.name} begin with {prefix!r}; there is: {there}.")


def _age(key: KeyOfConsumer) -> tuple[int, str]:
    """Sort keys as they were made; what was named by hand counts as the oldest."""
    numbered = _NUMBERED.fullmatch(key.field)
    return (int(numbered[1]) if numbered else 0, key.field)

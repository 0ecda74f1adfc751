"""`rerank key`: make, list, replace and revoke the keys of consumers, wherever they are kept."""

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rerank_api.keys import digest_of, make_key
from rerank_api.names import CONSUMER_NAME_MAX_LENGTH, is_consumer_name, is_model_name
from rerank_api.rerank_consumer import ALL_MODELS
from rerank_cli import key_objects
from rerank_cli.errors import CliError, UsageError
from rerank_cli.key_objects import SHOWN_DIGITS, Consumer, Held, KeyOfConsumer, Manifest


class Keys(Protocol):
    """Where consumers and their keys are kept. What a method changes counts when it returns, or it raises
    `CliError`."""

    @property
    def place(self) -> str:
        """What users call it."""

    @property
    def options(self) -> str:
        """What has a command act on it."""

    def consumers(self) -> tuple[Consumer, ...]:
        """Return all consumers."""

    def held(self, consumer: Consumer) -> Held:
        """Return what a consumer's Secret holds."""

    def add_consumer(self, secret: Manifest, consumer: Manifest) -> None:
        """Add a consumer and its Secret; raise where either is there already."""

    def add_key(self, consumer: Consumer, field: str, digest: str) -> None:
        """Add a key to a consumer's Secret."""

    def remove_keys(self, consumer: Consumer, keys: Sequence[KeyOfConsumer]) -> None:
        """Remove some of a consumer's keys."""

    def remove_consumer(self, consumer: Consumer, sharing: Sequence[str]) -> str:
        """Remove a consumer, and its Secret unless others share it; return what is to say of what stays."""


def create(name: str, models: Sequence[str], keys: Keys) -> None:
    """Make a consumer with a key, which is printed once; its digest alone is kept."""
    if not is_consumer_name(name):
        raise UsageError(
            f"{name!r} cannot name a consumer: use at most {CONSUMER_NAME_MAX_LENGTH} lower-case letters, "
            "digits and the signs - and . with a letter or digit at both ends."
        )
    granted = tuple(dict.fromkeys(models or (ALL_MODELS,)))
    for one in granted:
        if one != ALL_MODELS and not is_model_name(one):
            raise UsageError(f"--model {one!r} is no model name: give a public name, or none for all models.")
    if ALL_MODELS in granted and len(granted) > 1:
        raise UsageError("--model '*' stands for all models: give it alone.")
    for other in keys.consumers():
        if other.name == name:
            raise CliError(
                f"{keys.place} has a RerankConsumer {name!r} already: add a key to it with "
                f"{_command(keys, 'rotate', name)}, or choose another name."
            )
        if other.secret == name:
            raise CliError(
                f"The consumer {other.name!r} has its keys in a Secret {name!r}, and a key counts for one "
                "consumer alone: choose another name."
            )
    key = make_key()
    keys.add_consumer(key_objects.new_secret(name, digest_of(key)), key_objects.new_consumer(name, granted))
    what = "every model" if granted == (ALL_MODELS,) else ", ".join(granted)
    _show_once(key, f"{name} may call {what}, as {keys.place} says. This is its key, shown only now:")


def show(keys: Keys) -> None:
    """List the consumers, what they may call, and how the digests of their keys begin."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("CONSUMER", "KEYS", "DIGESTS", "MODELS"):
        table.add_column(heading, overflow="fold")
    for consumer in keys.consumers():
        held = keys.held(consumer).keys
        digests = " ".join(key.digest[:SHOWN_DIGITS] for key in held)
        table.add_row(escape(consumer.name), str(len(held)), digests, escape(", ".join(consumer.models)))
    Console().print(table)


def rotate(name: str, keys: Keys) -> None:
    """Give a consumer one more key. The others count on until they are revoked."""
    consumers = keys.consumers()
    consumer = _named(name, consumers, keys)
    if others := key_objects.sharing(consumer, consumers):
        raise CliError(
            f"{' and '.join((name, *others))} have their keys in one Secret, {consumer.secret!r}, and a key "
            "counts for one consumer alone: give each a Secret of its own."
        )
    held, key = keys.held(consumer), make_key()
    keys.add_key(consumer, key_objects.next_field(held), digest_of(key))
    how_many = _counted(len(held.keys) + 1)
    if held.keys:
        how_many += (
            " now. When its clients send the new one, remove the others: "
            f"{_command(keys, 'revoke', name, '--older')}"
        )
    _show_once(key, f"{name} has {how_many}. The new key, shown only now:")


def revoke(name: str, digest: str | None, keys: Keys, *, older: bool) -> None:
    """Remove a consumer with all of its keys, or the key of a digest, or all but the newest."""
    if older and digest is not None:
        raise UsageError("revoke: give --digest or --older, not both.")
    consumers = keys.consumers()
    consumer = _named(name, consumers, keys)
    held = keys.held(consumer)
    if not older and digest is None:
        stays = keys.remove_consumer(consumer, key_objects.sharing(consumer, consumers))
        gone = f"{name} and its {_counted(len(held.keys))} are gone from {keys.place}."
        _say(f"{name} is gone from {keys.place}. {stays}" if stays else gone)
        return
    if digest is None:
        revoked = key_objects.all_but_the_newest(held)
    else:
        revoked = key_objects.with_digest(consumer, held, digest)
    if len(held.keys) <= max(len(revoked), 1):
        raise UsageError(
            f"{name} has no other key: {_command(keys, 'revoke', name)} removes the consumer, and "
            f"{_command(keys, 'rotate', name)} gives it another key first."
        )
    keys.remove_keys(consumer, revoked)
    left = len(held.keys) - len(revoked)
    _say(f"{_counted(len(revoked))} of {name} gone from {keys.place}; {left} left.")


def _named(name: str, consumers: Iterable[Consumer], keys: Keys) -> Consumer:
    by_name = {consumer.name: consumer for consumer in consumers}
    if name not in by_name:
        raise CliError(f"{keys.place} has no consumer {name!r}; there is: {', '.join(by_name) or 'none'}.")
    return by_name[name]


def _command(keys: Keys, *words: str) -> str:
    return f"`{' '.join(('rerank key', *words, keys.options))}`"


def _counted(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys} keys"


def _show_once(key: str, sentence: str) -> None:
    """Print the key alone on standard output, so that it can be piped to where it belongs."""
    _say(sentence)
    sys.stdout.write(key + "\n")


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")

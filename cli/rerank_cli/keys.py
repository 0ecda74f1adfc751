"""`rerank key`: make, list, replace and revoke the keys of consumers in a file of manifests."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rerank_api.keys import digest_of, make_key
from rerank_api.names import CONSUMER_NAME_MAX_LENGTH, is_consumer_name, is_model_name
from rerank_api.rerank_consumer import ALL_MODELS
from rerank_cli.errors import UsageError
from rerank_cli.key_file import KeyFile, KeyOfConsumer, Known

SHOWN_DIGITS = 8
"""Of a digest, enough to tell keys apart."""


def create(name: str, models: Sequence[str], file: Path) -> None:
    """Make a consumer with a key, which is printed once; the file holds its digest alone."""
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
    key, consumers = make_key(), KeyFile(file)
    consumers.add_consumer(name, digest_of(key), granted)
    consumers.write()
    what = "every model" if granted == (ALL_MODELS,) else ", ".join(granted)
    _show_once(key, f"{name} may call {what}, as {file} says. This is its key, shown only now:")


def show(file: Path) -> None:
    """List the consumers, what they may call, and how the digests of their keys begin."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("CONSUMER", "KEYS", "DIGESTS", "MODELS"):
        table.add_column(heading, overflow="fold")
    for known in KeyFile(file).consumers():
        digests = " ".join(key.digest[:SHOWN_DIGITS] for key in known.keys)
        table.add_row(escape(known.name), str(len(known.keys)), digests, escape(", ".join(known.models)))
    Console().print(table)


def rotate(name: str, file: Path) -> None:
    """Give a consumer one more key. The others count on until they are revoked."""
    key, consumers = make_key(), KeyFile(file)
    known = consumers.consumer(name)
    consumers.add_key(known, digest_of(key))
    consumers.write()
    _show_once(
        key,
        f"{name} has {len(known.keys) + 1} keys now. When its clients send the new one, remove the others: "
        f"`rerank key revoke {name} --older --file {file}`. The new key, shown only now:",
    )


def revoke(name: str, digest: str | None, file: Path, *, older: bool) -> None:
    """Remove a consumer with all of its keys, or the key of a digest, or all but the newest."""
    if older and digest is not None:
        raise UsageError("revoke: give --digest or --older, not both.")
    consumers = KeyFile(file)
    known = consumers.consumer(name)
    if not older and digest is None:
        consumers.remove_consumer(known)
        consumers.write()
        _say(f"{name} and its {_counted(len(known.keys))} are gone from {file}.")
        return
    gone = known.keys[:-1] if older else (_chosen(known, digest or ""),)
    if len(known.keys) == 1:
        raise UsageError(
            f"{name} has no other key: `rerank key revoke {name}` removes the consumer, and "
            f"`rerank key rotate {name}` gives it another key first."
        )
    for key in gone:
        consumers.remove_key(known, key)
    consumers.write()
    _say(f"{_counted(len(gone))} of {name} gone from {file}; {len(known.keys) - len(gone)} left.")


def _chosen(known: Known, prefix: str) -> KeyOfConsumer:
    wanted = prefix.lower().removeprefix("sha256:")
    found = [key for key in known.keys if wanted and key.digest.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(key.digest[:SHOWN_DIGITS] for key in known.keys) or "none"
    how_many = "Several digests" if found else "No digest"
    raise UsageError(f"{how_many} of {known.name} begin with {prefix!r}; there is: {there}.")


def _counted(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys} keys"


def _show_once(key: str, sentence: str) -> None:
    """Print the key alone on standard output, so that it can be piped to where it belongs."""
    _say(sentence)
    sys.stdout.write(key + "\n")


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")

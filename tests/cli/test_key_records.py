"""What commands make of consumers and Secrets, and what is said of those that an API server tells."""

import base64
from typing import Any

import pytest

from rerank_api.keys import digest_of, encoded
from rerank_cli import key_objects, key_records
from rerank_cli.errors import CliError, UsageError
from rerank_cli.key_objects import MADE_HERE, MANAGED_BY, Consumer, Held, KeyOfConsumer
from rerank_gateway.kubernetes import objects

SEARCH = Consumer("search", ("*",), "search")
OWNER = {"metadata": {"name": "search", "namespace": "rerank", "uid": "u-1", "resourceVersion": "7"}}


def secret(data: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A Secret as an API server tells it; `metadata` is added to its own."""
    metadata = {"name": "search", "namespace": "rerank", "uid": "s-1", "resourceVersion": "9"}
    return {
        "kind": "Secret",
        "type": "Opaque",
        "data": data,
        "metadata": metadata | fields.pop("metadata", {}),
    } | fields


def held(*fields: str) -> Held:
    return Held.of({field: digest_of(field) for field in fields})


def test_what_is_made_is_what_the_gateway_takes_for_a_consumer_with_one_key() -> None:
    digest = digest_of("a-key")
    made = key_objects.new_secret("search", digest)
    made["metadata"]["namespace"] = "rerank"
    assert objects.key_secret(made) == objects.KeySecret((digest,))
    assert made["type"] == "Opaque"
    consumer = key_objects.new_consumer("search", ("bge", "BAAI/bge"))
    consumer["metadata"]["namespace"] = "rerank"
    assert objects.consumer(consumer) == objects.Consumer(("rerank", "search"), ("bge", "BAAI/bge"))
    assert key_records.read_consumer(consumer) == Consumer("search", ("bge", "BAAI/bge"), "search")


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        pytest.param((), "key-1", id="none yet"),
        pytest.param(("key-1", "key-2"), "key-3", id="numbered"),
        pytest.param(("key-10", "key-9"), "key-11", id="by number, not by letter"),
        pytest.param(("mine",), "key-1", id="named by hand"),
        pytest.param(("key-2x", "key-"), "key-1", id="almost numbered"),
    ],
)
def test_a_new_key_has_a_free_field_behind_all_others(fields: tuple[str, ...], after: str) -> None:
    assert key_objects.next_field(held(*fields)) == after


def test_a_field_that_holds_no_key_is_not_overwritten_by_the_next_one() -> None:
    read = key_records.read_held(secret({"key-1": encoded(digest_of("a")), "key-2": "no base64"}))
    assert [key.field for key in read.keys] == ["key-1"]
    assert key_objects.next_field(read) == "key-3"


def test_a_consumer_that_cannot_be_read_is_a_sentence() -> None:
    consumer = key_objects.new_consumer("search", ("*",))
    consumer["metadata"]["namespace"] = "rerank"
    consumer["spec"]["limits"] = {"requestsPerMinute": "many"}
    with pytest.raises(CliError, match=r"'search' cannot be read: .*requestsPerMinute is 'many'"):
        key_records.read_consumer(consumer)


def test_the_newest_key_is_the_one_of_the_highest_number() -> None:
    older = key_objects.all_but_the_newest(held("key-10", "key-9", "by-hand"))
    assert [key.field for key in older] == ["by-hand", "key-9"]


def test_keys_that_stand_in_plain_text_are_known_by_digest() -> None:
    read = key_records.read_held(secret({"key-1": base64.b64encode(b"a-key\n").decode()}))
    assert read.keys == (KeyOfConsumer("key-1", digest_of("a-key")),)


def test_a_digest_that_stands_twice_is_one_key_in_two_fields() -> None:
    twice = Held.of({"a": digest_of("x"), "b": digest_of("x"), "c": digest_of("y")})
    found = key_objects.with_digest(SEARCH, twice, digest_of("x")[:6])
    assert [key.field for key in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        pytest.param("", "No digest of search begin with ''", id="empty"),
        pytest.param("sha256:", "No digest", id="nothing behind the prefix"),
        pytest.param("a", "Several digests", id="two begin so"),
    ],
)
def test_a_digest_that_does_not_name_one_key_is_refused(prefix: str, words: str) -> None:
    keys = Held((KeyOfConsumer("x", "ab" * 32), KeyOfConsumer("y", "ac" * 32)))
    with pytest.raises(UsageError, match=words):
        key_objects.with_digest(SEARCH, keys, prefix)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        pytest.param(secret({}), "", id="an opaque one"),
        pytest.param(secret(None), "", id="without data"),
        pytest.param(secret({}, type="kubernetes.io/tls"), "of type kubernetes.io/tls", id="another type"),
        pytest.param(
            secret({}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), "being deleted", id="leaving"
        ),
    ],
)
def test_a_key_is_added_only_where_it_counts(record: dict[str, Any], why: str) -> None:
    said = key_records.why_no_key_counts(record)
    assert why in said
    assert bool(said) == (objects.key_secret(record) is None)


MADE = {"labels": {MANAGED_BY: MADE_HERE}}


@pytest.mark.parametrize(
    ("metadata", "sharing", "why"),
    [
        pytest.param(MADE, (), "", id="made here"),
        pytest.param(MADE, ("web",), "web has its keys there too", id="made here, and shared"),
        pytest.param({}, (), "did not make it", id="made by hand"),
        pytest.param({"labels": {MANAGED_BY: "Helm"}}, (), "did not make it", id="made by Helm"),
        pytest.param({"ownerReferences": [{"uid": "u-1"}]}, (), "", id="owned by the consumer alone"),
        pytest.param(
            {"ownerReferences": [{"uid": "u-1"}, {"uid": "u-2"}]},
            (),
            "did not make it",
            id="another owns it too",
        ),
    ],
)
def test_a_secret_goes_with_its_consumer_only_if_it_is_nobody_elses(
    metadata: dict[str, Any], sharing: tuple[str, ...], why: str
) -> None:
    said = key_records.why_it_stays(secret({}, metadata=metadata), OWNER, SEARCH, sharing)
    assert why in said
    assert bool(said) == bool(why)


def test_a_patch_is_of_the_secret_that_was_read_and_touches_nothing_else() -> None:
    version = {"uid": "s-1", "resourceVersion": "9"}
    digest = digest_of("new")
    assert key_records.adding(secret({"key-1": "x"}), "key-2", digest) == {
        "metadata": version,
        "data": {"key-2": encoded(digest)},
    }
    keys = (KeyOfConsumer("key-1", "x"), KeyOfConsumer("key-2", "y"))
    assert key_records.removing(secret({}), keys) == {
        "metadata": version,
        "data": {"key-1": None, "key-2": None},
    }


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", "A", "a" * 254])
def test_a_name_that_no_secret_can_have_is_not_asked_for(name: str) -> None:
    assert not key_records.can_exist(name)

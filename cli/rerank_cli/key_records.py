"""RerankConsumers and Secrets as an API server tells them: what they hold, and what may become of them. Pure.

What counts as a consumer or as a Secret with keys is what the gateway takes for one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from rerank_api.keys import KeyFaultError, encoded, read_encoded
from rerank_api.names import is_consumer_name
from rerank_cli.errors import CliError
from rerank_cli.key_objects import (
    MADE_HERE,
    MANAGED_BY,
    VALUES,
    Consumer,
    Held,
    KeyOfConsumer,
    Manifest,
    shared_secret_stays,
)
from rerank_gateway.kubernetes import objects

Record: TypeAlias = Mapping[str, Any]


def read_consumer(raw: Record) -> Consumer | None:
    """Read a RerankConsumer; one that is being deleted is gone already. Raises `CliError`."""
    try:
        read = objects.consumer(raw)
    except objects.UnreadableError as error:
        name = raw["metadata"].get("name")
        raise CliError(f"The RerankConsumer {name!r} cannot be read: {error}. Mend it first.") from error
    return None if read is None else Consumer(raw["metadata"]["name"], read.models, read.secret[1])


def read_held(secret: Record | None) -> Held:
    """Read what a Secret holds; nothing where the gateway does not take keys from it."""
    if secret is None or objects.key_secret(secret) is None:
        return Held()
    return Held.of({field: _digest(str(value)) for field, value in (secret.get(VALUES) or {}).items()})


def can_exist(name: str) -> bool:
    """Say whether a Secret may have this name: a RerankConsumer may refer to any text."""
    return is_consumer_name(name)  # both are subdomains of RFC 1123


def why_no_key_counts(secret: Record) -> str:
    """Say why a key that is added to a Secret would not count, or ""."""
    if objects.key_secret(secret) is not None:
        return ""
    if secret["metadata"].get("deletionTimestamp") is not None:
        return "is being deleted: wait until it is gone"
    return f"is of type {secret.get('type')}, and keys count in one of type Opaque: make one"


def why_it_stays(secret: Record, owner: Record, consumer: Consumer, sharing: Sequence[str]) -> str:
    """Say why a Secret is not deleted with its consumer, whose record is `owner`, or "".

    It goes if nobody else has it, and either `rerank key` made it or the consumer alone owns it.
    """
    if sharing:
        return shared_secret_stays(consumer, sharing)
    metadata = secret["metadata"]
    owners = {each.get("uid") for each in metadata.get("ownerReferences") or ()}
    if (metadata.get("labels") or {}).get(MANAGED_BY) == MADE_HERE or owners == {owner["metadata"]["uid"]}:
        return ""
    namespace = metadata["namespace"]
    return (
        f"The Secret {consumer.secret!r} stays, because `rerank key` did not make it: "
        f"`kubectl delete -n {namespace} secret/{consumer.secret}` deletes it."
    )


def adding(secret: Record, field: str, digest: str) -> Manifest:
    """Return the merge patch that adds a key to a Secret, as long as it is the one that was read."""
    return {"metadata": version(secret), VALUES: {field: encoded(digest)}}


def removing(secret: Record, keys: Iterable[KeyOfConsumer]) -> Manifest:
    """Return the merge patch that removes keys from a Secret, as long as it is the one that was read."""
    return {"metadata": version(secret), VALUES: dict.fromkeys(key.field for key in keys)}


def version(raw: Record) -> dict[str, str]:
    """Return what tells an object from every other and every earlier or later state of itself."""
    return {name: raw["metadata"][name] for name in ("uid", "resourceVersion")}


def _digest(value: str) -> str | None:
    try:
        return read_encoded(value)
    except KeyFaultError:
        return None

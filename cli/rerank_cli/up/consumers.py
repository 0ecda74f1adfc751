"""Who may call: consumers joined with the Secrets that hold their keys. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from rerank_api.fields import show
from rerank_api.key_secret import KeySecret
from rerank_api.manifests import Document
from rerank_api.problems import Problem
from rerank_api.rerank_consumer import RerankConsumer
from rerank_api.tree import find
from rerank_gateway.models import Consumer

WHERE = "spec.keySecret.name"


def admitted(documents: Iterable[Document]) -> tuple[tuple[Consumer, ...], tuple[Problem, ...]]:
    """Return the consumers, and a problem for each key that cannot be used. Such a key lets nobody in."""
    given = tuple(documents)
    secrets = {
        document.resource.metadata.name: (document, document.resource)
        for document in given
        if isinstance(document.resource, KeySecret)
    }
    consumers: list[Consumer] = []
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for document in given:
        consumer = document.resource
        if isinstance(consumer, RerankConsumer):
            digests = tuple(_digests(document, consumer, secrets, problems))
            name = consumer.metadata.name
            for other in dict.fromkeys(owners[digest] for digest in digests if digest in owners):
                message = (
                    f"a key in it is one of the consumer {other!r} too: give each consumer keys of its own"
                )
                problems.append(document.problem(WHERE, message))
            own = tuple(digest for digest in digests if owners.setdefault(digest, name) == name)
            consumers.append(
                Consumer(
                    name,
                    own,
                    consumer.spec.models,
                    consumer.spec.limits.requests_per_minute,
                    consumer.spec.limits.tokens_per_minute,
                )
            )
    return tuple(consumers), tuple(problems)


def _digests(
    document: Document,
    consumer: RerankConsumer,
    secrets: Mapping[str, tuple[Document, KeySecret]],
    problems: list[Problem],
) -> Iterator[str]:
    wanted = consumer.spec.key_secret.name
    if wanted not in secrets:
        message = (
            f"there is no Secret {wanted!r} among the manifests: write one beside it, with the keys' digests"
        )
        problems.append(document.problem(WHERE, message))
        return
    place, secret = secrets[wanted]
    if not secret.keys:
        message = f"holds no key for the consumer {consumer.metadata.name!r}: write one under stringData"
        problems.append(place.problem("metadata.name", f"the Secret {wanted!r} {message}"))
    for key in secret.keys:
        if key.digest is None:
            line, _ = find(place.tree, key.path)
            problems.append(Problem(place.file, line, show(key.path), key.fault))
    yield from secret.digests

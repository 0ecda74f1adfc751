"""A view as everything that Envoy and the listing are told: pure, and cheap where little has changed."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from rerank_gateway import credentials, limiting, resources, sharing
from rerank_gateway.auth import GRANTS_FILTER, KEYS_FILTER
from rerank_gateway.budgets import Debt
from rerank_gateway.clusters import HOST_PREFIX, NAME_PREFIX, host_cluster, name_cluster
from rerank_gateway.limits import LIMITS_FILTER, TOKENS_FILTER
from rerank_gateway.models import Consumer, ServedModel, View

SHOWN_DIGITS: Final = 8
"""Of a digest, enough to tell keys apart in a log, and far too few to try guesses against."""


@dataclass(frozen=True)
class Resource:
    """One Envoy resource, serialised; its version is a digest of the bytes, the same on every machine."""

    version: str
    body: bytes


Resources: TypeAlias = Mapping[str, Resource]
"""The resources of one type, by name."""


@dataclass(frozen=True)
class Contest:
    """One public name or host that several RerankModels claim, or one key that several consumers have."""

    name: str
    """Of a key, the first signs of its digest."""
    winner: str
    losers: tuple[str, ...]
    what: Literal["name", "host", "key"] = "name"


@dataclass(frozen=True)
class Snapshot:
    """What is served at one moment. Equal views give equal snapshots, whatever order they are told in."""

    models: Mapping[str, ServedModel]
    """By public name, sorted."""
    resources: Mapping[str, Resources]
    """By type URL."""
    contests: tuple[Contest, ...] = ()
    hosts: Mapping[str, ServedModel] = field(default_factory=dict)
    """Who answers on a host where a request names no model, sorted by host."""
    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    """By name, sorted."""
    doors: credentials.Doors = field(default_factory=dict)
    """By host: the public names of the model that answers there."""

    def served_by(self, cluster: str) -> ServedModel | None:
        """Return the model whose requests are sent to a cluster of Envoy."""
        if cluster.startswith(HOST_PREFIX):
            return self.hosts.get(cluster.removeprefix(HOST_PREFIX))
        return self.models.get(cluster.removeprefix(NAME_PREFIX))

    def visible_to(self, consumer: str | None) -> Mapping[str, ServedModel]:
        """Return the models that a consumer may see: those that it may call. None asks for itself: all."""
        if consumer is None:
            return self.models
        known = self.consumers.get(consumer)
        if known is None:
            return {}
        return {name: model for name, model in self.models.items() if known.may_call(name)}


def build(view: View, previous: Snapshot | None = None, activator: Path | None = None) -> Snapshot:
    """Turn a view into a snapshot.

    `activator` is the unix socket for requests to models that may be woken and have no replica.
    A model that is the same in `previous` brings its resources along: only what changed is serialised.
    """
    models, contested_names = _settle("name", ((model.name, model) for model in view.models), sharing.settle)
    hosts, contested_hosts = _settle(
        "host", ((host, model) for model in view.models for host in model.hosts), _oldest
    )
    consumers = {
        consumer.name: consumer
        for consumer in sorted(view.consumers, key=lambda one: (one.name, one.digests, one.models))
    }
    owners, contested_keys = _owners(consumers)
    doors = _doors(models, hosts)
    clusters: dict[str, Resource] = {}
    assignments: dict[str, Resource] = {}
    for cluster_name, settled, before in (
        (name_cluster, models, previous.models if previous is not None else {}),
        (host_cluster, hosts, previous.hosts if previous is not None else {}),
    ):
        for name, model in settled.items():
            key = cluster_name(name)
            known = before.get(name)
            if previous is not None and (known is model or known == model):
                clusters[key] = previous.resources[resources.CLUSTER_TYPE][key]
                assignments[key] = previous.resources[resources.LOAD_ASSIGNMENT_TYPE][key]
            else:
                clusters[key] = _resource(resources.cluster(key))
                assignments[key] = _resource(
                    resources.load_assignment(key, model, activator if model.from_zero else None)
                )
    return Snapshot(
        models,
        {
            resources.EXTENSION_TYPE: _extensions(consumers, owners, doors, previous),
            resources.CLUSTER_TYPE: clusters,
            resources.LOAD_ASSIGNMENT_TYPE: assignments,
        },
        contested_names + contested_hosts + contested_keys,
        hosts,
        consumers,
        doors,
    )


def refusing(snapshot: Snapshot, debts: Mapping[str, Debt]) -> Snapshot:
    """Return the snapshot with those refused that owe tokens, by consumer."""
    extensions = {
        **snapshot.resources[resources.EXTENSION_TYPE],
        TOKENS_FILTER: _resource(limiting.tokens(debts)),
    }
    return replace(snapshot, resources={**snapshot.resources, resources.EXTENSION_TYPE: extensions})


def changed(old: Resources, new: Resources) -> set[str]:
    """Name what was added, changed or removed between two states of one type."""
    names = old.keys() - new.keys()
    for name, resource in new.items():
        before = old.get(name)
        if before is not resource and before != resource:  # what was carried over is the same object
            names.add(name)
    return names


def _settle(
    what: Literal["name", "host"],
    claimed: Iterable[tuple[str, ServedModel]],
    settle: Callable[[str, Sequence[ServedModel]], tuple[ServedModel, tuple[str, ...]]],
) -> tuple[dict[str, ServedModel], tuple[Contest, ...]]:
    """Say who has each public name, or each host, sorted by what it is.

    `settle` is told the claimants, the oldest first, and returns what is served and who claims it in vain.
    """
    claims: defaultdict[str, list[ServedModel]] = defaultdict(list)
    for name, model in claimed:
        claims[name].append(model)
    settled: dict[str, ServedModel] = {}
    contests: list[Contest] = []
    for name, claimants in sorted(claims.items()):
        claimants.sort(key=_seniority)
        settled[name], losers = settle(name, claimants)
        if losers:
            contests.append(Contest(name, claimants[0].model, losers, what))
    return settled, tuple(contests)


def _oldest(_: str, claimants: Sequence[ServedModel]) -> tuple[ServedModel, tuple[str, ...]]:
    """Give a host to the oldest: hosts are not shared."""
    oldest = claimants[0]
    return oldest, tuple(sorted({claimant.model for claimant in claimants} - {oldest.model}))


def _owners(consumers: Mapping[str, Consumer]) -> tuple[dict[str, str], tuple[Contest, ...]]:
    """Give each key to the first consumer that has it: Envoy refuses all keys where one stands twice."""
    claims: defaultdict[str, list[str]] = defaultdict(list)
    for name, consumer in consumers.items():
        for digest in dict.fromkeys(consumer.digests):
            claims[digest].append(name)
    contests = tuple(
        Contest(digest[:SHOWN_DIGITS], names[0], tuple(names[1:]), "key")
        for digest, names in sorted(claims.items())
        if len(names) > 1
    )
    return {digest: names[0] for digest, names in claims.items()}, contests


def _doors(models: Mapping[str, ServedModel], hosts: Mapping[str, ServedModel]) -> credentials.Doors:
    """Say under which public names the model of each host is known."""
    names: dict[str, set[str]] = {model.model: set() for model in hosts.values()}
    if names:
        for name, model in models.items():
            for part in model.parts:
                if part.model.model in names:
                    names[part.model.model].add(name)
    return {host: frozenset(names[model.model]) for host, model in hosts.items()}


def _extensions(
    consumers: Mapping[str, Consumer],
    owners: Mapping[str, str],
    doors: credentials.Doors,
    previous: Snapshot | None,
) -> Resources:
    if previous is not None and consumers == previous.consumers and doors == previous.doors:
        return previous.resources[resources.EXTENSION_TYPE]
    return {
        KEYS_FILTER: _resource(credentials.keys(owners)),
        GRANTS_FILTER: _resource(credentials.grants(consumers.values(), doors)),
        LIMITS_FILTER: _resource(limiting.requests(_requests_per_minute(consumers))),
        TOKENS_FILTER: _resource(limiting.tokens({})),
    }


def _requests_per_minute(consumers: Mapping[str, Consumer]) -> dict[str, int]:
    return {
        name: consumer.requests_per_minute
        for name, consumer in consumers.items()
        if consumer.requests_per_minute is not None
    }


def _seniority(model: ServedModel) -> tuple[object, ...]:
    """Order claims as `rerank_api.names.seniority` does; the rest only makes the order total.

    `namespace/name` is compared by its parts: as one text, `a-b/x` would come before `a/x`.
    """
    namespace, _, name = model.model.rpartition("/")
    progress = -1.0 if model.progress is None else model.progress
    weight = -1 if model.weight is None else model.weight
    told = (model.name, model.state, model.message, progress, str(model.facts))
    rest = (*told, model.endpoints, model.hosts, model.from_zero, weight)
    return (model.created, namespace, name, *rest)


def _resource(
    message: resources.Cluster | resources.ClusterLoadAssignment | credentials.Extension,
) -> Resource:
    body = message.SerializeToString(deterministic=True)
    return Resource(hashlib.blake2s(body, digest_size=8).hexdigest(), body)

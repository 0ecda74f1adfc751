"""A view as everything that Envoy and the listing are told: pure, and cheap where little has changed."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from rerank_gateway import credentials, limiting, resources
from rerank_gateway.auth import GRANTS_FILTER, KEYS_FILTER
from rerank_gateway.budgets import Debt, Kind
from rerank_gateway.claims import Claim, Claims, Contest, difference
from rerank_gateway.clusters import HOST_PREFIX, NAME_PREFIX, host_cluster, name_cluster
from rerank_gateway.limits import DEBTS_FILTER, LIMITS_FILTER
from rerank_gateway.models import Consumer, ServedModel, View
from rerank_gateway.startup import MODELS_FILTER, all_told

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
class Basis:
    """What a snapshot was built from, as the next one needs it."""

    told: tuple[ServedModel, ...] = ()
    names: Claims = field(default_factory=lambda: Claims.none("name"))
    hosts: Claims = field(default_factory=lambda: Claims.none("host"))


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
    basis: Basis = field(default_factory=Basis, compare=False, repr=False)

    def per_minute(self) -> dict[Kind, dict[str, int]]:
        """Return the limits of those consumers that have one, by name."""
        return {
            Kind.REQUESTS: _requests_per_minute(self.consumers),
            Kind.TOKENS: {
                name: consumer.tokens_per_minute
                for name, consumer in self.consumers.items()
                if consumer.tokens_per_minute is not None
            },
        }

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
    basis = Basis() if previous is None else previous.basis
    gone, came = difference(basis.told, view.models)
    names = basis.names.after(_names(gone), _names(came))
    hosts = basis.hosts.after(_hosts(gone), _hosts(came))
    consumers = {
        consumer.name: consumer
        for consumer in sorted(view.consumers, key=lambda one: (one.name, one.digests, one.models))
    }
    owners, contested_keys = _owners(consumers)
    doors = _doors(names.winners, hosts.winners)
    removed: set[str] = set()
    clusters: dict[str, Resource] = {}
    assignments: dict[str, Resource] = {}
    for cluster_name, before, now in (
        (name_cluster, basis.names.winners, names.winners),
        (host_cluster, basis.hosts.winners, hosts.winners),
    ):
        removed.update(cluster_name(name) for name in before.keys() - now.keys())
        for name, model in _new(before, now):
            key = cluster_name(name)
            if name not in before or _has_choice(before[name]) != _has_choice(model):
                clusters[key] = _resource(resources.cluster(key, choice=_has_choice(model)))
            assignments[key] = _resource(
                resources.load_assignment(key, model, activator if model.from_zero else None)
            )
    return Snapshot(
        names.winners,
        {
            resources.EXTENSION_TYPE: _extensions(consumers, owners, doors, previous),
            resources.CLUSTER_TYPE: _carried(previous, resources.CLUSTER_TYPE, removed, clusters),
            resources.LOAD_ASSIGNMENT_TYPE: _carried(
                previous, resources.LOAD_ASSIGNMENT_TYPE, removed, assignments
            ),
        },
        names.in_order() + hosts.in_order() + contested_keys,
        hosts.winners,
        consumers,
        doors,
        Basis(view.models, names, hosts),
    )


def refusing(snapshot: Snapshot, debts: Mapping[str, Debt]) -> Snapshot:
    """Return the snapshot with those refused that owe something, by consumer."""
    extensions = {
        **snapshot.resources[resources.EXTENSION_TYPE],
        DEBTS_FILTER: _resource(limiting.debts(debts)),
    }
    return replace(snapshot, resources={**snapshot.resources, resources.EXTENSION_TYPE: extensions})


def changed(old: Resources, new: Resources) -> set[str]:
    """Name what was added, changed or removed between two states of one type."""
    if old is new:
        return set()
    # What was carried over is the same object: looked for first, since it is nearly everything.
    differing = [name for name, resource in new.items() if old.get(name) is not resource]
    return {name for name in differing if old.get(name) != new[name]} | (old.keys() - new.keys())


def _carried(
    previous: Snapshot | None, type_url: str, removed: set[str], new: Mapping[str, Resource]
) -> Resources:
    """Return the resources of one type as they are now: the same object where nothing changed."""
    before = {} if previous is None else previous.resources[type_url]
    if not removed and not new:
        return before
    kept = {**before, **new}
    for name in removed:
        del kept[name]
    return kept


def _names(models: Iterable[ServedModel]) -> Iterator[Claim]:
    return ((model.name, model) for model in models)


def _hosts(models: Iterable[ServedModel]) -> Iterator[Claim]:
    return ((host, model) for model in models for host in model.hosts)


def _new(
    before: Mapping[str, ServedModel], now: Mapping[str, ServedModel]
) -> Iterator[tuple[str, ServedModel]]:
    """Yield what is to be serialised: who is served differently than before, under which name."""
    differing = [(name, model) for name, model in now.items() if before.get(name) is not model]
    return ((name, model) for name, model in differing if before.get(name) != model)


def _has_choice(model: ServedModel) -> bool:
    """Say whether a request has somewhere else to go where one replica cannot be reached."""
    return model.from_zero or len(set(model.endpoints)) > 1


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
        DEBTS_FILTER: _resource(limiting.debts({})),
        MODELS_FILTER: _resource(all_told()),
    }


def _requests_per_minute(consumers: Mapping[str, Consumer]) -> dict[str, int]:
    return {
        name: consumer.requests_per_minute
        for name, consumer in consumers.items()
        if consumer.requests_per_minute is not None
    }


def _resource(
    message: resources.Cluster | resources.ClusterLoadAssignment | credentials.Extension,
) -> Resource:
    body = message.SerializeToString(deterministic=True)
    return Resource(hashlib.blake2s(body, digest_size=8).hexdigest(), body)

"""A view as everything that Envoy and the listing are told: pure, and cheap where little has changed."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rerank_gateway import resources
from rerank_gateway.clusters import host_cluster, name_cluster
from rerank_gateway.models import ServedModel, View


@dataclass(frozen=True)
class Resource:
    """One Envoy resource, serialised; its version is a digest of the bytes, the same on every machine."""

    version: str
    body: bytes


Resources: TypeAlias = Mapping[str, Resource]
"""The resources of one type, by name."""


@dataclass(frozen=True)
class Contest:
    """One public name, or one host, that several RerankModels claim."""

    name: str
    winner: str
    losers: tuple[str, ...]
    what: Literal["name", "host"] = "name"


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


def build(view: View, previous: Snapshot | None = None) -> Snapshot:
    """Turn a view into a snapshot.

    A model that is the same in `previous` brings its resources along: only what changed is serialised.
    """
    models, contested_names = _settle("name", ((model.name, model) for model in view))
    hosts, contested_hosts = _settle("host", ((host, model) for model in view for host in model.hosts))
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
                assignments[key] = _resource(resources.load_assignment(key, model.endpoints))
    return Snapshot(
        models,
        {resources.CLUSTER_TYPE: clusters, resources.LOAD_ASSIGNMENT_TYPE: assignments},
        contested_names + contested_hosts,
        hosts,
    )


def changed(old: Resources, new: Resources) -> set[str]:
    """Name what was added, changed or removed between two states of one type."""
    names = old.keys() - new.keys()
    for name, resource in new.items():
        before = old.get(name)
        if before is not resource and before != resource:  # what was carried over is the same object
            names.add(name)
    return names


def _settle(
    what: Literal["name", "host"], claimed: Iterable[tuple[str, ServedModel]]
) -> tuple[dict[str, ServedModel], tuple[Contest, ...]]:
    """Give each public name, or each host, to the oldest RerankModel that claims it, sorted by what it is."""
    claims: defaultdict[str, list[ServedModel]] = defaultdict(list)
    for name, model in claimed:
        claims[name].append(model)
    settled = {
        name: claimants[0] if len(claimants) == 1 else min(claimants, key=_seniority)
        for name, claimants in sorted(claims.items())
    }
    contests = tuple(
        Contest(name, winner.model, losers, what)
        for name, winner in settled.items()
        if len(claims[name]) > 1
        and (losers := tuple(sorted({claim.model for claim in claims[name]} - {winner.model})))
    )
    return settled, contests


def _seniority(model: ServedModel) -> tuple[object, ...]:
    """Order claims as `rerank_api.names.seniority` does; the rest only makes the order total.

    `namespace/name` is compared by its parts: as one text, `a-b/x` would come before `a/x`.
    """
    namespace, _, name = model.model.rpartition("/")
    progress = -1.0 if model.progress is None else model.progress
    rest = (model.name, model.state, model.message, model.endpoints, progress, model.hosts)
    return (model.created, namespace, name, *rest)


def _resource(message: resources.Cluster | resources.ClusterLoadAssignment) -> Resource:
    body = message.SerializeToString(deterministic=True)
    return Resource(hashlib.blake2s(body, digest_size=8).hexdigest(), body)

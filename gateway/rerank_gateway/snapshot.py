"""A view as everything that Envoy and the listing are told: pure, and cheap where little has changed."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rerank_gateway import resources
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
    """One public name that several RerankModels claim."""

    name: str
    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """What is served at one moment. Equal views give equal snapshots, whatever order they are told in."""

    models: Mapping[str, ServedModel]
    """By public name, sorted."""
    resources: Mapping[str, Resources]
    """By type URL."""
    contests: tuple[Contest, ...] = ()


def build(view: View, previous: Snapshot | None = None) -> Snapshot:
    """Turn a view into a snapshot.

    A model that is the same in `previous` brings its resources along: only what changed is serialised.
    """
    models, contests = _settle(view)
    clusters: dict[str, Resource] = {}
    assignments: dict[str, Resource] = {}
    for name, model in models.items():
        key = resources.cluster_name(name)
        if previous is not None and previous.models.get(name) == model:
            clusters[key] = previous.resources[resources.CLUSTER_TYPE][key]
            assignments[key] = previous.resources[resources.LOAD_ASSIGNMENT_TYPE][key]
        else:
            clusters[key] = _resource(resources.cluster(model))
            assignments[key] = _resource(resources.load_assignment(model))
    return Snapshot(
        models, {resources.CLUSTER_TYPE: clusters, resources.LOAD_ASSIGNMENT_TYPE: assignments}, contests
    )


def changed(old: Resources, new: Resources) -> set[str]:
    """Name what was added, changed or removed between two states of one type."""
    names = old.keys() - new.keys()
    for name, resource in new.items():
        before = old.get(name)
        if before is not resource and before != resource:  # what was carried over is the same object
            names.add(name)
    return names


def _settle(view: View) -> tuple[dict[str, ServedModel], tuple[Contest, ...]]:
    """Give each public name to the oldest RerankModel that claims it, sorted by public name."""
    claims: defaultdict[str, list[ServedModel]] = defaultdict(list)
    for model in view:
        claims[model.name].append(model)
    models = {
        name: claimants[0] if len(claimants) == 1 else min(claimants, key=_seniority)
        for name, claimants in sorted(claims.items())
    }
    contests = tuple(
        Contest(
            name, winner.model, tuple(sorted(claim.model for claim in claims[name] if claim is not winner))
        )
        for name, winner in models.items()
        if len(claims[name]) > 1
    )
    return models, contests


def _seniority(model: ServedModel) -> tuple[object, ...]:
    """Order claims by age, then name; the rest only makes the order total."""
    progress = -1.0 if model.progress is None else model.progress
    return (model.created, model.model, model.state, model.message, sorted(model.endpoints), progress)


def _resource(message: resources.Cluster | resources.ClusterLoadAssignment) -> Resource:
    body = message.SerializeToString(deterministic=True)
    return Resource(hashlib.blake2s(body, digest_size=8).hexdigest(), body)

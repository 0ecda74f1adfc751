"""What kopf is told to watch. A handler only notes what it heard and puts keys into the queue."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from rerank_api.names import MODEL_LABEL
from rerank_operator.desired.host import MANAGED_BY
from rerank_operator.keys import (
    BUDGET,
    DEPLOYMENT,
    INGRESS,
    MODEL,
    POD,
    ROUTE,
    SERVICE,
    SLICE,
    Kind,
    Manifest,
)
from rerank_operator.settings import Settings

Heard = Callable[[str | None, Manifest], None]
"""Told the type of the event (ADDED, MODIFIED, DELETED, or None for what a list held) and the object."""


def watched(settings: Settings) -> Iterator[Kind]:
    """Yield the kinds to watch: models, and what is built for them."""
    yield from (MODEL, DEPLOYMENT, SERVICE, BUDGET, POD)
    # The Gateway API is not in every cluster; an Ingress always is.
    yield from (ROUTE,) if settings.ingress.kind == "HTTPRoute" else (INGRESS, SLICE)


def label_selector(kind: Kind) -> str | None:
    """Return which objects of a kind are watched; None means all."""
    if kind is MODEL:
        return None
    # Kubernetes copies the label to the EndpointSlices that it makes of our Services.
    return f"{MODEL_LABEL},{MANAGED_BY}=rerank-operator" if kind is SLICE else MODEL_LABEL


def registry(settings: Settings, heard: Heard) -> kopf.OperatorRegistry:
    """Return kopf's handlers: `on.event` alone, which needs no finalizers and leaves no marks on objects."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry, id="log-in")(_log_in)
    for kind in watched(settings):
        _watch(registry, kind, heard)
    return registry


def framework_settings(settings: Settings) -> kopf.OperatorSettings:
    """Return kopf's own settings: no events, no scanning for resources, labelled objects only.

    The labels are matched by the API server, which tells of an object that loses its label as of one that is
    gone. kopf's own filter would hide that.
    """
    framework = kopf.OperatorSettings()
    framework.posting.enabled = False
    framework.scanning.disabled = True
    framework.queueing.exit_timeout = 1.0
    for kind in watched(settings):
        if (selector := label_selector(kind)) is not None:
            framework.watching.label_selectors[functools.partial(_is, kind)] = selector
    return framework


def _is(kind: Kind, resource: kopf.Resource) -> bool:
    return (resource.group, resource.plural) == (kind.group, kind.plural)


def _log_in(**given: Any) -> kopf.ConnectionInfo | None:
    """Use the pod's service account, or a kubeconfig where there is none."""
    return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)


def _watch(registry: kopf.OperatorRegistry, kind: Kind, heard: Heard) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"hear-{kind.plural}")
    async def hear(event: Any, **_: Any) -> None:
        # A list leaves these two fields out of its items.
        heard(event["type"], {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]})

"""What shall exist for a model: pure builders, one file a kind."""

from collections.abc import Iterator
from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.budget import budget
from rerank_operator.desired.deployment import deployment
from rerank_operator.desired.host import host
from rerank_operator.desired.service import service
from rerank_operator.settings import Settings

__all__ = ["manifests"]


def manifests(
    model: Model, settings: Settings, gateway_address: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield every object that shall exist for a model, the Deployment first."""
    yield deployment(model, settings.server)
    yield service(model)
    if model.replicas >= 2:
        yield budget(model)
    if model.manifest.spec.ingress is not None:
        name = model.manifest.spec.ingress.host
        yield from host(model, name, settings.gateway, settings.ingress, gateway_address)

"""Objects as Kubernetes tells them."""

from collections.abc import Callable
from typing import Any

import pytest

Json = dict[str, Any]


def rerank_model(
    name: str = "bge", namespace: str = "rag", *, names: object = None, host: object = None, **fields: Any
) -> Json:
    """A RerankModel; `metadata` is added to its own, `status` is its status."""
    spec: Json = {"source": {"package": {"name": "x"}}}
    if names is not None:
        spec["names"] = names
    if host is not None:
        spec["ingress"] = {"host": host}
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "1",
    }
    raw: Json = {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": metadata | fields.pop("metadata", {}),
        "spec": spec | fields.pop("spec", {}),
    }
    return raw | fields


def endpoint_slice(
    name: str = "bge-1",
    *addresses: str,
    model: object = "bge",
    service: object = None,
    namespace: str = "rag",
    conditions: object = None,
    ports: object = None,
    **fields: Any,
) -> Json:
    """An EndpointSlice with ready endpoints, all with the same conditions."""
    ready = {"ready": True, "serving": True, "terminating": False}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "rerank.dev/model": model,
                "kubernetes.io/service-name": model if service is None else service,
            },
            "resourceVersion": "1",
        },
        "addressType": "IPv6" if addresses and ":" in addresses[0] else "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}] if ports is None else ports,
        "endpoints": [
            {"addresses": [address], "conditions": ready if conditions is None else conditions}
            for address in addresses
        ],
    } | fields


@pytest.fixture(name="rerank_model", scope="session")
def _rerank_model() -> Callable[..., Json]:
    return rerank_model


@pytest.fixture(name="endpoint_slice", scope="session")
def _endpoint_slice() -> Callable[..., Json]:
    return endpoint_slice

"""A model's own host: an Ingress or an HTTPRoute to the gateway, which sends it to the model.

The gateway knows by the model's `spec.ingress.host` what the host's default is, so nothing here names it.
"""

from collections.abc import Iterator
from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.metadata import owned
from rerank_operator.keys import INGRESS, ROUTE, SERVICE
from rerank_operator.settings import GatewaySettings, IngressSettings, ParentReference

GATEWAY_SUFFIX = "-gateway"
"""Ends the name of the Service that stands for the gateway in another namespace. A model's name has at most
63 characters, so that name can be too long: `alias_name` cuts it."""


def host(model: Model, name: str, gateway: GatewaySettings, ingress: IngressSettings) -> Iterator[Any]:
    """Build what makes a host reach the gateway."""
    if ingress.kind == "HTTPRoute":
        yield _route(model, name, gateway, ingress)
        return
    backend = gateway.service
    if gateway.namespace != model.key.namespace:
        backend = alias_name(model)
        yield _alias(model, backend, gateway)
    yield _ingress(model, name, backend, gateway.port, ingress)


def alias_name(model: Model) -> str:
    """Name the Service that stands for the gateway in the model's namespace."""
    return model.key.name[: 63 - len(GATEWAY_SUFFIX)].rstrip("-") + GATEWAY_SUFFIX


def _alias(model: Model, name: str, gateway: GatewaySettings) -> dict[str, Any]:
    """An Ingress can only name a Service beside it: this one is another name for the gateway's."""
    spec = {
        "type": "ExternalName",
        "externalName": f"{gateway.service}.{gateway.namespace}.svc.cluster.local",
        "ports": [{"name": "http", "port": gateway.port, "protocol": "TCP", "targetPort": gateway.port}],
    }
    manifest = owned(SERVICE, model, {"spec": spec})
    manifest["metadata"]["name"] = name
    return manifest


def _ingress(model: Model, name: str, backend: str, port: int, ingress: IngressSettings) -> dict[str, Any]:
    service = {"name": backend, "port": {"number": port}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    spec: dict[str, Any] = {"rules": [{"host": name, "http": {"paths": [path]}}]}
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret is not None:
        spec["tls"] = [{"hosts": [name], "secretName": ingress.tls_secret}]
    return owned(INGRESS, model, {"spec": spec}, dict(ingress.annotations))


def _route(model: Model, name: str, gateway: GatewaySettings, ingress: IngressSettings) -> dict[str, Any]:
    backend = {
        "group": "",
        "kind": "Service",
        "name": gateway.service,
        "namespace": gateway.namespace,
        "port": gateway.port,
        "weight": 1,
    }
    spec = {
        "parentRefs": [_parent(parent, gateway.namespace) for parent in ingress.parent_refs],
        "hostnames": [name],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [backend],
            }
        ],
    }
    return owned(ROUTE, model, {"spec": spec}, dict(ingress.annotations))


def _parent(parent: ParentReference, namespace: str) -> dict[str, Any]:
    reference: dict[str, Any] = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": parent.name,
        "namespace": parent.namespace or namespace,
    }
    if parent.section_name is not None:
        reference["sectionName"] = parent.section_name
    if parent.port is not None:
        reference["port"] = parent.port
    return reference

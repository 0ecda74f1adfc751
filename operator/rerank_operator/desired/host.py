"""A model's own host: an Ingress or an HTTPRoute to the gateway, which sends it to the model.

The gateway knows by the model's `spec.ingress.host` what the host's default is, so nothing here names it.
"""

from collections.abc import Iterator
from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.metadata import digest, owned
from rerank_operator.keys import INGRESS, ROUTE, SERVICE, SLICE
from rerank_operator.settings import GatewaySettings, IngressSettings, ParentReference

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
"""Label that tells our EndpointSlices from those that Kubernetes makes of Services."""


def host(
    model: Model, name: str, gateway: GatewaySettings, ingress: IngressSettings, address: str | None
) -> Iterator[Any]:
    """Build what makes a host reach the gateway.

    An Ingress can only name a Service beside it. In another namespace than the gateway's it names one that
    has the gateway's own address for its only endpoint: ingress controllers dial endpoints themselves.
    `address` is that of the gateway's Service, and needed where `needs_address` says so.
    """
    if ingress.kind == "HTTPRoute":
        yield _route(model, name, gateway, ingress)
        return
    backend = gateway.service
    if needs_address(model, gateway, ingress):
        if address is None:
            return
        backend = f"{model.key.name[:40].rstrip('-')}-gateway-{digest(model.key.name)[:8]}"
        yield _alias(model, backend, gateway)
        yield _alias_slice(model, backend, gateway, address)
    yield _ingress(model, name, backend, gateway.port, ingress)


def needs_address(model: Model, gateway: GatewaySettings, ingress: IngressSettings) -> bool:
    """Say whether the gateway's Service has to be stood for in the model's namespace."""
    has_host = model.manifest.spec.ingress is not None
    return has_host and ingress.kind == "Ingress" and gateway.namespace != model.key.namespace


def _alias(model: Model, name: str, gateway: GatewaySettings) -> dict[str, Any]:
    port = {**_port(gateway), "targetPort": gateway.port}
    spec = {"type": "ClusterIP", "clusterIP": "None", "ports": [port]}
    return owned(SERVICE, model, {"spec": spec}, name=name)


def _alias_slice(model: Model, name: str, gateway: GatewaySettings, address: str) -> dict[str, Any]:
    content = {
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [_port(gateway)],
    }
    labels = {"kubernetes.io/service-name": name, MANAGED_BY: "rerank-operator"}
    return owned(SLICE, model, content, name=name, more_labels=labels)


def _port(gateway: GatewaySettings) -> dict[str, Any]:
    """Return the gateway's port. Controllers read its name, or `appProtocol`, to know that TLS is spoken."""
    port = {"name": gateway.scheme, "port": gateway.port, "protocol": "TCP"}
    return port if gateway.scheme == "http" else {**port, "appProtocol": "https"}


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
                **({"timeouts": {"request": ingress.timeout}} if ingress.timeout else {}),
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

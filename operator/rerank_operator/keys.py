"""Which model a thing is about, and what an object in the cluster is called."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from rerank_api.names import MODEL_LABEL

Manifest: TypeAlias = Mapping[str, Any]
"""An object as the API server reads or writes it."""


class Key(NamedTuple):
    """A namespace and a name: a RerankModel, or the place of another object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Kind(NamedTuple):
    """One kind of object, and where the API server has it."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """Return what stands in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the path of an object, or of all in a namespace, or of all in the cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        within = "" if namespace is None else f"/namespaces/{namespace}"
        return f"{root}{within}/{self.plural}" + ("" if name is None else f"/{name}")


MODEL = Kind("rerank.dev", "v1alpha1", "RerankModel", "rerankmodels")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
SERVICE = Kind("", "v1", "Service", "services")
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
INGRESS = Kind("networking.k8s.io", "v1", "Ingress", "ingresses")
ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")
SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
POD = Kind("", "v1", "Pod", "pods")
CORE_EVENT = Kind("", "v1", "Event", "events")
"""The older face of the same objects, which can be searched by the pod's uid."""
EVENT = Kind("events.k8s.io", "v1", "Event", "events")

OWNED = (DEPLOYMENT, SERVICE, BUDGET, INGRESS, ROUTE, SLICE)
"""What the operator makes and mends."""

KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in (MODEL, POD, *OWNED)}


def key_of(manifest: Manifest) -> Key | None:
    """Return the model that an object is about: itself, or what its label names."""
    metadata = manifest["metadata"]
    if manifest.get("kind") == MODEL.kind:
        return Key(metadata["namespace"], metadata["name"])
    name = (metadata.get("labels") or {}).get(MODEL_LABEL)
    return Key(metadata["namespace"], name) if name else None


def owner_uid(manifest: Manifest) -> str | None:
    """Return the uid of the RerankModel that controls an object; None where there is none."""
    owner = _owner(manifest)
    return None if owner is None else str(owner["uid"])


def owner_name(manifest: Manifest) -> str | None:
    """Return the name of the RerankModel that controls an object; None where there is none."""
    owner = _owner(manifest)
    return None if owner is None else str(owner["name"])


def _owner(manifest: Manifest) -> Manifest | None:
    for owner in manifest["metadata"].get("ownerReferences") or ():
        if owner.get("controller") and owner.get("kind") == MODEL.kind:
            found: Manifest = owner
            return found
    return None

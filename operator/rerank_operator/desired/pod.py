"""The pod template: one server, its manifest, its model's files, and what the author adds."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from rerank_api.pod import Cache
from rerank_api.source import ClaimSource, HostPathSource, HuggingFaceSource
from rerank_operator.accept import Model, mounted, server_manifest
from rerank_operator.desired.metadata import digest, labels
from rerank_operator.observed import CONTAINER, FINGERPRINT
from rerank_operator.settings import ServerSettings

PORT = 8000
PORT_NAME = "http"
USER = 65532
"""The image's user; the group of its volumes."""

MANIFEST = "rerank.dev/manifest"
"""Annotation that holds the server's manifest. It is part of the template: a changed manifest rolls out, and
a pod never reads another version's."""

LEAVE_S = 5
"""Seconds that a pod still answers after it was told to end: gateways need some to hear of it."""
DRAIN_S = 300
"""Seconds that it then has for what it has admitted; the server's own bound."""
START_S = 600
"""Seconds that the process has until it answers at all. A download counts not: it is told in /status."""

_CACHE = "/var/cache/rerank"
_CONFIG = "/etc/rerank"
_CLAIM_MOUNT = "/model"


def pod_template(model: Model, server: ServerSettings) -> dict[str, Any]:
    """Build it. The author's labels and annotations never replace ours, nor their volumes our mounts."""
    template = model.template
    volumes, mounts = _volumes(model)
    built = {
        "metadata": {
            "labels": {**template.labels, **labels(model)},
            "annotations": {**template.annotations, MANIFEST: server_manifest(model.manifest)},
        },
        "spec": {
            "containers": [_container(model, server, mounts)],
            "volumes": [*map(_dumped, template.volumes), *volumes],
            "securityContext": _pod_security(model),
            "terminationGracePeriodSeconds": LEAVE_S + DRAIN_S + 10,
            # A server asks nothing of the API server, and reads no addresses of Services.
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **_placement(model, server),
        },
    }
    built["metadata"]["annotations"][FINGERPRINT] = digest(built)
    return built


def _container(model: Model, server: ServerSettings, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    template = model.template
    arguments = ["--manifest", f"{_CONFIG}/model.json", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104
    return {
        "name": CONTAINER,
        "image": template.image or server.image,
        "imagePullPolicy": template.image_pull_policy or server.image_pull_policy,
        "args": [*arguments, "--cache-dir", _CACHE],
        "env": _environment(model, server),
        **_given(envFrom=[_dumped(one) for one in template.env_from]),
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(model),
        "volumeMounts": [*map(_dumped, template.volume_mounts), *mounts],
        "startupProbe": _probe("/livez", every=2, failures=START_S // 2),
        "livenessProbe": _probe("/livez", every=10, failures=6),
        "readinessProbe": _probe("/readyz", every=2, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
        "securityContext": _container_security(model),
        # The kubelet then keeps the last lines of a server that failed, and the status can show them.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(model: Model, server: ServerSettings) -> list[dict[str, Any]]:
    """Return the variables, each once: the author's over the model's token, then the chart's, then ours."""
    ours = {"name": "HOME", "value": "/tmp"}  # noqa: S108  # a volume
    given = [ours, *map(_dumped, server.env), *_token(model), *map(_dumped, model.template.env)]
    return list({one["name"]: one for one in given}.values())


def _token(model: Model) -> Iterator[dict[str, Any]]:
    source = model.manifest.spec.source.chosen
    if isinstance(source, HuggingFaceSource) and source.token_secret is not None:
        reference = {"name": source.token_secret.name, "key": source.token_secret.key}
        yield {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}


def _volumes(model: Model) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes that every server needs, those of its source, and where they are mounted."""
    manifest_file = {"path": "model.json", "fieldRef": {"fieldPath": f"metadata.annotations['{MANIFEST}']"}}
    volumes: list[dict[str, Any]] = [
        {"name": "rerank-manifest", "downwardAPI": {"items": [manifest_file]}},
        {"name": "rerank-tmp", "emptyDir": {}},
        {"name": "rerank-cache", **_cache(model.manifest.spec.cache)},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "rerank-manifest", "mountPath": _CONFIG, "readOnly": True},
        {"name": "rerank-tmp", "mountPath": "/tmp"},  # noqa: S108  # a volume of the pod's own
        {"name": "rerank-cache", "mountPath": _CACHE},
    ]
    match model.manifest.spec.source.chosen:
        case ClaimSource(claim=claim):
            volumes.append(
                {"name": "rerank-model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            )
            mounts.append({"name": "rerank-model", "mountPath": _CLAIM_MOUNT, "readOnly": True})
        case HostPathSource(path=path):
            volumes.append({"name": "rerank-model", "hostPath": {"path": path, "type": "Directory"}})
            mounts.append({"name": "rerank-model", "mountPath": mounted(path), "readOnly": True})
        case _:
            pass
    return volumes, mounts


def _cache(cache: Cache | None) -> dict[str, Any]:
    match cache:
        case Cache(claim=str(claim)):
            return {"persistentVolumeClaim": {"claimName": claim}}
        case Cache(host_path=str(path)):
            return {"hostPath": {"path": path, "type": "DirectoryOrCreate"}}
        case Cache(empty_dir=scratch) if scratch is not None:
            return {"emptyDir": _dumped(scratch)}
        case _:
            return {"emptyDir": {}}


def _placement(model: Model, server: ServerSettings) -> dict[str, Any]:
    template = model.template
    return _given(
        imagePullSecrets=[_dumped(one) for one in (*server.image_pull_secrets, *template.image_pull_secrets)],
        serviceAccountName=template.service_account_name,
        runtimeClassName=template.runtime_class_name,
        priorityClassName=template.priority_class_name,
        schedulerName=template.scheduler_name,
        nodeSelector=dict(template.node_selector),
        tolerations=[_dumped(one) for one in template.tolerations],
        affinity=template.affinity,
        topologySpreadConstraints=[_dumped(one) for one in template.topology_spread_constraints],
        resourceClaims=[_dumped(one) for one in template.resource_claims],
        terminationGracePeriodSeconds=template.termination_grace_period_seconds,
    )


def _resources(model: Model) -> dict[str, Any]:
    asked = model.resources
    return _given(
        limits=dict(asked.limits),
        requests=dict(asked.requests),
        claims=[_dumped(claim) for claim in asked.claims],
    )


def _pod_security(model: Model) -> dict[str, Any]:
    ours = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {**ours, **(model.template.pod_security_context or {})}


def _container_security(model: Model) -> dict[str, Any]:
    ours = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {**ours, **(model.template.security_context or {})}


def _probe(path: str, *, every: int, failures: int) -> dict[str, Any]:
    """Ask over HTTP. The time-out is long because one process both answers and computes."""
    return {
        "httpGet": {"path": path, "port": PORT_NAME},
        "periodSeconds": every,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _dumped(value: object) -> Any:
    """Return a value as the API server reads it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return value


def _given(**fields: Any) -> dict[str, Any]:
    """Return the fields that say something: None and what is empty are left out. 0 says something."""
    return {name: value for name, value in fields.items() if value is not None and value not in ({}, [])}

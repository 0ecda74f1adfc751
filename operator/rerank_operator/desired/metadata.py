"""What all objects of a model have in common."""

import hashlib
import json
from typing import Any

from rerank_api.names import MODEL_LABEL
from rerank_operator.accept import Model
from rerank_operator.keys import MODEL, Kind

DIGEST = "rerank.dev/desired"
"""Annotation of every object: a digest of what it was made from. Where it differs, something may have to be
taken away that the object still has, which a comparison of fields alone would not find."""


def labels(model: Model) -> dict[str, str]:
    """Return the labels of an object, as Kubernetes recommends them, and the one that we find it by."""
    return {
        "app.kubernetes.io/name": "rerank-server",
        "app.kubernetes.io/instance": model.key.name,
        "app.kubernetes.io/managed-by": "rerank-operator",
        **selector(model),
    }


def selector(model: Model) -> dict[str, str]:
    """Return the labels that pods are found by. It can never change, so no user's label is in it."""
    return {MODEL_LABEL: model.key.name}


def owned(
    kind: Kind,
    model: Model,
    content: dict[str, Any],
    annotations: dict[str, str] | None = None,
    *,
    name: str | None = None,
    more_labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return an object, of the model's name by default, that goes when the model goes."""
    manifest: dict[str, Any] = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name or model.key.name,
            "namespace": model.key.namespace,
            "labels": {**labels(model), **(more_labels or {})},
            "annotations": dict(annotations or {}),
            "ownerReferences": [
                {
                    "apiVersion": MODEL.api_version,
                    "kind": MODEL.kind,
                    "name": model.key.name,
                    "uid": model.uid,
                    "controller": True,
                    # True would ask for the right to set finalizers on models.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        **content,
    }
    manifest["metadata"]["annotations"][DIGEST] = digest(manifest)
    return manifest


def digest(value: object) -> str:
    """Return a digest of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

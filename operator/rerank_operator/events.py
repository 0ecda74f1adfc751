"""What a model's author is told once, beside the status: one event for each thing that happens to a model."""

from datetime import datetime
from typing import Any

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ConditionType, ModelState
from rerank_operator.desired.metadata import digest
from rerank_operator.keys import EVENT, MODEL, Key
from rerank_operator.pods import Reason

CONTROLLER = "rerank.dev/operator"
_PASSING = frozenset(
    {
        Reason.DOWNLOADING, Reason.DRAINING, Reason.LOADING, Reason.NOT_CREATED, Reason.ROLLING_OUT,
        Reason.STARTING, Reason.VERIFYING, Reason.WAITING_FOR_PODS,
    }
)  # fmt: skip
"""What passes by itself: the status alone tells of it."""
_LONGEST_NOTE = 1024
"""Bytes that the API server takes (validation.NoteLengthLimit of k8s.io/kubernetes/pkg/apis/core)."""


def event(
    key: Key,
    uid: str,
    before: RerankModelStatus,
    after: RerankModelStatus,
    *,
    generation: int,
    instance: str,
    now: datetime,
) -> dict[str, Any] | None:
    """Return the event for a change of status that is worth one: it is ready, it fails, it waits for others.

    Its name says what happened to which version of the model. The API server keeps an event for an hour and
    refuses a second of the same name, so what comes and goes in between, as a crash does, is told once.
    """
    reason = _reason(after)
    if reason is None or reason == _reason(before) or after.state is None:
        return None
    known = digest([uid, generation, reason])
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{key.name[:200]}.{known}", "namespace": key.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Normal" if after.state in {ModelState.READY, ModelState.IDLE} else "Warning",
        "reason": reason,
        "action": "Reconcile",
        "note": (after.message or "").encode()[:_LONGEST_NOTE].decode(errors="ignore"),
        "regarding": {
            "apiVersion": MODEL.api_version,
            "kind": MODEL.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
        },
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
    }


def _reason(status: RerankModelStatus) -> str | None:
    """Return the reason for which a status is worth an event."""
    ready = next((one for one in status.conditions if one.type is ConditionType.READY), None)
    if ready is None:
        return None
    passes = ready.reason in _PASSING and status.state not in {ModelState.READY, ModelState.FAILED}
    return None if passes else ready.reason

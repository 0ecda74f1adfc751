"""The Deployment: as many servers as the model wants, by default replaced one by one and never below that."""

from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.metadata import owned, selector
from rerank_operator.desired.pod import pod_template
from rerank_operator.keys import DEPLOYMENT
from rerank_operator.settings import ServerSettings

PROGRESS_DEADLINE_S = 24 * 3600
"""After this `kubectl rollout status` gives up. A first download may take hours; status says how it goes."""


def deployment(model: Model, server: ServerSettings) -> dict[str, Any]:
    """Build it. By default a replacement is ready before what it replaces is stopped."""
    rollout = {"maxSurge": server.rollout.max_surge, "maxUnavailable": server.rollout.max_unavailable}
    spec = {
        "replicas": model.replicas,
        "selector": {"matchLabels": selector(model)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": rollout},
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
        "template": pod_template(model, server),
    }
    return owned(DEPLOYMENT, model, {"spec": spec})

"""The PodDisruptionBudget: while nodes are drained, one replica at a time may be away."""

from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.metadata import owned, selector
from rerank_operator.keys import BUDGET


def budget(model: Model) -> dict[str, Any]:
    """Build it. A replica that is not ready does not hold a node up."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(model)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return owned(BUDGET, model, {"spec": spec})

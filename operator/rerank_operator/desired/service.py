"""The Service: it has no address of its own, and exists for its EndpointSlices, which gateways dial."""

from typing import Any

from rerank_operator.accept import Model
from rerank_operator.desired.metadata import owned, selector
from rerank_operator.desired.pod import PORT_NAME
from rerank_operator.keys import SERVICE


def service(model: Model) -> dict[str, Any]:
    """Build it."""
    spec = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": selector(model),
        "ports": [{"name": PORT_NAME, "port": 80, "protocol": "TCP", "targetPort": PORT_NAME}],
    }
    return owned(SERVICE, model, {"spec": spec})

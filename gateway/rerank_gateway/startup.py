"""What an Envoy that asks for no keys waits for before it takes traffic: word that it knows all models.

Envoy begins to listen once the clusters of the first response are ready; of thousands of models the rest
comes later. But it also waits for filters that are told by ECDS, and the agent tells them last (`delta`).
Where keys are asked for there are such filters anyway; elsewhere this one is, which lets everything through.
"""

from typing import Any, Final

from envoy.config.core.v3 import extension_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2

from rerank_gateway.auth import told_by_agent
from rerank_gateway.resources import packed

MODELS_FILTER: Final = "models"
"""Names the filter, and the ECDS resource that it is."""


def waiting_filter() -> dict[str, Any]:
    """Return the filter that Envoy starts with."""
    return told_by_agent(MODELS_FILTER)


def all_told() -> extension_pb2.TypedExtensionConfig:
    """Return what it is told: an RBAC without rules, which refuses nothing."""
    return extension_pb2.TypedExtensionConfig(name=MODELS_FILTER, typed_config=packed(rbac_pb2.RBAC()))

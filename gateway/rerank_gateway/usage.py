"""What an answer cost, and who gave it: from its headers, which no caller sees, to the agent and the log.

Fields: `envoy.extensions.filters.http.header_to_metadata.v3.Config` and
`envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig`.
"""

from typing import Any, Final

from rerank_api.faces import DOCUMENTS_HEADER, MODEL_HEADER, TOKENS_HEADER

NAMESPACE: Final = "rerank.usage"
"""Where Envoy keeps the numbers beside a request, as its dynamic metadata."""

TOKENS: Final = "tokens"
DOCUMENTS: Final = "documents"

OWNER: Final = ("rerank", "model")
"""Namespace and key of each replica's metadata in Envoy: whose it is, as `ServedModel.model` names it."""

SERVED_BY: Final = "served_by"
"""The RerankModel whose replica a request was sent to last, in logs."""

LOGGED_USAGE: Final = {
    SERVED_BY: f"%UPSTREAM_METADATA({':'.join(OWNER)})%",
    DOCUMENTS: f"%DYNAMIC_METADATA({NAMESPACE}:{DOCUMENTS})%",
    TOKENS: f"%DYNAMIC_METADATA({NAMESPACE}:{TOKENS})%",
}
"""Fields of the access log; null where no replica was asked, or ranked anything."""

FLUSH: Final = "0.100s"
"""How long an entry may wait for others before it is sent to the agent."""

STILL_S: Final = 0.5
"""How often Envoy tells of a request that goes on, in seconds: so that long ones count before they end."""
FIRST_WORD_BEFORE_S: Final = 1.75 * STILL_S
"""The first such word comes after `STILL_S` and the second after twice that; from a busy Envoy later, or a
little earlier, since it sets a timer by the time at which it last looked for events."""

_TYPES = "type.googleapis.com/envoy.extensions"

Json = dict[str, Any]

TOLD_WHILE_IT_GOES_ON: Final[Json] = {"access_log_flush_interval": f"{STILL_S:.3f}s"}
"""When access logs are written: each half second, and at the end."""

AT_THE_END: Final[Json] = {"log_type_filter": {"types": ["DownstreamEnd"]}}


def usage_filter() -> Json:
    """Return what takes the numbers out of an answer.

    It stands where the model of a request is known already: it looks the route up, on requests too.
    """
    return {
        "name": "usage",
        "typed_config": {
            "@type": f"{_TYPES}.filters.http.header_to_metadata.v3.Config",
            "response_rules": [
                {
                    "header": header,
                    "on_header_present": {"metadata_namespace": NAMESPACE, "key": key, "type": "NUMBER"},
                    "remove": True,
                }
                for header, key in ((TOKENS_HEADER, TOKENS), (DOCUMENTS_HEADER, DOCUMENTS))
            ],
        },
    }


def usage_log(agent_grpc_cluster: str) -> Json:
    """Return the access log that tells the agent of each request but the health checks.

    It does so at a request's end, and once after `STILL_S` (with `TOLD_WHILE_IT_GOES_ON` for the listener).
    """
    before_ms = {"default_value": round(FIRST_WORD_BEFORE_S * 1000) - 1, "runtime_key": "rerank.still"}
    young: Json = {"duration_filter": {"comparison": {"op": "LE", "value": before_ms}}}
    once: Json = {"or_filter": {"filters": [AT_THE_END, young]}}
    return {
        "name": "usage",
        "filter": {"and_filter": {"filters": [{"not_health_check_filter": {}}, once]}},
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "usage",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": agent_grpc_cluster}},
                "buffer_flush_interval": FLUSH,
                "custom_tags": [_owner_tag()],
            },
            "additional_request_headers_to_log": [MODEL_HEADER],
        },
    }


def _owner_tag() -> Json:
    """Return the tag that says whose replica a request was sent to; none where it was sent to none."""
    namespace, key = OWNER
    where = {"kind": {"host": {}}, "metadata_key": {"key": namespace, "path": [{"key": key}]}}
    return {"tag": SERVED_BY, "metadata": where}

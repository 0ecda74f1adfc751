"""A listener for Prometheus alone: what the agent counts, and Envoy's statistics. Callers have another."""

from typing import Any, Final

from rerank_gateway.metrics import METRICS_PATH

STATS_PATH: Final = "/stats/prometheus"

_TYPES = "type.googleapis.com/envoy.extensions.filters"

Json = dict[str, Any]


def metrics_listener(address: str, port: int, *, agent_cluster: str, admin_cluster: str) -> Json:
    """Return the listener. It lets `GET` through to two paths, of the agent and of Envoy's administration."""
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "request_timeout": "10s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"}},
        ],
        "route_config": {
            "name": "metrics",
            "virtual_hosts": [
                {
                    "name": "metrics",
                    "domains": ["*"],
                    "routes": [
                        _only_get(METRICS_PATH, agent_cluster),
                        _only_get(STATS_PATH, admin_cluster),
                    ],
                }
            ],
        },
    }
    return {
        "name": "metrics",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "enable_reuse_port": False,
        "ignore_global_conn_limit": True,  # it is of use when callers have taken all connections
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _only_get(path: str, cluster: str) -> Json:
    method = {"name": ":method", "string_match": {"exact": "GET"}}
    return {
        "match": {"path": path, "headers": [method]},
        "route": {"cluster": cluster, "timeout": "10s"},
    }

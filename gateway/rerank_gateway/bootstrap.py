"""Envoy's static configuration, as JSON-able values: pure, written once, the same for every set of models.

Clusters and endpoints come from the agent by delta ADS. Fields: envoy.config.bootstrap.v3.Bootstrap.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_api.faces import MAX_BODY_BYTES
from rerank_gateway import sockets
from rerank_gateway.listener import HTTP_STATS, Timeouts, listener
from rerank_gateway.metrics_listener import metrics_listener
from rerank_gateway.tracing import Tracing, cluster, runtime

ADS_CLUSTER = "ads"
AGENT_CLUSTER = "agent"
PAGE_CLUSTER = "page"
ADMIN_CLUSTER = "admin"

_PAGE_LIMITS = {"max_connections": 4, "max_pending_requests": 128}
"""Of the playground, which asks for no key: how many of its files the agent gives at once, and how many
requests wait for that. Each of Envoy's threads may have one more. The agent has one thread, and more to do
than this."""

_HANG_S = 30
"""Seconds after which a thread that does not come round ends Envoy: whoever started it starts it anew."""

_KEPT_STATS = (
    {"prefix": f"http.{HTTP_STATS}."},
    {"prefix": "server."},
    {"prefix": "listener_manager."},
    {"prefix": "cluster_manager."},
    {"prefix": "control_plane."},
    {"suffix": ".membership_healthy"},
    {"suffix": ".membership_total"},
    {"suffix": ".upstream_rq_active"},
    {"suffix": ".upstream_rq_total"},
    {"suffix": ".upstream_rq_retry"},
    {"suffix": ".upstream_rq_5xx"},
)
"""Every cluster has some hundred statistics; thousands of models would fill the memory with them."""

Json = dict[str, Any]


@dataclass(frozen=True)
class BootstrapSettings:
    """What one Envoy is started with.

    `socket_dir` holds the unix sockets: `ads.sock`, `http.sock` and `hold.sock` are the agent's, `admin.sock`
    is Envoy's. Raises ValueError when their paths would be too long for a unix socket.
    """

    listen_address: str
    listen_port: int
    socket_dir: Path
    max_body_bytes: int = MAX_BODY_BYTES
    request_timeout_s: float = 300.0
    """Seconds that a model may take to answer, from the end of the request to the end of the response."""
    receive_timeout_s: float = 60.0
    """Seconds that a caller may take to send a whole request."""
    max_connections: int = 10_000
    """Connections of callers at the same time; one more is closed at once."""
    try_timeout_s: float | None = None
    """Seconds that one replica may take of those; None leaves it all of them. No other is tried then."""
    concurrency: int | None = None
    """Worker threads; None leaves it to Envoy, one a hardware thread. Passed by `arguments`."""
    auth: bool = False
    """Whether callers need the key of a consumer. Without it everybody who reaches the port is served."""
    tls_dir: Path | None = None
    """Where `tls.crt` and `tls.key` are; callers then speak TLS, without it plain HTTP."""
    release_key: str | None = None
    """What the agent says to have a request sent to a replica that it held (`release.key`). Without it such
    requests are refused once they were held."""
    access_log: Path | None = None
    """A file that gets one JSON line a request, without any text of bodies; `/dev/stdout` works."""
    metrics: tuple[str, int] | None = None
    """Address and port where Prometheus finds metrics, without a key or TLS; None opens no such port."""
    tracing: Tracing | None = None
    """Where spans of requests go; None makes none."""

    def __post_init__(self) -> None:
        longest = max((self.ads_socket, self.http_socket, self.admin_socket), key=_bytes)
        if _bytes(longest) > sockets.LONGEST_PATH:
            raise ValueError(
                f"{longest} has {_bytes(longest)} bytes, and a unix socket's path may have "
                f"{sockets.LONGEST_PATH}: choose a directory with a shorter path."
            )

    @property
    def ads_socket(self) -> Path:
        """The agent's delta ADS, over gRPC."""
        return self.socket_dir / sockets.ADS

    @property
    def http_socket(self) -> Path:
        """The agent's HTTP, for the list of models."""
        return self.socket_dir / sockets.HTTP

    @property
    def tls_secret(self) -> Path:
        """What tells Envoy of the certificate: `tls.secret(tls_dir)`, written before Envoy starts."""
        return self.socket_dir / "certificate.json"

    @property
    def hold_socket(self) -> Path:
        """The agent's activator, which holds requests for models at zero."""
        return self.socket_dir / sockets.HOLD

    @property
    def admin_socket(self) -> Path:
        """Envoy's own administration."""
        return self.socket_dir / sockets.ADMIN


def arguments(settings: BootstrapSettings, bootstrap_file: Path) -> list[str]:
    """Return Envoy's command line, without the binary, for a bootstrap written to a file."""
    workers = [] if settings.concurrency is None else ["--concurrency", str(settings.concurrency)]
    return ["--config-path", str(bootstrap_file), "--disable-hot-restart", *workers]


def bootstrap(settings: BootstrapSettings) -> Json:
    """Return Envoy's bootstrap.

    Envoy takes no traffic before the agent has told it every model (no `initial_fetch_timeout`), and keeps
    what it has while the agent is away.
    """
    return {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": _pipe(settings.admin_socket), "ignore_global_conn_limit": True},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": ADS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"}
                            },
                        }
                    }
                ],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "static_resources": {
            "clusters": [
                _local_cluster(ADS_CLUSTER, settings.ads_socket, _keepalive_http2()),
                _local_cluster(AGENT_CLUSTER, settings.http_socket, {"http_protocol_options": {}}),
                {
                    **_local_cluster(PAGE_CLUSTER, settings.http_socket, {"http_protocol_options": {}}),
                    "circuit_breakers": {"thresholds": [_PAGE_LIMITS]},
                },
                *_metrics_clusters(settings),
                *(() if settings.tracing is None else (cluster(settings.tracing),)),
            ],
            "listeners": [
                listener(
                    settings.listen_address,
                    settings.listen_port,
                    Timeouts(settings.request_timeout_s, settings.receive_timeout_s, settings.try_timeout_s),
                    max_body_bytes=settings.max_body_bytes,
                    agent_cluster=AGENT_CLUSTER,
                    page_cluster=PAGE_CLUSTER,
                    agent_grpc_cluster=ADS_CLUSTER,
                    access_log=settings.access_log,
                    auth=settings.auth,
                    tls_secret=None if settings.tls_dir is None else settings.tls_secret,
                    hold_socket=settings.hold_socket,
                    release_key=settings.release_key,
                    tracing=settings.tracing,
                ),
                *_metrics_listeners(settings),
            ],
        },
        **({} if settings.tracing is None else {"layered_runtime": runtime()}),
        "watchdogs": {"main_thread_watchdog": _watchdog(), "worker_watchdog": _watchdog()},
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": list(_KEPT_STATS)}}},
        # What a model costs before it is asked for the first time: neither statistics nor, in each worker
        # thread, connection pools.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "cluster_manager": {"enable_deferred_cluster_creation": True},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": (
                            "type.googleapis.com/envoy.extensions.resource_monitors"
                            ".downstream_connections.v3.DownstreamConnectionsConfig"
                        ),
                        "max_active_downstream_connections": settings.max_connections,
                    },
                }
            ]
        },
    }


def _metrics_clusters(settings: BootstrapSettings) -> list[Json]:
    if settings.metrics is None:
        return []
    return [_local_cluster(ADMIN_CLUSTER, settings.admin_socket, {"http_protocol_options": {}})]


def _metrics_listeners(settings: BootstrapSettings) -> list[Json]:
    if settings.metrics is None:
        return []
    address, port = settings.metrics
    return [metrics_listener(address, port, agent_cluster=AGENT_CLUSTER, admin_cluster=ADMIN_CLUSTER)]


def _watchdog() -> Json:
    return {"kill_timeout": f"{_HANG_S}s"}


def _local_cluster(name: str, socket: Path, protocol: Json) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _pipe(socket)}}]}],
        },
    }


def _keepalive_http2() -> Json:
    """Return HTTP/2 that notices within 35 s when the other side hangs without closing."""
    return {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}}


def _pipe(path: Path) -> Json:
    return {"pipe": {"path": str(path)}}


def _bytes(path: Path) -> int:
    return len(str(path).encode())

"""Spans of requests, sent by Envoy to an OpenTelemetry collector as OTLP over HTTP. Off unless asked for.

Fields: `envoy.config.trace.v3.OpenTelemetryConfig`, `HttpConnectionManager.Tracing` and the samplers of
`envoy.extensions.tracers.opentelemetry.samplers.v3`.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from rerank_api.faces import MODEL_HEADER
from rerank_gateway.auth import LOGGED_CONSUMER
from rerank_gateway.usage import LOGGED_USAGE

SERVICE: Final = "rerank-gateway"
TRACES_CLUSTER: Final = "traces"
TRACES_PATH: Final = "/v1/traces"
"""What OTLP puts behind an endpoint for spans; servers put it there by themselves."""

ALL: Final = 100.0
"""Percent of the requests, where nothing else is said."""

_SPANS_AT_ONCE: Final = 512
_FLUSH_MS: Final = 1_000
_SAMPLERS: Final = "type.googleapis.com/envoy.extensions.tracers.opentelemetry.samplers.v3"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

Json = dict[str, Any]


@dataclass(frozen=True)
class Tracing:
    """Where spans go, and of how many requests. Raises ValueError with what is wrong and what to write."""

    endpoint: str
    """The collector's base URL, as `http://otel-collector.observability:4318`."""
    sampling: float = ALL
    """Percent of the requests whose caller has not decided it in a `traceparent`."""

    def __post_init__(self) -> None:
        wanted = "write the collector's address for OTLP over HTTP, e.g. http://otel-collector:4318"
        try:
            parts = urlsplit(self.endpoint)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"the tracing endpoint {self.endpoint!r} is no URL: {error}: {wanted}") from None
        if parts.scheme == "https":
            raise ValueError(
                f"the tracing endpoint {self.endpoint!r} asks for TLS, which is not spoken to collectors: "
                "run one in the same cluster that takes plain HTTP and passes spans on"
            )
        if parts.scheme != "http" or port == 0 or not host or not _is_host(host):
            raise ValueError(f"the tracing endpoint {self.endpoint!r} is no http URL: {wanted}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                f"the tracing endpoint {self.endpoint!r} holds more than host and path: {wanted}"
            )
        if not 0 <= self.sampling <= 100:
            raise ValueError(f"the tracing sampling {self.sampling:g} is no percentage from 0 to 100")

    @property
    def url(self) -> str:
        """Where spans are sent."""
        return f"{self.endpoint.rstrip('/')}{TRACES_PATH}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the collector."""
        parts = urlsplit(self.endpoint)
        return parts.hostname or "", parts.port or 80


def asked_for(endpoint: str | None, sampling: float | None) -> Tracing | None:
    """Read what a command line says; None makes no spans. Raises ValueError, as `Tracing` does."""
    if endpoint is not None:
        return Tracing(endpoint, ALL if sampling is None else sampling)
    if sampling is not None:
        raise ValueError(
            "--tracing-sampling says of how many requests spans go to a collector, and there is none: "
            "name it with --tracing-endpoint, or leave --tracing-sampling out"
        )
    return None


def connection_manager(tracing: Tracing, *, auth: bool) -> Json:
    """Return the field `tracing` of callers' connections.

    A request is a server span, each try of a replica a client span below it, whose context the replica gets
    as `traceparent`: a held or retried request shows where its time went. Query strings are left out: what
    callers write there is nobody's to know.
    """
    tags = {
        "http.url": "%PATH(NQ:PATH)%",  # over Envoy's own, which has the query string
        "rerank.model": f"%REQ({MODEL_HEADER})%",
        **({"rerank.consumer": LOGGED_CONSUMER} if auth else {}),
        **{f"rerank.{name}": value for name, value in LOGGED_USAGE.items()},
    }
    return {
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": SERVICE,
                "http_service": {
                    "http_uri": {"uri": tracing.url, "cluster": TRACES_CLUSTER, "timeout": "5s"}
                },
                "sampler": _sampler(tracing.sampling),
            },
        },
        "spawn_upstream_span": True,
        "operation": "%REQ(:METHOD)%",
        "upstream_operation": "%REQ(:METHOD)%",
        "custom_tags": [{"tag": tag, "value": value} for tag, value in tags.items()],
    }


def request_id(*, traced: bool) -> Json:
    """Return what request ids mean for spans: nothing, so that one of a caller's own form is traced too."""
    return {"use_request_id_for_trace_sampling": False} if traced else {}


def cluster(tracing: Tracing) -> Json:
    """Return the collector. Envoy starts without waiting for its name to be resolved."""
    host, port = tracing.address
    return {
        "name": TRACES_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "wait_for_warm_on_init": False,
        "load_assignment": {
            "cluster_name": TRACES_CLUSTER,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
                    ]
                }
            ],
        },
    }


def runtime() -> Json:
    """Return how spans are put together: by default Envoy's threads send every fifth."""
    wanted = {
        "tracing.opentelemetry.min_flush_spans": _SPANS_AT_ONCE,
        "tracing.opentelemetry.flush_interval_ms": _FLUSH_MS,
    }
    return {"layers": [{"name": "tracing", "static_layer": wanted}]}


def _sampler(percent: float) -> Json:
    """Follow the caller's decision (W3C's `traceparent`), else take a share of the traces."""
    ratio = {
        "name": "ratio",
        "typed_config": {
            "@type": f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig",
            "sampling_percentage": {"numerator": round(percent * 10_000), "denominator": "MILLION"},
        },
    }
    return {
        "name": "parent",
        "typed_config": {"@type": f"{_SAMPLERS}.ParentBasedSamplerConfig", "wrapped_sampler": ratio},
    }


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True

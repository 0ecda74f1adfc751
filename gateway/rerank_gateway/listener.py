"""The listener that callers connect to, and its routes: static, whatever models there are.

A route picks its cluster by a header that the Lua filter sets, so a new model changes no route.
Fields: envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_api.error_shapes import shape_at
from rerank_api.errors import ErrorCode
from rerank_api.faces import FACE_PATHS, MODEL_HEADER, MODELS_PATH
from rerank_gateway.auth import AUTH_HEADERS, LOGGED_CONSUMER, grant_filter, key_filters, without_key
from rerank_gateway.clusters import CLUSTER_HEADER
from rerank_gateway.limits import limit_filters
from rerank_gateway.local_replies import local_reply_config
from rerank_gateway.paths import HEALTH_PATH, PLAYGROUND_FILES, PROXY_PREFIX
from rerank_gateway.release import RELEASE_HEADER, RETRIES
from rerank_gateway.route_filter import lua_code
from rerank_gateway.startup import waiting_filter
from rerank_gateway.tls import transport_socket
from rerank_gateway.tracing import Tracing, connection_manager, request_id
from rerank_gateway.usage import (
    AT_THE_END,
    LOGGED_USAGE,
    TOLD_WHILE_IT_GOES_ON,
    usage_filter,
    usage_log,
)

HTTP_STATS = "gateway"
"""What the statistics of callers' requests are called: `http.gateway.…`."""

_TYPES = "type.googleapis.com/envoy.extensions"
_HTTP_TYPES = f"{_TYPES}.filters.http"

Json = dict[str, Any]


@dataclass(frozen=True)
class Timeouts:
    """Seconds for a model to answer, for a caller to send a whole request, and for one replica to answer."""

    request_s: float
    receive_s: float
    try_s: float | None = None

    @property
    def answer_s(self) -> float:
        """The seconds after which a caller hears of a replica that does not answer."""
        return self.request_s if self.try_s is None else min(self.request_s, self.try_s)


def listener(
    address: str,
    port: int,
    timeouts: Timeouts,
    *,
    max_body_bytes: int,
    agent_cluster: str,
    page_cluster: str,
    agent_grpc_cluster: str,
    access_log: Path | None,
    auth: bool,
    tls_secret: Path | None,
    hold_socket: Path,
    release_key: str | None,
    tracing: Tracing | None,
) -> Json:
    """Return the listener: HTTP/1.1 and HTTP/2, told apart by ALPN or else by their first bytes.

    At `::` it takes IPv4 too. With `auth` callers are asked for keys. With `tls_secret`, a file that names
    the certificate (`rerank_gateway.tls`), it speaks TLS alone. Who listens on `hold_socket` and knows the
    `release_key` may have a request sent again that it held.
    """
    routes = _routes(timeouts.request_s, agent_cluster, page_cluster)
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": HTTP_STATS,
        "codec_type": "AUTO",
        "early_header_mutation_extensions": [_strip_internal_headers()],
        **_limits(timeouts),
        **_paths(),
        **_identity(traced=tracing is not None),
        **({} if tracing is None else {"tracing": connection_manager(tracing, auth=auth)}),
        "access_log": [
            usage_log(agent_grpc_cluster),
            *(() if access_log is None else (_access_log(access_log, auth=auth),)),
        ],
        "access_log_options": TOLD_WHILE_IT_GOES_ON,
        "local_reply_config": local_reply_config(
            max_body_bytes, timeouts.receive_s, timeouts.answer_s, hold_socket
        ),
        "http_filters": [
            _health_check(),
            *((*key_filters(), *limit_filters()) if auth else (waiting_filter(),)),
            _filter(
                "lua",
                f"{_HTTP_TYPES}.lua.v3.Lua",
                default_source_code={"inline_string": lua_code(max_body_bytes)},
            ),
            *((grant_filter(),) if auth else ()),
            usage_filter(),
            _filter("router", f"{_HTTP_TYPES}.router.v3.Router", suppress_envoy_headers=True),
        ],
        "route_config": {
            "name": "gateway",
            "virtual_hosts": [
                {
                    "name": "gateway",
                    "domains": ["*"],
                    "request_body_buffer_limit": max_body_bytes,
                    "retry_policy": _retry_policy(release_key, timeouts.try_s),
                    "include_request_attempt_count": True,
                    "response_headers_to_remove": [
                        MODEL_HEADER,
                        CLUSTER_HEADER,
                        RELEASE_HEADER,
                        *AUTH_HEADERS,
                    ],
                    "routes": without_key(routes) if auth else routes,
                }
            ],
        },
    }
    return {
        "name": "gateway",
        "address": {
            "socket_address": {
                "address": address,
                "port_value": port,
                **({"ipv4_compat": True} if address == "::" else {}),
            }
        },
        # A second gateway on the same port must fail, not share its callers.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 64 * 1024,
        "filter_chains": [
            {
                "filters": [{"name": "http", "typed_config": manager}],
                **({} if tls_secret is None else {"transport_socket": transport_socket(tls_secret)}),
            }
        ],
    }


def _limits(timeouts: Timeouts) -> Json:
    """Return the limits of time and size.

    An idle connection is kept for longer than any proxy in front keeps it (Envoy an hour, Google's load
    balancers 10 minutes): whoever closes first must not be the one that is sent requests.
    """
    return {
        "request_timeout": _seconds(timeouts.receive_s),
        "request_headers_timeout": _seconds(min(10.0, timeouts.receive_s)),
        # It must outlast the routes' timeout, which has the better sentence.
        "stream_idle_timeout": _seconds(max(timeouts.request_s, timeouts.receive_s) + 30.0),
        "max_request_headers_kb": 32,
        "common_http_protocol_options": {"idle_timeout": "3900s", "max_headers_count": 100},
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1024 * 1024,
            "initial_connection_window_size": 8 * 1024 * 1024,
        },
    }


def _paths() -> Json:
    """Resolve `..`, `//` and needless percent-encoding before anything looks at a path.

    `%2F` stays: it is part of a model's name there, and no path that is let through contains it elsewhere.
    """
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    }


def _identity(*, traced: bool) -> Json:
    """Say who the caller is (`x-forwarded-for`), and give every request an id that the response repeats."""
    return {
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_TYPES}.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,  # it would change digits of a caller's id
                **request_id(traced=traced),
            }
        },
    }


def _strip_internal_headers() -> Json:
    """Drop what only this gateway may say, however often and in whatever case a caller says it.

    Envoy believes `x-envoy-*` of callers in private networks: their retries and timeouts would replace ours.
    """
    return _extension(
        "strip",
        f"{_TYPES}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
            for prefix in ("x-rerank-", "x-envoy-")
        ],
    )


def _health_check() -> Json:
    """Answer `GET /healthz` with 200, and with 503 once Envoy was told to fail its health checks."""
    return _filter(
        "health_check",
        f"{_HTTP_TYPES}.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[
            {"name": ":method", "string_match": {"exact": "GET"}},
            {"name": ":path", "string_match": {"safe_regex": {"regex": f"{HEALTH_PATH}([?].*)?"}}},
        ],
    )


def _routes(request_timeout_s: float, agent_cluster: str, page_cluster: str) -> list[Json]:
    """Return the allow-list; a path that is not in it matches no route."""
    by_agent = {"route": {"cluster": agent_cluster, "timeout": "10s"}}
    page = {"route": {"cluster": page_cluster, "timeout": "10s"}}
    below_models = {"prefix": f"{MODELS_PATH}/"}
    return [
        _other_than("GET", {"path": HEALTH_PATH}),  # the health check filter has answered that
        *_only("GET", {"path": MODELS_PATH}, by_agent),
        *_only("GET", below_models, by_agent),
        *(route for path in PLAYGROUND_FILES for route in _only("GET", {"path": path}, page)),
        *(
            route
            for path in FACE_PATHS
            for route in _only("POST", {"path": path}, _to_the_model(request_timeout_s))
        ),
        # The Lua filter turns the paths below into those above; what it leaves has no cluster. It is a route
        # with a cluster all the same: the first route that matches sets the limit of the body, and only such
        # a route can.
        {"match": {"prefix": PROXY_PREFIX}, **_to_the_model(request_timeout_s)},
    ]


def _to_the_model(request_timeout_s: float) -> Json:
    return {
        "route": {
            "cluster_header": CLUSTER_HEADER,
            "cluster_not_found_response_code": "NOT_FOUND",
            "timeout": _seconds(request_timeout_s),
        },
        "request_headers_to_remove": [CLUSTER_HEADER, *AUTH_HEADERS, "x-envoy-external-address"],
    }


def _only(method: str, match: Json, action: Json) -> list[Json]:
    """Return two routes: one for the method, and one that refuses every other."""
    wanted = {"name": ":method", "string_match": {"exact": method}}
    return [{"match": {**match, "headers": [wanted]}, **action}, _other_than(method, match)]


def _other_than(method: str, match: Json) -> Json:
    sentence = f"Only {method} is answered on this path."
    shaped = shape_at(match.get("path", ""))(ErrorCode.METHOD_NOT_ALLOWED, sentence, None)
    allow = {"header": {"key": "allow", "value": method}}
    return {
        "match": match,
        "direct_response": {
            "status": shaped.status,
            "body": {"inline_string": json.dumps(shaped.body)},
        },
        "response_headers_to_add": [allow],
    }


def _retry_policy(release_key: str | None, try_s: float | None) -> Json:
    """Try another replica only while no replica can have seen the request: one that kills a server must not
    be handed to the next. A request that the activator held no replica has seen."""
    conditions = "connect-failure,refused-stream,reset-before-request"
    released = {"name": RELEASE_HEADER, "string_match": {"exact": release_key}}
    by_activator = {"retry_on": f"{conditions},retriable-headers", "retriable_headers": [released]}
    return {
        **({"retry_on": conditions} if release_key is None else by_activator),
        "num_retries": RETRIES,
        **({} if try_s is None else {"per_try_timeout": _seconds(try_s)}),
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            _extension("previous_hosts", f"{_TYPES}.retry.host.previous_hosts.v3.PreviousHostsPredicate")
        ],
        # Each looks anew by weight: of models that share a name it may meet the largest often.
        "host_selection_retry_max_attempts": 40,
    }


def _access_log(path: Path, *, auth: bool) -> Json:
    """Write a line for each request but the health checks, which come all the time."""
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "protocol": "%PROTOCOL%",
        **({"consumer": LOGGED_CONSUMER} if auth else {}),
        "model": "%REQ(X-RERANK-MODEL)%",
        "host": "%REQ(:AUTHORITY)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        **LOGGED_USAGE,
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "replica": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "caller": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    if path == Path("/dev/stdout"):  # another user may have opened it, so that it cannot be opened again
        stream = f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog"
        logger = _extension("stdout", stream, log_format={"json_format": fields})
    else:
        file = f"{_TYPES}.access_loggers.file.v3.FileAccessLog"
        logger = _extension("file", file, path=str(path), log_format={"json_format": fields})
    return {**logger, "filter": {"and_filter": {"filters": [{"not_health_check_filter": {}}, AT_THE_END]}}}


def _filter(name: str, type_url: str, **fields: object) -> Json:
    return _extension(name, type_url, **fields)


def _extension(name: str, type_url: str, **fields: object) -> Json:
    return {"name": name, "typed_config": {"@type": type_url, **fields}}


def _seconds(value: float) -> str:
    """Write a protobuf Duration in its JSON form."""
    return f"{value:.3f}s"

"""A served model as Envoy's resources: one EDS cluster and its endpoints for each public name and each host.

Fields and their meaning: Envoy's `config.cluster.v3.Cluster` and `config.endpoint.v3.ClusterLoadAssignment`.
Why each value is what it is: docs/decisions/0004-the-agent-speaks-delta-ads.md.
"""

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import (
    address_pb2,
    base_pb2,
    config_source_pb2,
    extension_pb2,
    protocol_pb2,
)
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt32Value

from rerank_api.rerank_model import MAX_REPLICAS
from rerank_gateway.clusters import HOST_PREFIX
from rerank_gateway.models import Endpoint, Part, ServedModel
from rerank_gateway.usage import OWNER

# The generated classes carry no type information: to the type checker both are Any.
Cluster: TypeAlias = cluster_pb2.Cluster
ClusterLoadAssignment: TypeAlias = endpoint_pb2.ClusterLoadAssignment
Metadata: TypeAlias = base_pb2.Metadata

_TYPES = "type.googleapis.com"
CLUSTER_TYPE = f"{_TYPES}/envoy.config.cluster.v3.Cluster"
LOAD_ASSIGNMENT_TYPE = f"{_TYPES}/envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION_TYPE = f"{_TYPES}/envoy.config.core.v3.TypedExtensionConfig"

IDLE_TIMEOUT = 60
"""Seconds after which Envoy closes an idle connection to a server; servers keep theirs for 75."""

_UNLIMITED = 1_000_000
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def stat_name(cluster: str) -> str:
    """Name a cluster in statistics: readable, unique, and nothing in it that a label would be split at.

    The digest keeps `a/b` and `a.b` apart, which read the same once their signs are replaced.
    """
    prefix = "host_" if cluster.startswith(HOST_PREFIX) else ""
    named = cluster.partition("/")[2]
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", named)
    digest = hashlib.blake2s(named.encode(), digest_size=4).hexdigest()
    return f"{prefix}{readable}-{digest}"


def cluster(name: str, *, choice: bool = False) -> Cluster:
    """Build a cluster. Beside its name it depends on one thing, so it is sent anew only where that changes.

    `choice` says whether a request may go to another endpoint where one cannot be reached. Only then is there
    anything to detect: Envoy sets no endpoint aside that is the only one. For thousands of models this is a
    tenth of Envoy's memory, and most of what it computes while nobody asks.
    """
    built = cluster_pb2.Cluster()
    built.CopyFrom(_nameless_cluster())
    if choice:
        built.outlier_detection.CopyFrom(_outlier_detection())
    built.name = name
    built.alt_stat_name = stat_name(name)
    return built


@functools.cache
def _nameless_cluster() -> Cluster:
    """Build what all clusters share, once: copying it is ten times as quick."""
    return cluster_pb2.Cluster(
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(
            eds_config=config_source_pb2.ConfigSource(
                ads=config_source_pb2.AggregatedConfigSource(),
                resource_api_version=config_source_pb2.V3,
            )
        ),
        connect_timeout=Duration(seconds=1),
        load_balancing_policy=_least_request(),
        common_lb_config=cluster_pb2.Cluster.CommonLbConfig(
            healthy_panic_threshold=percent_pb2.Percent(value=0)
        ),
        circuit_breakers=_circuit_breakers(),
        typed_extension_protocol_options={_HTTP_OPTIONS: packed(_http_options())},
        upstream_connection_options=cluster_pb2.UpstreamConnectionOptions(
            tcp_keepalive=address_pb2.TcpKeepalive(
                keepalive_time=UInt32Value(value=30),
                keepalive_interval=UInt32Value(value=10),
                keepalive_probes=UInt32Value(value=3),
            )
        ),
    )


def load_assignment(name: str, model: ServedModel, activator: Path | None = None) -> ClusterLoadAssignment:
    """Build a cluster's endpoints, sorted and each once, whatever order the source tells them in.

    Where several RerankModels share the name, the replicas of each are a locality. Envoy first picks one by
    weight, among those that have a healthy replica, then a replica in it. Elsewhere there is nothing to weigh
    or to tell apart, and nothing of it is told: for thousands of models that is a tenth of Envoy's memory. An
    activator is a unix socket that takes the requests for as long as no replica is healthy.

    Each cluster has endpoints under its own name, though aliases share theirs: Envoy stalls for 15 s where
    two clusters ask for one name.
    """
    taking = [part for part in model.parts if part.weight and part.model.endpoints]
    if len(model.parts) > 1:
        groups = [_weighed(part) for part in taking]
    else:
        groups = [_replicas(part.model.endpoints, None) for part in taking]
    built = endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=groups)
    if activator is not None:
        built.endpoints.extend(
            [
                *(() if groups else (endpoint_components_pb2.LocalityLbEndpoints(),)),
                endpoint_components_pb2.LocalityLbEndpoints(priority=1, lb_endpoints=[_at_socket(activator)]),
            ]
        )
    if activator is not None or len(groups) > 1:
        # By default a share of the requests leaves as soon as fewer than 72 % of the replicas are healthy.
        built.policy.overprovisioning_factor.value = 100 * MAX_REPLICAS
    return built


def _weighed(part: Part) -> endpoint_components_pb2.LocalityLbEndpoints:
    """Return the replicas of one of several RerankModels, each with whose it is, so that the log says it."""
    owner = base_pb2.Metadata()
    owner.filter_metadata[OWNER[0]].fields[OWNER[1]].string_value = part.model.model
    group = _replicas(part.model.endpoints, owner)
    group.locality.region = part.model.model
    group.load_balancing_weight.value = part.weight
    return group


def _replicas(
    endpoints: Iterable[Endpoint], owner: Metadata | None
) -> endpoint_components_pb2.LocalityLbEndpoints:
    return endpoint_components_pb2.LocalityLbEndpoints(
        lb_endpoints=[_lb_endpoint(endpoint, owner) for endpoint in sorted(set(endpoints))]
    )


def _lb_endpoint(endpoint: Endpoint, owner: Metadata | None) -> endpoint_components_pb2.LbEndpoint:
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=address_pb2.Address(
                socket_address=address_pb2.SocketAddress(address=endpoint.address, port_value=endpoint.port)
            )
        ),
        metadata=owner,
    )


def _at_socket(path: Path) -> endpoint_components_pb2.LbEndpoint:
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=address_pb2.Address(pipe=address_pb2.Pipe(path=str(path)))
        )
    )


def _least_request() -> cluster_pb2.LoadBalancingPolicy:
    """Pick a RerankModel by weight, and of its replicas the one with the fewest requests in flight."""
    by_weight = common_pb2.LocalityLbConfig.LocalityWeightedLbConfig()
    policy = least_request_pb2.LeastRequest(
        selection_method=least_request_pb2.LeastRequest.SelectionMethod.FULL_SCAN,
        locality_lb_config=common_pb2.LocalityLbConfig(locality_weighted_lb_config=by_weight),
    )
    extension = extension_pb2.TypedExtensionConfig(
        name="envoy.load_balancing_policies.least_request", typed_config=packed(policy)
    )
    return cluster_pb2.LoadBalancingPolicy(
        policies=[cluster_pb2.LoadBalancingPolicy.Policy(typed_extension_config=extension)]
    )


@functools.cache
def _outlier_detection() -> outlier_detection_pb2.OutlierDetection:
    """Set a replica aside that cannot be connected to; what a replica answers never counts against it."""
    return outlier_detection_pb2.OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failure=UInt32Value(value=2),
        enforcing_consecutive_local_origin_failure=UInt32Value(value=100),
        enforcing_local_origin_success_rate=UInt32Value(value=0),
        enforcing_failure_percentage_local_origin=UInt32Value(value=0),
        enforcing_consecutive_5xx=UInt32Value(value=0),
        enforcing_consecutive_gateway_failure=UInt32Value(value=0),
        enforcing_success_rate=UInt32Value(value=0),
        enforcing_failure_percentage=UInt32Value(value=0),
        interval=Duration(seconds=1),
        base_ejection_time=Duration(seconds=5),
        max_ejection_time=Duration(seconds=30),
        max_ejection_percent=UInt32Value(value=50),
    )


def _circuit_breakers() -> circuit_breaker_pb2.CircuitBreakers:
    """Leave admission to the servers, which count tokens; by default Envoy would retry 3 requests at once."""
    limit = UInt32Value(value=_UNLIMITED)
    return circuit_breaker_pb2.CircuitBreakers(
        thresholds=[
            circuit_breaker_pb2.CircuitBreakers.Thresholds(
                max_connections=limit, max_pending_requests=limit, max_requests=limit, max_retries=limit
            )
        ]
    )


def _http_options() -> http_protocol_options_pb2.HttpProtocolOptions:
    return http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http_protocol_options=protocol_pb2.Http1ProtocolOptions()
        ),
        common_http_protocol_options=protocol_pb2.HttpProtocolOptions(
            idle_timeout=Duration(seconds=IDLE_TIMEOUT)
        ),
    )


def packed(message: Message) -> Any:
    """Wrap a message with its type; equal messages give equal bytes."""
    wrapped = Any()
    wrapped.Pack(message, deterministic=True)
    return wrapped

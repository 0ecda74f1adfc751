"""Limits as Envoy's extensions: how many requests a consumer may send, and who owes something. Pure.

Fields: `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, and `credentials` for the RBAC.
Why: docs/decisions/0018-limits-without-a-call.md.
"""

from collections.abc import Mapping
from typing import Final

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.type.v3 import percent_pb2, token_bucket_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from rerank_gateway import credentials
from rerank_gateway.auth import CONSUMER_HEADER
from rerank_gateway.budgets import Debt
from rerank_gateway.limits import DEBTS_FILTER, DEBTS_PREFIX, LIMITS_FILTER, OWES_NOTHING, owing
from rerank_gateway.resources import packed

_DESCRIPTOR: Final = "consumer"
_MINUTE: Final = 60


def requests(per_minute: Mapping[str, int]) -> credentials.Extension:
    """Say how many requests a consumer may send: a bucket of a minute's worth, filled evenly.

    Envoy keeps the buckets of a configuration for as long as it stays the same, so that this depends on
    nothing else: neither a new key nor a new model fills them. Without a bucket above the descriptors, who
    is in none has no limit.
    """
    by_consumer = route_components_pb2.RateLimit.Action(
        request_headers=route_components_pb2.RateLimit.Action.RequestHeaders(
            header_name=CONSUMER_HEADER, descriptor_key=_DESCRIPTOR
        )
    )
    always = base_pb2.RuntimeFractionalPercent(default_value=percent_pb2.FractionalPercent(numerator=100))
    limit = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=LIMITS_FILTER,
        filter_enabled=always,
        filter_enforced=always,
        rate_limits=[route_components_pb2.RateLimit(actions=[by_consumer])],
        descriptors=[
            ratelimit_pb2.LocalRateLimitDescriptor(
                entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=_DESCRIPTOR, value=consumer)],
                token_bucket=_bucket(limit),
            )
            for consumer, limit in sorted(per_minute.items())
        ],
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
    )
    return extension_pb2.TypedExtensionConfig(name=LIMITS_FILTER, typed_config=packed(limit))


def debts(debts: Mapping[str, Debt]) -> credentials.Extension:
    """Refuse who owes something. The refusal's name tells `waiting.lua` until when."""
    refusals = {
        consumer: credentials.action(f"{owing(debt.kind)}{debt.until}_{debt.limit}", rbac_pb2.RBAC.DENY)
        for consumer, debt in debts.items()
    }
    decided = credentials.tree(
        CONSUMER_HEADER, refusals, otherwise=credentials.action(OWES_NOTHING, rbac_pb2.RBAC.ALLOW)
    )
    return credentials.rbac(DEBTS_FILTER, decided, prefix=DEBTS_PREFIX)


def _bucket(per_minute: int) -> token_bucket_pb2.TokenBucket:
    return token_bucket_pb2.TokenBucket(
        max_tokens=per_minute,
        tokens_per_fill=UInt32Value(value=per_minute),
        fill_interval=Duration(seconds=_MINUTE),
    )

"""How fast a consumer may call: the filters that Envoy starts with. What they know comes from `limiting`.

Both are told by ECDS: `requests` is Envoy's local rate limit, which counts by itself; `debts` is an RBAC that
refuses who owes requests or tokens, as the agent's `budgets` have it. Neither asks anybody while a request
waits.
"""

from typing import Any, Final

from rerank_gateway.auth import RBAC_METADATA, told_by_agent
from rerank_gateway.budgets import Kind
from rerank_gateway.lua import LuaValue, chunk

LIMITS_FILTER: Final = "requests"
"""Names the filter that counts requests, and the ECDS resource that it is."""

DEBTS_FILTER: Final = "debts"
"""Names the filter that refuses who owes something, and the ECDS resource that it is."""

DEBTS_PREFIX: Final = "debts_"
"""What the filter `debts` writes down begins with this, so that it leaves the consumer as it is."""

REFUSAL_METADATA: Final = f"{DEBTS_PREFIX}enforced_effective_policy_id"
"""Where the filter `debts` has written down beside the request what it did."""

OWES_NOTHING: Final = "owes_nothing"

RATE_LIMITED: Final = "local_rate_limited"
"""Why Envoy refuses what the filter `requests` does not let through."""


def owing(kind: Kind | str) -> str:
    """Return how a refusal's name begins; after it come the Unix second when it ends, `_`, and the limit."""
    return f"owes_{kind}_"


Json = dict[str, Any]


def limit_filters() -> list[Json]:
    """Return what refuses who calls too fast, the body unread, and says how long to wait.

    They stand behind the filters that know the consumer, and before any that looks at a body. Who is refused
    for a debt has been counted by Envoy before: so a debt that ends finds no bucket that filled up meanwhile.
    """
    waiting: Json = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "clear_route_cache": False,
        "default_source_code": {"inline_string": waiting_code()},
    }
    return [
        {"name": "waiting", "typed_config": waiting},
        told_by_agent(LIMITS_FILTER, "local_ratelimit.v3.LocalRateLimit"),
        told_by_agent(DEBTS_FILTER),
    ]


def waiting_code() -> str:
    """Return the source of the filter that writes `Retry-After`."""
    settings: LuaValue = {
        "metadata": RBAC_METADATA,
        "refusal": REFUSAL_METADATA,
        "owing": f"^{owing('%a+')}(%d+)_(%d+)$",
    }
    return chunk({}, settings, "waiting.lua")

"""How fast a consumer may call: the filters that Envoy starts with. What they know comes from `limiting`.

Both are told by ECDS: `requests` is Envoy's local rate limit, which counts by itself; `tokens` is an RBAC
that refuses who owes tokens, as the agent's `budgets` have it. Neither asks anybody while a request waits.
"""

from typing import Any, Final

from rerank_gateway.auth import RBAC_METADATA, told_by_agent
from rerank_gateway.lua import LuaValue, chunk

LIMITS_FILTER: Final = "requests"
"""Names the filter that counts requests, and the ECDS resource that it is."""

TOKENS_FILTER: Final = "tokens"
"""Names the filter that refuses who owes tokens, and the ECDS resource that it is."""

TOKENS_PREFIX: Final = "tokens_"
"""What the filter `tokens` writes down begins with this, so that it leaves the consumer as it is."""

OWING: Final = "owes_tokens_"
"""How the name of a refusal begins; after it come the Unix second when it ends, `_`, and the limit."""

Json = dict[str, Any]


def limit_filters() -> list[Json]:
    """Return what refuses who calls too fast, the body unread, and says how long to wait.

    They stand behind the filters that know the consumer, and before any that looks at a body.
    """
    waiting: Json = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "clear_route_cache": False,
        "default_source_code": {"inline_string": waiting_code()},
    }
    return [
        {"name": "waiting", "typed_config": waiting},
        told_by_agent(TOKENS_FILTER),
        told_by_agent(LIMITS_FILTER, "local_ratelimit.v3.LocalRateLimit"),
    ]


def waiting_code() -> str:
    """Return the source of the filter that writes `Retry-After`."""
    settings: LuaValue = {
        "metadata": RBAC_METADATA,
        "refusal": f"{TOKENS_PREFIX}enforced_effective_policy_id",
        "owing": OWING,
    }
    return chunk({}, settings, "waiting.lua")

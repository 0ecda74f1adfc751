"""Asking for keys: the filters that Envoy starts with. What they know of consumers comes from `credentials`.

A key is replaced by its digest before anything else looks at a request (`key.lua`). The filter `keys` refuses
a digest that is nobody's, and notes whose one it is; `grants` lets a consumer through to the models that it
may call. Both are Envoy's RBAC, told by ECDS, and Envoy takes no traffic before they were told.
"""

from typing import Any, Final

from rerank_api.keys import LONGEST_KEY
from rerank_gateway.lua import LuaValue, chunk
from rerank_gateway.paths import PLAYGROUND_FILES

KEY_HEADER: Final = "x-rerank-key"
"""The digest of a request's key, between two filters of Envoy."""

CONSUMER_HEADER: Final = "x-rerank-consumer"
"""Whose key a request has; Envoy alone sets it, and tells it to nobody but the agent."""

AUTH_HEADERS: Final = (KEY_HEADER, CONSUMER_HEADER)
"""What a model server never sees of who calls, and never says."""

KEYS_FILTER: Final = "keys"
"""Names the filter that knows keys, and the ECDS resource that it is."""

GRANTS_FILTER: Final = "grants"
"""Names the filter that knows who may call what, and the ECDS resource that it is."""

UNKNOWN_KEY: Final = "unknown_key"
NOT_GRANTED: Final = "not_granted"
"""Why a request is refused, as the access log has it. No consumer's name has an underscore."""

METADATA_PREFIX: Final = "keys_"
"""What the filter `keys` writes down begins with this, so that `grants` does not write over it."""

RBAC_METADATA: Final = "envoy.filters.http.rbac"
CONSUMER_METADATA: Final = f"{METADATA_PREFIX}enforced_effective_policy_id"
"""Where the filter `keys` has written the consumer down beside the request."""

LOGGED_CONSUMER: Final = f"%DYNAMIC_METADATA({RBAC_METADATA}:{CONSUMER_METADATA})%"
"""The consumer, for headers and logs."""

CHALLENGE: Final = "Bearer"
"""What a 401 says in `WWW-Authenticate` (RFC 6750, 3)."""

_TYPES = "type.googleapis.com/envoy.extensions.filters.http"

Json = dict[str, Any]


def key_filters() -> list[Json]:
    """Return what finds out who calls. A request without a good key goes no further, its body unread."""
    lua: Json = {
        "@type": f"{_TYPES}.lua.v3.Lua",
        # The route must not be looked for again before the body is there: its first match sets the limit.
        "clear_route_cache": False,
        "default_source_code": {"inline_string": key_code()},
    }
    named: Json = {
        "@type": f"{_TYPES}.header_mutation.v3.HeaderMutation",
        "mutations": {
            "request_mutations": [
                {"remove": KEY_HEADER},
                {
                    "append": {
                        "header": {"key": CONSUMER_HEADER, "value": LOGGED_CONSUMER},
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    }
                },
            ]
        },
    }
    return [
        {"name": "key", "typed_config": lua},
        told_by_agent(KEYS_FILTER),
        {"name": "consumer", "typed_config": named},
    ]


def grant_filter() -> Json:
    """Return what refuses models that a consumer may not call, once the request's cluster is known."""
    return told_by_agent(GRANTS_FILTER)


def without_key(routes: list[Json]) -> list[Json]:
    """Return the routes, those of the page for people open to all."""
    nobody_refused = {"@type": f"{_TYPES}.rbac.v3.RBACPerRoute"}
    return [
        {**route, "typed_per_filter_config": {KEYS_FILTER: nobody_refused}}
        if route["match"].get("path") in PLAYGROUND_FILES
        else route
        for route in routes
    ]


def key_code() -> str:
    """Return the source of the filter that replaces a key by its digest."""
    settings: LuaValue = {"key_header": KEY_HEADER, "longest_key": LONGEST_KEY}
    return chunk({"sha256": "sha256.lua"}, settings, "key.lua")


def told_by_agent(name: str, type_name: str = "rbac.v3.RBAC") -> Json:
    """Return a filter that the agent configures; without a word from it, Envoy does not listen."""
    return {
        "name": name,
        "config_discovery": {
            "config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
            "type_urls": [f"{_TYPES}.{type_name}"],
        },
    }

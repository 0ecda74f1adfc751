"""Consumers as Envoy's extensions: whose a key is, and who may call what. Pure.

Fields: `envoy.extensions.filters.http.rbac.v3.RBAC` and `xds.type.matcher.v3.Matcher`.
Why: docs/decisions/0017-keys-are-digests-in-envoy.md.
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from envoy.config.core.v3 import extension_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rbac_actions_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from xds.core.v3 import extension_pb2 as xds_extension_pb2
from xds.type.matcher.v3 import matcher_pb2

from rerank_api.rerank_consumer import ALL_MODELS
from rerank_gateway.auth import (
    CONSUMER_HEADER,
    GRANTS_FILTER,
    KEY_HEADER,
    KEYS_FILTER,
    METADATA_PREFIX,
    NOT_GRANTED,
    UNKNOWN_KEY,
)
from rerank_gateway.clusters import CLUSTER_HEADER, HOST_PREFIX, NAME_PREFIX, host_cluster, name_cluster
from rerank_gateway.models import Consumer
from rerank_gateway.resources import packed

# The generated classes carry no type information: to the type checker these are Any.
Extension: TypeAlias = extension_pb2.TypedExtensionConfig
OnMatch: TypeAlias = matcher_pb2.Matcher.OnMatch

Doors: TypeAlias = Mapping[str, frozenset[str]]
"""By host that a model has as its own: the public names of that model."""


def keys(owners: Mapping[str, str]) -> Extension:
    """Say whose each digest is: consumers' names by digest.

    Envoy writes down the name of the action that it took, so that name is the consumer's.
    """
    known = {digest: action(owner, rbac_actions_pb2.RBAC.ALLOW) for digest, owner in owners.items()}
    decided = tree(KEY_HEADER, known, otherwise=action(UNKNOWN_KEY, rbac_actions_pb2.RBAC.DENY))
    return rbac(KEYS_FILTER, decided, prefix=METADATA_PREFIX)


def grants(consumers: Iterable[Consumer], doors: Doors) -> Extension:
    """Say who may call what, by the cluster that a request is sent to.

    A request for no cluster passes: it reaches no model, and gets an answer of its own, as for a path that is
    unknown. So does one for a host that no model has: it names no model, and is told so.
    """
    everybody = tuple(consumers)
    unbound = {one.name: _ALLOW for one in everybody if one.models == (ALL_MODELS,)}
    bound = {one.name: frozenset(one.models) for one in everybody if one.name not in unbound}
    by_name = {
        consumer: tree(CLUSTER_HEADER, {name_cluster(name): _ALLOW for name in granted}, otherwise=_DENY)
        for consumer, granted in bound.items()
    }
    by_host = {
        host_cluster(host): tree(
            CONSUMER_HEADER,
            {consumer: _ALLOW for consumer, granted in bound.items() if granted & names},
            otherwise=_DENY,
        )
        for host, names in doors.items()
    }
    by_cluster = {
        NAME_PREFIX: tree(CONSUMER_HEADER, by_name, otherwise=_DENY),
        HOST_PREFIX: tree(CLUSTER_HEADER, by_host, otherwise=_ALLOW),
    }
    bounded = tree(CLUSTER_HEADER, by_cluster, otherwise=_ALLOW, prefixes=True)
    decided = tree(CONSUMER_HEADER, unbound, otherwise=bounded)
    return rbac(GRANTS_FILTER, decided)


def action(name: str, verdict: int) -> OnMatch:
    """Return the end of a matcher: allow or deny, under a name that Envoy writes down."""
    value = rbac_actions_pb2.Action(name=name, action=verdict)
    return matcher_pb2.Matcher.OnMatch(
        action=xds_extension_pb2.TypedExtensionConfig(name=name, typed_config=packed(value))
    )


_ALLOW: Final = action("granted", rbac_actions_pb2.RBAC.ALLOW)
_DENY: Final = action(NOT_GRANTED, rbac_actions_pb2.RBAC.DENY)


def tree(header: str, cases: Mapping[str, OnMatch], *, otherwise: OnMatch, prefixes: bool = False) -> OnMatch:
    """Look a header's value up, whole or by how it begins; an absent one is in no case."""
    if not cases:  # Envoy refuses a map without entries
        return otherwise
    cases_map = matcher_pb2.Matcher.MatcherTree.MatchMap(map=cases)
    tree = matcher_pb2.Matcher.MatcherTree(
        input=_header(header),
        prefix_match_map=cases_map if prefixes else None,
        exact_match_map=None if prefixes else cases_map,
    )
    return matcher_pb2.Matcher.OnMatch(matcher=matcher_pb2.Matcher(matcher_tree=tree, on_no_match=otherwise))


def _header(name: str) -> xds_extension_pb2.TypedExtensionConfig:
    return xds_extension_pb2.TypedExtensionConfig(
        name=name,
        typed_config=packed(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=name)),
    )


def rbac(name: str, decided: OnMatch, *, prefix: str = "") -> Extension:
    """Return the filter; what it writes down beside a request begins with `prefix`."""
    matcher = decided.matcher if decided.HasField("matcher") else matcher_pb2.Matcher(on_no_match=decided)
    return extension_pb2.TypedExtensionConfig(
        name=name, typed_config=packed(rbac_pb2.RBAC(matcher=matcher, rules_stat_prefix=prefix))
    )

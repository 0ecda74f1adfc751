"""One client's side of delta xDS, as decisions without I/O: what it asked for, what it has, what it is owed.

The protocol: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#incremental-xds

Three rules go beyond it:

- One response of a type is on its way at a time. What changes meanwhile is sent together once that one is
  acknowledged, so a slow client gets the latest state, never a backlog.
- Added and changed resources go first: who may call what, then clusters, then endpoints. Removals wait until
  all of those are acknowledged, in the same order.
- When the client refuses a response that holds several resources, each half is sent again on its own, until
  the bad one stands alone. It is left out until it changes; all others apply.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rerank_gateway.resources import CLUSTER_TYPE, EXTENSION_TYPE, LOAD_ASSIGNMENT_TYPE
from rerank_gateway.snapshot import Resource, Resources, Snapshot, changed

WILDCARD = "*"
RESPONSE_BYTES = 1 << 18
"""A response is closed once it holds this much, so that a large world arrives in digestible parts."""

_UNKNOWN = "?"  # the version of a resource of which the client may have an earlier one
_ABSENT = ""  # the version of a resource that the client was told does not exist


@dataclass(frozen=True)
class Request:
    """What the client says: subscriptions, and the answer to a response."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    """What it has from an earlier stream; counts in the first request of a type only."""
    nonce: str = ""
    error: str | None = None
    """Why it refused the response of that nonce, in its own words; None when it took it."""


@dataclass(frozen=True)
class Response:
    """What to tell the client: names only, their content is the snapshot's."""

    type_url: str
    nonce: str
    resources: Mapping[str, Resource]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """One resource that the client does not take, and why."""

    type_url: str
    name: str
    version: str
    reason: str


@dataclass
class _Subscription:
    """One type on one stream."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)
    """What the client has, once it takes what is on its way: versions by name."""
    pending: set[str] = field(default_factory=set)
    """Names to look at: all others are known to be up to date."""
    suspects: deque[tuple[str, ...]] = field(default_factory=deque)
    """Parts of refused responses, each to be sent on its own."""
    unacknowledged: Response | None = None
    answer_due: bool = False
    """A wildcard subscription is answered even where there is nothing: the client waits for that."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def lacks(self, name: str, resource: Resource | None) -> bool:
        """Whether the resource exists and the client does not have this version of it."""
        return resource is not None and self.wants(name) and self.told.get(name) != resource.version

    def believes(self, name: str) -> bool:
        """Whether the client has a resource of that name, or asked for it and waits to be told."""
        return self.told.get(name, _ABSENT) != _ABSENT or (name in self.names and name not in self.told)


class DeltaStream:
    """The decisions for one stream: feed it requests and snapshots, and send what `response` returns."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._subscriptions: dict[str, _Subscription] = {}
        self._renewed: set[str] = set()  # until the client asks for endpoints at all
        self._starts = True
        """Whether the client does not listen yet: it has to hear of all models, then of its extensions."""
        self._refused: set[str] = set()
        """Clusters that the client will never ask endpoints for."""
        self._nonce = 0

    def publish(self, snapshot: Snapshot) -> None:
        """Take over a newer snapshot."""
        if snapshot is self._snapshot:
            return
        old = self._snapshot.resources
        self._snapshot = snapshot
        for type_url, subscription in self._subscriptions.items():
            names = changed(old.get(type_url, {}), self._have(type_url))
            subscription.pending.update(
                name for name in names if subscription.wants(name) or name in subscription.told
            )

    def request(self, request: Request) -> tuple[Refusal, ...]:
        """Take in what the client says; return what it refused for good."""
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            self._open(request)
            return ()
        refusals = self._acknowledge(subscription, request)
        for name in request.subscribe:
            # Asked for again, it is sent again: the client may have dropped it.
            subscription.told.pop(name, None)
        self._subscribe(subscription, request)
        return refusals

    def response(self) -> Response | None:
        """Return the next response to send, or None while nothing is owed or may be sent.

        An Envoy that starts listens once it has its extensions, and endpoints for the clusters that it knows.
        The world may come in several parts, so it is told of extensions when it has all of them.
        """
        in_order = sorted(self._subscriptions, key=_rank)
        self._starts = self._starts and not self._has_the_world()
        for type_url in in_order:
            if type_url == EXTENSION_TYPE and self._starts:
                continue
            subscription = self._subscriptions[type_url]
            if subscription.unacknowledged is None:
                upserts = self._upserts(type_url, subscription)
                if upserts or subscription.answer_due:
                    return self._send(type_url, subscription, upserts, ())
        if any(subscription.unacknowledged for subscription in self._subscriptions.values()):
            return None
        for type_url in in_order:
            subscription = self._subscriptions[type_url]
            removed = self._removals(type_url, subscription)
            if removed:
                return self._send(type_url, subscription, {}, removed)
        return None

    def has_taken(self, type_url: str, name: str) -> bool:
        """Say whether the client has acknowledged the resource as it is in the newest snapshot."""
        resource = self._have(type_url).get(name)
        subscription = self._subscriptions.get(type_url)
        if resource is None or subscription is None or subscription.told.get(name) != resource.version:
            return False
        sent = subscription.unacknowledged
        return sent is None or name not in sent.resources

    def _has_the_world(self) -> bool:
        """Say whether the client has every cluster and its endpoints."""
        clusters = self._subscriptions.get(CLUSTER_TYPE)
        endpoints = self._subscriptions.get(LOAD_ASSIGNMENT_TYPE, _Subscription())
        if clusters is None or clusters.unacknowledged or clusters.answer_due or endpoints.unacknowledged:
            return False
        return all(
            name in clusters.told and (name in endpoints.told or name in self._refused)
            for name in self._have(CLUSTER_TYPE)
        )

    def _have(self, type_url: str) -> Resources:
        return self._snapshot.resources.get(type_url, {})

    def _open(self, request: Request) -> None:
        """Start a type. Without names the first request means all, with or without an explicit wildcard."""
        subscription = _Subscription()
        self._subscriptions[request.type_url] = subscription
        asked = request.subscribe or (WILDCARD,)
        subscription.told = {
            name: version
            for name, version in request.initial_versions.items()
            if WILDCARD in asked or name in asked
        }
        if request.type_url == LOAD_ASSIGNMENT_TYPE:
            for name in self._renewed:
                subscription.told.pop(name, None)
        if request.type_url == EXTENSION_TYPE and subscription.told:
            self._starts = False
        self._subscribe(subscription, Request(request.type_url, asked, request.unsubscribe))

    def _subscribe(self, subscription: _Subscription, request: Request) -> None:
        for name in request.subscribe:
            if name == WILDCARD:
                subscription.wildcard = True
                subscription.answer_due = not subscription.told
                subscription.pending.update(self._have(request.type_url), subscription.told)
            else:
                subscription.names.add(name)
                subscription.pending.add(name)
        for name in request.unsubscribe:
            if name == WILDCARD:
                subscription.wildcard = False
                subscription.answer_due = False
                forgotten = subscription.told.keys() - subscription.names
            else:
                subscription.names.discard(name)
                forgotten = {name}
            for gone in forgotten:
                subscription.told.pop(gone, None)
            # A wildcard that still covers the name has it sent again, as the protocol asks.
            subscription.pending.update(forgotten)

    def _acknowledge(self, subscription: _Subscription, request: Request) -> tuple[Refusal, ...]:
        response = subscription.unacknowledged
        if response is None or request.nonce != response.nonce:
            return ()
        subscription.unacknowledged = None
        if request.error is None:
            return ()
        names = tuple(response.resources)
        if len(names) > 1:
            subscription.told.update(dict.fromkeys(names, _UNKNOWN))
            middle = len(names) // 2
            subscription.suspects += (names[:middle], names[middle:])
            return ()
        refused = {name: resource.version for name, resource in response.resources.items()}
        refused |= dict.fromkeys(response.removed, _ABSENT)
        if request.type_url == CLUSTER_TYPE:
            self._refused.update(refused)
        return tuple(
            Refusal(request.type_url, name, version, request.error) for name, version in refused.items()
        )

    def _upserts(self, type_url: str, subscription: _Subscription) -> Resources:
        """Choose what to send of one type: a suspected part alone, else what is pending, up to the limit."""
        have = self._have(type_url)
        while subscription.suspects:
            part = subscription.suspects.popleft()
            chosen = {name: have[name] for name in part if subscription.lacks(name, have.get(name))}
            if chosen:
                return chosen
        chosen, size = {}, 0
        for name in sorted(subscription.pending):
            resource = have.get(name)
            if resource is None:
                continue  # a removal, if anything
            if subscription.lacks(name, resource):
                chosen[name] = resource
                size += len(resource.body)
                if size >= RESPONSE_BYTES:
                    break
            else:
                subscription.pending.discard(name)
        return chosen

    def _removals(self, type_url: str, subscription: _Subscription) -> tuple[str, ...]:
        have = self._have(type_url)
        absent = [name for name in sorted(subscription.pending) if name not in have]
        subscription.pending.difference_update(absent)
        return tuple(name for name in absent if subscription.believes(name))

    def _send(
        self, type_url: str, subscription: _Subscription, upserts: Resources, removed: tuple[str, ...]
    ) -> Response:
        self._nonce += 1
        response = Response(type_url, str(self._nonce), upserts, removed)
        if type_url == CLUSTER_TYPE:
            self._renew_endpoints(subscription, upserts)
        for name, resource in upserts.items():
            subscription.told[name] = resource.version
        for name in removed:
            subscription.told.pop(name, None)
            if name in subscription.names:
                subscription.told[name] = _ABSENT
        subscription.pending.difference_update(upserts)
        subscription.answer_due = False
        subscription.unacknowledged = response
        return response

    def _renew_endpoints(self, clusters: _Subscription, upserts: Resources) -> None:
        """Send the endpoints of a changed cluster again. Envoy builds such a cluster anew and does not use it
        before it hears its endpoints, for which it does not ask again."""
        renewed = {name for name in upserts if clusters.told.get(name, _ABSENT) != _ABSENT}
        endpoints = self._subscriptions.get(LOAD_ASSIGNMENT_TYPE)
        if endpoints is None:
            self._renewed |= renewed
            return
        for name in renewed:
            endpoints.told.pop(name, None)
        endpoints.pending |= renewed


def _rank(type_url: str) -> int:
    """Who may call what before anything new can be called; clusters before endpoints: make before break."""
    return {EXTENSION_TYPE: 0, CLUSTER_TYPE: 1, LOAD_ASSIGNMENT_TYPE: 2}.get(type_url, 3)

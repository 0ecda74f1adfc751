"""The delta protocol as decisions: what is sent, in which order, and what never is."""

import dataclasses

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rerank_gateway import delta
from rerank_gateway.delta import DeltaStream, Refusal, Request, Response
from rerank_gateway.resources import CLUSTER_TYPE, EXTENSION_TYPE, LOAD_ASSIGNMENT_TYPE
from rerank_gateway.snapshot import Resource, Snapshot

CDS, EDS, ECDS = CLUSTER_TYPE, LOAD_ASSIGNMENT_TYPE, EXTENSION_TYPE


def world(clusters: str = "", endpoints: str | None = None) -> Snapshot:
    """A world from text: `a1 b2` are the resources a at version 1 and b at version 2."""

    def parsed(text: str) -> dict[str, Resource]:
        return {item[0]: Resource(item[1:], item.encode()) for item in sorted(text.split())}

    return Snapshot({}, {CDS: parsed(clusters), EDS: parsed(clusters if endpoints is None else endpoints)})


def said(response: Response | None) -> str | None:
    """A response as text: `CDS a1 -b` sends a at version 1 and removes b."""
    if response is None:
        return None
    sent = [f"{name}{resource.version}" for name, resource in response.resources.items()]
    kind = {CDS: "CDS", EDS: "EDS"}.get(response.type_url, "other")
    return " ".join([kind, *sent, *(f"-{name}" for name in response.removed)])


def acknowledged(stream: DeltaStream) -> list[str]:
    """Take every response as a client that accepts them all at once."""
    told = []
    while (response := stream.response()) is not None:
        told.append(said(response))
        stream.request(Request(response.type_url, nonce=response.nonce))
    return told


def opened(start: Snapshot, names: tuple[str, ...] = ()) -> DeltaStream:
    """A stream that is up to date: a wildcard for clusters, names for endpoints."""
    stream = DeltaStream(start)
    stream.request(Request(CDS))
    if names:
        stream.request(Request(EDS, subscribe=names))
    acknowledged(stream)
    return stream


def test_a_wildcard_gets_everything_and_names_get_what_they_ask_for():
    stream = DeltaStream(world("a1 b1 c1"))
    stream.request(Request(CDS))
    assert acknowledged(stream) == ["CDS a1 b1 c1"]
    stream.request(Request(EDS, subscribe=("c", "a")))
    assert acknowledged(stream) == ["EDS a1 c1"]


def test_a_resource_is_taken_once_its_newest_version_is_acknowledged():
    stream = opened(world("a1"), ("a",))
    assert stream.has_taken(EDS, "a")
    assert not stream.has_taken(EDS, "b")
    stream.publish(world("a1", "a2"))
    assert not stream.has_taken(EDS, "a")
    response = stream.response()
    assert said(response) == "EDS a2"
    assert not stream.has_taken(EDS, "a")
    stream.request(Request(EDS, nonce=response.nonce))
    assert stream.has_taken(EDS, "a")


def test_nothing_is_taken_by_a_client_that_has_not_asked():
    assert not DeltaStream(world("a1")).has_taken(EDS, "a")


def test_an_empty_world_is_an_answer_and_given_once():
    stream = DeltaStream(world())
    stream.request(Request(CDS))
    assert acknowledged(stream) == ["CDS"]
    stream.publish(world())
    assert stream.response() is None


def test_a_wildcard_that_is_taken_back_in_the_same_request_means_nothing_at_all():
    stream = DeltaStream(world("a1"))
    stream.request(Request(EDS, subscribe=("*",), unsubscribe=("*",)))
    assert stream.response() is None


def test_a_reconnecting_client_is_sent_only_what_differs():
    stream = DeltaStream(world("a1 b2 d1", "a1 b1 d1"))
    stream.request(Request(CDS, initial_versions={"a": "1", "b": "1", "c": "1"}))
    stream.request(Request(EDS, subscribe=("a", "c"), initial_versions={"a": "1", "c": "1"}))
    assert acknowledged(stream) == ["CDS b2 d1", "CDS -c", "EDS -c"]


def test_a_reconnecting_client_that_has_everything_is_sent_nothing():
    stream = DeltaStream(world("a1 b1"))
    stream.request(Request(CDS, initial_versions={"a": "1", "b": "1"}))
    stream.request(Request(EDS, subscribe=("a",), initial_versions={"a": "1"}))
    assert stream.response() is None


def test_additions_go_before_removals_and_clusters_before_endpoints():
    stream = opened(world("a1 b1"), ("a", "b"))
    stream.publish(world("a1 c1", "a2 c1"))
    first, second = stream.response(), stream.response()
    assert [said(first), said(second)] == ["CDS c1", "EDS a2"]
    assert stream.response() is None, "a removal went out before the additions were acknowledged"
    stream.request(Request(CDS, nonce=first.nonce))
    assert stream.response() is None
    stream.request(Request(EDS, nonce=second.nonce, subscribe=("c",)))
    assert acknowledged(stream) == ["EDS c1", "CDS -b", "EDS -b"]


def test_a_client_that_drops_the_endpoints_of_a_removed_cluster_is_not_told_of_them():
    stream = opened(world("a1 b1"), ("a", "b"))
    stream.publish(world("a1"))
    removal = stream.response()
    assert said(removal) == "CDS -b"
    stream.request(Request(EDS, unsubscribe=("b",)))
    stream.request(Request(CDS, nonce=removal.nonce))
    assert stream.response() is None


def test_changes_while_a_response_is_unacknowledged_are_sent_together():
    stream = opened(world("a1"), ("a",))
    stream.publish(world("a1", "a2"))
    waiting = stream.response()
    for version in range(3, 100):
        stream.publish(world("a1", f"a{version}"))
        assert stream.response() is None
    stream.request(Request(EDS, nonce="of an earlier response"))
    assert stream.response() is None
    stream.request(Request(EDS, nonce=waiting.nonce))
    assert acknowledged(stream) == ["EDS a99"]


def test_a_change_that_is_undone_before_it_is_sent_is_not_sent():
    stream = opened(world("a1"), ("a",))
    stream.publish(world("a1 b1", "a2"))
    stream.publish(world("a1"))
    assert stream.response() is None


def test_a_name_that_does_not_exist_is_said_so_once_and_sent_when_it_comes():
    stream = opened(world("a1"), ("a", "x"))
    assert stream.response() is None
    stream.request(Request(EDS, subscribe=("y",)))
    assert acknowledged(stream) == ["EDS -y"]
    stream.publish(world("a1 x1"))
    assert acknowledged(stream) == ["CDS x1", "EDS x1"]


def test_a_missing_name_that_comes_and_goes_unsent_is_not_told_missing_again():
    stream = opened(world("a1"), ("a", "x"))
    stream.publish(world("a1", "a1 x1"))
    stream.publish(world("a1"))
    assert stream.response() is None


def test_a_name_that_is_asked_for_again_is_sent_again():
    stream = opened(world("a1 b1"), ("a", "b"))
    stream.request(Request(EDS, subscribe=("a",)))
    assert acknowledged(stream) == ["EDS a1"]


def test_a_name_that_is_given_up_is_not_told_of_any_more():
    stream = opened(world("a1 b1"), ("a", "b"))
    stream.request(Request(EDS, unsubscribe=("a",)))
    stream.publish(world("a1 b1", "a2 b2"))
    assert acknowledged(stream) == ["EDS b2"]


def test_a_wildcard_that_is_given_up_leaves_the_names():
    stream = DeltaStream(world("a1 b1"))
    stream.request(Request(CDS, subscribe=("*", "a")))
    assert acknowledged(stream) == ["CDS a1 b1"]
    stream.request(Request(CDS, unsubscribe=("*",)))
    stream.publish(world("a2 b2"))
    assert acknowledged(stream) == ["CDS a2"]


@pytest.mark.parametrize("connected", [True, False], ids=["on one stream", "over a reconnection"])
def test_the_endpoints_of_a_changed_cluster_are_sent_again(connected):
    if connected:
        stream = opened(world("a1 b1"), ("a", "b"))
        stream.publish(world("a2 b1", "a1 b1"))
    else:
        stream = DeltaStream(world("a2 b1", "a1 b1"))
        stream.request(Request(CDS, initial_versions={"a": "1", "b": "1"}))
        clusters = stream.response()
        assert said(clusters) == "CDS a2"
        stream.request(Request(EDS, subscribe=("a", "b"), initial_versions={"a": "1", "b": "1"}))
        assert said(stream.response()) == "EDS a1"
        return
    assert acknowledged(stream) == ["CDS a2", "EDS a1"]


def test_a_type_that_is_not_served_has_nothing():
    stream = DeltaStream(world("a1"))
    stream.request(Request("type.googleapis.com/other", subscribe=("s",)))
    assert acknowledged(stream) == ["other -s"]


def test_a_large_world_comes_in_parts_each_after_the_one_before():
    body = b"x" * (delta.RESPONSE_BYTES // 4)
    large = {f"n{i}": Resource("1", body) for i in range(10)}
    stream = DeltaStream(Snapshot({}, {CDS: large}))
    stream.request(Request(CDS))
    first = stream.response()
    assert stream.response() is None
    stream.request(Request(CDS, nonce=first.nonce))
    assert [len(first.resources), *(len(text.split()) - 1 for text in acknowledged(stream))] == [4, 4, 2]


def with_extension(snapshot: Snapshot, version: str = "1") -> Snapshot:
    """The same world, with keys beside its models."""
    return dataclasses.replace(
        snapshot, resources={**snapshot.resources, ECDS: {"keys": Resource(version, b"")}}
    )


def ask(stream: DeltaStream, *types: str, endpoints: tuple[str, ...] = ()) -> None:
    for kind in types:
        stream.request(Request(kind, subscribe={EDS: endpoints, ECDS: ("keys",)}.get(kind, ())))


def test_an_envoy_that_starts_hears_of_extensions_once_it_has_every_model(monkeypatch):
    monkeypatch.setattr(delta, "RESPONSE_BYTES", 1)  # each cluster comes by itself
    stream = DeltaStream(with_extension(world("a1 b1")))
    ask(stream, CDS, ECDS)
    assert acknowledged(stream) == ["CDS a1", "CDS b1"]
    ask(stream, EDS, endpoints=("a",))
    assert acknowledged(stream) == ["EDS a1"], "it has not asked for the endpoints of b yet"
    stream.request(Request(EDS, subscribe=("b",)))
    assert [said(stream.response()), said(stream.response())] == ["EDS b1", None], "not before it took them"
    stream.request(Request(EDS, nonce="4"))
    assert acknowledged(stream) == ["other keys1"]
    stream.publish(with_extension(world("a1 b1 c1"), "2"))
    assert acknowledged(stream) == ["other keys2", "CDS c1"], "later a key counts before any model"


def test_an_envoy_that_starts_waits_for_no_endpoints_of_what_it_refused():
    stream = DeltaStream(with_extension(world("a1 b1")))
    ask(stream, CDS, ECDS, EDS, endpoints=("a",))
    has, _, _ = refusing(stream, {"b1"})
    assert "keys" in has


def test_an_envoy_that_listens_already_hears_of_extensions_first_and_one_that_has_begun_to_start_does_not():
    known = DeltaStream(with_extension(world("a1 b1"), "2"))
    known.request(Request(CDS, initial_versions={"a": "1"}))
    known.request(Request(ECDS, subscribe=("keys",), initial_versions={"keys": "1"}))
    assert acknowledged(known) == ["other keys2", "CDS b1"]
    begun = DeltaStream(with_extension(world("a1 b1")))
    begun.request(Request(CDS, initial_versions={"a": "1"}))
    ask(begun, ECDS, EDS, endpoints=("a", "b"))
    assert acknowledged(begun) == ["CDS b1", "EDS a1 b1", "other keys1"]


def test_an_empty_world_holds_no_extension_back():
    empty = DeltaStream(with_extension(world()))
    ask(empty, CDS, ECDS)
    assert acknowledged(empty) == ["CDS", "other keys1"]


def refusing(stream: DeltaStream, bad: set[str]) -> tuple[dict[str, str], list[Refusal], int]:
    """Be a client that refuses any response with a bad resource in it: what it has, refused, and was sent."""
    has, refusals, rounds = {}, [], 0
    while (response := stream.response()) is not None:
        rounds += 1
        error = "no, thanks" if bad & {f"{n}{r.version}" for n, r in response.resources.items()} else None
        if error is None:
            has |= {name: resource.version for name, resource in response.resources.items()}
        refusals += stream.request(Request(response.type_url, nonce=response.nonce, error=error))
    return has, refusals, rounds


def test_a_resource_that_goes_while_its_response_is_refused_is_removed_all_the_same():
    stream = opened(world("x1", endpoints=""))
    stream.publish(world("x2 y1", endpoints=""))
    response = stream.response()
    assert said(response) == "CDS x2 y1"
    stream.request(Request(CDS, nonce=response.nonce, error="y is bad"))
    stream.publish(world("y1", endpoints=""))
    assert "CDS -x" in " ".join(acknowledged(stream)).replace("CDS y1 -x", "CDS -x")


def test_a_refused_resource_is_singled_out_and_all_others_arrive():
    names = "abcdefghijklmnopqrstuvwxyz"
    stream = DeltaStream(world(" ".join(f"{name}1" for name in names)))
    stream.request(Request(CDS))
    has, refusals, rounds = refusing(stream, {"k1", "z1"})
    assert has == dict.fromkeys(set(names) - {"k", "z"}, "1")
    assert refusals == [Refusal(CDS, name, "1", "no, thanks") for name in "kz"]
    assert rounds < 25, "finding two among 26 takes no more than a few halvings"

    stream.publish(world(" ".join(f"{name}1" for name in names.replace("k", "")) + " k2"))
    assert refusing(stream, {"z1"}) == ({"k": "2"}, [], 1)


class AnyHistory(RuleBasedStateMachine):
    """A client, a world that changes, and reconnections: in the end the client has what the world has."""

    worlds = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 3), st.integers(1, 3)))

    @initialize(start=worlds)
    def connect_first(self, start):
        self.has = {CDS: {}, EDS: {}}
        self.watched: set[str] = set()
        self._see(start)
        self._connect()

    def _see(self, models):
        clusters = {name: Resource(str(c), f"{name}{c}".encode()) for name, (c, _) in sorted(models.items())}
        endpoints = {name: Resource(str(e), f"{name}{e}".encode()) for name, (_, e) in sorted(models.items())}
        self.world = Snapshot({}, {CDS: clusters, EDS: endpoints})

    def _connect(self):
        self.stream = DeltaStream(self.world)
        self.on_the_way: list[Response] = []
        self.stream.request(Request(CDS, initial_versions=dict(self.has[CDS])))
        if self.watched:
            versions = {n: v for n, v in self.has[EDS].items() if n in self.watched}
            self.stream.request(Request(EDS, subscribe=tuple(self.watched), initial_versions=versions))
        self.asked_for_endpoints = bool(self.watched)

    @rule(models=worlds)
    def change(self, models):
        self._see(models)
        self.stream.publish(self.world)

    @rule()
    def send(self):
        if (response := self.stream.response()) is not None:
            self.on_the_way.append(response)

    @rule()
    def take(self):
        if not self.on_the_way:
            return
        response = self.on_the_way.pop(0)
        has = self.has[response.type_url]
        for name, resource in response.resources.items():
            if response.type_url == CDS or name in self.watched:  # what it gave up meanwhile it ignores
                has[name] = resource.version
        for name in response.removed:
            has.pop(name, None)
        self.stream.request(Request(response.type_url, nonce=response.nonce))
        if response.type_url == CDS:
            self._watch_endpoints()

    def _watch_endpoints(self):
        """Ask for the endpoints of new clusters and drop those of removed ones, as Envoy does."""
        wanted = set(self.has[CDS])
        more, less = wanted - self.watched, self.watched - wanted
        self.watched = wanted
        for name in less:
            self.has[EDS].pop(name, None)
        if more or less:
            first = () if self.asked_for_endpoints or more else ("*",)
            self.stream.request(
                Request(EDS, subscribe=(*first, *sorted(more)), unsubscribe=(*first, *sorted(less)))
            )
            self.asked_for_endpoints = True

    @rule()
    def reconnect(self):
        self._connect()

    @invariant()
    def never_two_of_a_type_on_the_way(self):
        kinds = [response.type_url for response in self.on_the_way]
        assert len(kinds) == len(set(kinds))

    def teardown(self):
        for _ in range(100):
            self.send()
            if not self.on_the_way:
                break
            self.take()
        assert not self.on_the_way
        for kind in (CDS, EDS):
            assert self.has[kind] == {n: r.version for n, r in self.world.resources[kind].items()}


AnyHistory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyHistory = AnyHistory.TestCase

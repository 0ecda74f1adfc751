"""RerankConsumers and Secrets as the gateway's consumers: who has which keys, and what keeps one out."""

import asyncio
import base64
import contextlib
import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.keys import digest_of, encoded
from rerank_gateway import models, snapshot
from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.objects import Consumer, KeySecret, UnreadableError
from rerank_gateway.kubernetes.source import KubernetesSource
from rerank_gateway.kubernetes.world import World

A, B = digest_of("a-key"), digest_of("b-key")
KEY = ("rerank", "search")


def rerank_consumer(name="search", secret="keys", granted=("bge",), limits=None, **metadata):
    spec = {"keySecret": {"name": secret}, "models": list(granted)}
    return {
        "metadata": {"name": name, "namespace": "rerank"} | metadata,
        "spec": spec if limits is None else spec | {"limits": limits},
    }


def secret(data, name="keys", **fields):
    return {"metadata": {"name": name, "namespace": "rerank"}, "type": "Opaque", "data": data} | fields


def b64(text):
    return base64.b64encode(text.encode()).decode()


def test_a_consumer_is_read_with_the_secret_beside_it():
    assert objects.consumer(rerank_consumer()) == Consumer(("rerank", "keys"), ("bge",))


@pytest.mark.parametrize(
    ("limits", "requests", "tokens"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param({"requestsPerMinute": 600}, 600, None, id="requests"),
        pytest.param({"tokensPerMinute": 1000}, None, 1000, id="tokens"),
        pytest.param({"requestsPerMinute": 600, "tokensPerMinute": 1000}, 600, 1000, id="both"),
    ],
)
def test_the_limits_of_a_consumer_reach_the_view(limits, requests, tokens):
    world = World()
    world.consumers.put(KEY, objects.consumer(rerank_consumer(limits=limits)))
    (told,) = world.view().consumers
    assert (told.requests_per_minute, told.tokens_per_minute) == (requests, tokens)


def test_a_consumer_or_secret_that_is_being_deleted_is_gone():
    gone = "2026-01-01T00:00:00Z"
    assert objects.consumer(rerank_consumer(deletionTimestamp=gone)) is None
    raw = secret({"a": encoded(A)})
    raw["metadata"]["deletionTimestamp"] = gone
    assert objects.key_secret(raw) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(rerank_consumer(name="A B"), "metadata.name", id="a name for no header"),
        pytest.param(rerank_consumer(secret=None), "spec.keySecret.name", id="no Secret"),
        pytest.param(rerank_consumer(granted=(5,)), "spec.models", id="a number for a model"),
        pytest.param(
            rerank_consumer(limits={"requestsPerMinute": "600"}),
            "spec.limits.requestsPerMinute",
            id="a limit as a text",
        ),
        pytest.param(
            rerank_consumer(limits={"tokensPerMinute": 0}), "spec.limits.tokensPerMinute", id="a limit of 0"
        ),
        pytest.param(
            rerank_consumer(limits={"tokensPerMinute": True}),
            "spec.limits.tokensPerMinute",
            id="a limit that is no number",
        ),
    ],
)
def test_a_consumer_that_cannot_be_used_says_which_field(raw, words):
    with pytest.raises(UnreadableError, match=words):
        objects.consumer(raw)


@pytest.mark.parametrize(
    ("data", "digests", "faults"),
    [
        pytest.param({"k": b64("a-key")}, (A,), 0, id="a key"),
        pytest.param({"k": b64("a-key\n")}, (A,), 0, id="a key from a file"),
        pytest.param({"k": encoded(A), "j": b64("b-key")}, (B, A), 0, id="a digest and a key"),
        pytest.param({"k": encoded(A), "j": b64("two words")}, (A,), 1, id="one that is none"),
        pytest.param({"k": "%"}, (), 1, id="no base64"),
        pytest.param(None, (), 0, id="nothing"),
    ],
)
def test_a_secret_becomes_digests_and_what_is_wrong_repeats_nothing_of_it(data, digests, faults):
    read = objects.key_secret(secret(data))
    assert read.digests == digests
    assert len(read.faults) == faults
    assert "two words" not in repr(read)


def test_a_secret_of_another_type_holds_no_keys():
    assert objects.key_secret(secret({"tls.key": b64("a-key")}, type="kubernetes.io/tls")) is None


def test_a_consumer_has_the_keys_of_its_secret_whichever_came_first():
    world = World()
    world.consumers.put(KEY, Consumer(("rerank", "keys"), ("bge",)))
    assert world.view().consumers == (models.Consumer("rerank/search", (), ("bge",)),)
    assert world.unusable() == (
        "the consumer rerank/search has no key: there is no Secret rerank/keys of type Opaque",
    )
    world.secrets.put(("rerank", "keys"), KeySecret((A, B)))
    assert world.changed
    assert world.view().consumers == (models.Consumer("rerank/search", (A, B), ("bge",)),)
    assert world.unusable() == ()
    world.secrets.put(("rerank", "keys"), KeySecret((), ("k is empty",)))
    assert world.unusable() == ("a key of the consumer rerank/search is left out: rerank/keys: k is empty",)
    world.secrets.put(("rerank", "keys"), None)
    assert world.view().consumers[0].digests == ()
    world.consumers.put(KEY, None)
    assert world.view().consumers == ()


KEYS = st.sampled_from([("rerank", "x"), ("rerank", "y")])
CONSUMERS = st.builds(Consumer, KEYS, st.sampled_from([("*",), ("a",), ()]))
SECRETS = st.builds(KeySecret, st.lists(st.sampled_from([A, B]), unique=True).map(tuple))
EVENTS = st.lists(
    st.tuples(st.just("consumers"), KEYS, st.none() | CONSUMERS)
    | st.tuples(st.just("secrets"), KEYS, st.none() | SECRETS)
    | st.just(("view", None, None)),
    max_size=15,
)


@settings(max_examples=100, deadline=None)
@given(events=EVENTS)
def test_any_history_that_leads_to_the_same_objects_lets_the_same_keys_in(events):
    lived, fresh = World(), World()
    now = {"consumers": {}, "secrets": {}}
    for kind, key, value in events:
        if kind == "view":
            lived.view()
            continue
        getattr(lived, kind).put(key, value)
        now[kind].pop(key, None)
        if value is not None:
            now[kind][key] = value
    for kind in ("secrets", "consumers"):
        getattr(fresh, kind).replace(None, now[kind])
    assert snapshot.build(lived.view()) == snapshot.build(fresh.view())


class Cluster:
    """Answers lists by path, and watches without end."""

    def __init__(self, **lists):
        self.asked = []
        self._lists = lists

    @contextlib.asynccontextmanager
    async def get(self, path, query, limit_s):
        self.asked.append((path, query.get("fieldSelector")))
        yield self._parts(path.rpartition("/")[2], query)

    async def _parts(self, kind, query):
        if "watch" in query:
            await asyncio.Event().wait()
        yield json.dumps({"metadata": {"resourceVersion": "1"}, "items": self._lists.get(kind, [])}).encode()


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_keys_are_followed_in_one_namespace_and_a_useless_one_is_logged_without_itself(caplog):
    caplog.set_level(logging.WARNING)
    cluster = Cluster(
        rerankconsumers=[rerank_consumer()], secrets=[secret({"good": encoded(A), "bad": b64("two words")})]
    )
    async with contextlib.aclosing(KubernetesSource(cluster, consumers_in="rerank").views()) as views:
        view = await asyncio.wait_for(anext(views), 120)
    assert view.consumers == (models.Consumer("rerank/search", (A,), ("bge",)),)
    asked = dict(cluster.asked)
    assert asked["/apis/rerank.dev/v1alpha1/namespaces/rerank/rerankconsumers"] is None
    assert asked["/api/v1/namespaces/rerank/secrets"] == "type=Opaque"
    assert "rerank/keys: bad cannot be a key" in caplog.text
    assert "two words" not in caplog.text


@pytest.mark.anyio
async def test_without_a_namespace_for_consumers_no_secret_is_asked_for():
    cluster = Cluster()
    async with contextlib.aclosing(KubernetesSource(cluster).views()) as views:
        assert (await asyncio.wait_for(anext(views), 120)).consumers == ()
    assert not any("secrets" in path or "consumers" in path for path, _ in cluster.asked)

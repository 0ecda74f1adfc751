"""What Envoy is told of consumers, judged as Envoy judges it: whose a key is, and who may call what."""

import pytest
from envoy.config.rbac.v3 import rbac_pb2 as actions
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.keys import digest_of
from rerank_api.status import ModelState
from rerank_gateway import credentials, resources, snapshot
from rerank_gateway.claims import Contest
from rerank_gateway.models import Consumer, ServedModel, View

A, B, C = (digest_of(key) for key in "abc")


def decide(matcher, headers):
    """Follow a matcher as Envoy does: a header that is not there is in no case."""
    taken = matcher.on_no_match
    if matcher.HasField("matcher_tree"):
        tree = matcher.matcher_tree
        wanted = http_inputs_pb2.HttpRequestHeaderMatchInput.FromString(tree.input.typed_config.value)
        value = headers.get(wanted.header_name)
        if value is not None and value in tree.exact_match_map.map:
            taken = tree.exact_match_map.map[value]
        for prefix in sorted(tree.prefix_match_map.map, key=len):
            if value is not None and value.startswith(prefix):
                taken = tree.prefix_match_map.map[prefix]
    if taken.HasField("matcher"):
        return decide(taken.matcher, headers)
    action = actions.Action.FromString(taken.action.typed_config.value)
    return action.name, action.action == actions.RBAC.ALLOW


def judge(extension, **headers):
    matcher = rbac_pb2.RBAC.FromString(extension.typed_config.value).matcher
    named = {f"x-rerank-{name}": value for name, value in headers.items() if value is not None}
    return decide(matcher, named)


def told(view, name):
    """Return what Envoy would be told under a name."""
    resource = snapshot.build(view).resources[resources.EXTENSION_TYPE][name]
    return credentials.Extension.FromString(resource.body)


def model(name, owner, *hosts, created=1):
    return ServedModel(name, owner, ModelState.READY, "", created=created, hosts=hosts)


@pytest.mark.parametrize(
    ("digest", "verdict"),
    [
        pytest.param(A, ("rag/one", True), id="the first key"),
        pytest.param(B, ("rag/one", True), id="a second key while one is replaced"),
        pytest.param(C, ("two", True), id="another consumer's"),
        pytest.param(digest_of("d"), ("unknown_key", False), id="nobody's"),
        pytest.param(A.upper(), ("unknown_key", False), id="in other letters"),
        pytest.param("", ("unknown_key", False), id="an empty one"),
        pytest.param(None, ("unknown_key", False), id="none"),
    ],
)
def test_a_digest_is_its_consumer_s(digest, verdict):
    view = View(consumers=(Consumer("rag/one", (A, B), ("*",)), Consumer("two", (C,), ())))
    assert judge(told(view, "keys"), key=digest) == verdict


@pytest.mark.parametrize("digest", [A, "", None])
def test_without_consumers_nobody_has_a_key(digest):
    assert judge(told(View(), "keys"), key=digest) == ("unknown_key", False)


def test_a_key_of_two_consumers_is_the_first_s_in_any_order():
    both = (Consumer("b", (A, B), ("*",)), Consumer("a", (A,), ()))
    for consumers in (both, both[::-1]):
        view = View(consumers=consumers)
        assert judge(told(view, "keys"), key=A) == ("a", True)
        assert judge(told(view, "keys"), key=B) == ("b", True)
        assert snapshot.build(view).contests == (Contest(A[:8], "a", ("b",), "key"),)


MODELS = (
    model("bge", "rag/bge", "bge.test", "shared.test", created=2),
    model("BAAI/bge", "rag/bge", "bge.test", "shared.test", created=2),
    model("old", "rag/old", "shared.test", created=1),
    model("plain", "rag/plain"),
)


@pytest.mark.parametrize(
    ("granted", "cluster", "may"),
    [
        pytest.param(("bge",), "m/bge", True, id="a granted name"),
        pytest.param(("bge",), "m/BAAI/bge", False, id="another name of the same model"),
        pytest.param(("bge",), "m/plain", False, id="another model"),
        pytest.param(("bge",), "m/nothing", False, id="a name that nobody has"),
        pytest.param(("later",), "m/later", True, id="a granted name that nobody has yet"),
        pytest.param(("bge",), "h/bge.test", True, id="a host of a model with a granted name"),
        pytest.param(("BAAI/bge",), "h/bge.test", True, id="the same by its other name"),
        pytest.param(("bge",), "h/shared.test", False, id="a host that an older model keeps"),
        pytest.param(("old",), "h/shared.test", True, id="that host, for who may call the older"),
        pytest.param(("plain",), "h/bge.test", False, id="a host of another model"),
        pytest.param(("plain",), "h/nobody.test", True, id="a host that nobody has"),
        pytest.param(("bge",), None, True, id="no cluster"),
        pytest.param((), "m/bge", False, id="nothing granted"),
        pytest.param((), "h/bge.test", False, id="nothing granted, a host"),
        pytest.param(("*",), "m/bge", True, id="all granted"),
        pytest.param(("*",), "h/bge.test", True, id="all granted, a host"),
        pytest.param(("*",), "m/nothing", True, id="all granted, a name that nobody has"),
    ],
)
def test_a_consumer_may_call_what_it_is_granted(granted, cluster, may):
    view = View(MODELS, (Consumer("app", (A,), granted), Consumer("other", (B,), ("plain", "old"))))
    assert judge(told(view, "grants"), consumer="app", cluster=cluster)[1] is may


@pytest.mark.parametrize("consumer", [None, "", "gone", "unknown_key"])
def test_who_is_no_consumer_may_call_nothing(consumer):
    view = View(MODELS, (Consumer("app", (A,), ("*",)), Consumer("other", (B,), ("bge",))))
    for cluster in ("m/bge", "m/nothing", "h/bge.test"):
        assert judge(told(view, "grants"), consumer=consumer, cluster=cluster) == ("not_granted", False)
        assert judge(told(View(MODELS), "grants"), consumer=consumer, cluster=cluster)[1] is False


NAMES = st.sampled_from(["bge", "old", "x"])


@settings(max_examples=100, deadline=None)
@given(
    granted=st.dictionaries(
        st.sampled_from(["a", "b", "rag/a"]),
        st.just(("*",)) | st.lists(NAMES, unique=True, max_size=3).map(tuple),
    ),
    consumer=st.sampled_from(["a", "b", "rag/a", "c"]),
    name=NAMES,
)
def test_who_may_call_a_name_is_who_sees_it_in_the_list(granted, consumer, name):
    """The list of models and the gateway's check are made apart; they agree."""
    models = tuple(model(each, f"rag/{each}") for each in ("bge", "old", "x"))
    view = View(models, tuple(Consumer(each, (), names) for each, names in granted.items()))
    may = judge(told(view, "grants"), consumer=consumer, cluster=f"m/{name}")[1]
    assert may is (name in snapshot.build(view).visible_to(consumer))


def test_consumers_that_stay_the_same_are_not_made_anew():
    consumers = (Consumer("app", (A,), ("bge",)),)
    before = snapshot.build(View(MODELS, consumers))
    grown = snapshot.build(View((*MODELS, model("new", "rag/new")), consumers), before)
    kind = resources.EXTENSION_TYPE
    assert grown.resources[kind] is before.resources[kind]
    hosted = snapshot.build(View((*MODELS, model("new", "rag/new", "new.test")), consumers), grown)
    assert snapshot.changed(grown.resources[kind], hosted.resources[kind]) == {"grants"}
    revoked = snapshot.build(View(MODELS), before)
    assert snapshot.changed(before.resources[kind], revoked.resources[kind]) == {"keys", "grants"}


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        pytest.param("a", "abc", id="a short digest"),
        pytest.param("a", A.upper(), id="upper case"),
        pytest.param("a\n", A, id="a name for no header"),
        pytest.param("a_b", A, id="an underscore, which no consumer has"),
        pytest.param("", A, id="no name"),
    ],
)
def test_what_would_take_all_keys_down_is_no_consumer(name, digest):
    with pytest.raises(ValueError, match=r"consumer"):
        Consumer(name, (digest,))

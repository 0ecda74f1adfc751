"""Views as snapshots: the same whatever the order, and no more work than what changed."""

import dataclasses
import random
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.names import seniority
from rerank_api.status import ModelState
from rerank_gateway import resources, snapshot
from rerank_gateway.claims import Contest
from rerank_gateway.models import Consumer, Endpoint, Facts, ServedModel, View
from rerank_gateway.snapshot import Resource

MODELS = st.builds(
    ServedModel,
    name=st.sampled_from("abc"),
    model=st.sampled_from(["x", "a/x", "a-b/x"]),
    state=st.sampled_from([ModelState.READY, ModelState.LOADING]),
    message=st.sampled_from(["", "fine"]),
    endpoints=st.lists(st.builds(Endpoint, st.just("10.0.0.1"), st.integers(1, 3)), max_size=3).map(tuple),
    created=st.integers(0, 2),
    progress=st.none() | st.sampled_from([0.0, 0.5]),
    hosts=st.lists(st.sampled_from(["h", "i"]), max_size=2, unique=True).map(tuple),
    from_zero=st.booleans(),
    facts=st.sampled_from([Facts(), Facts("embedding", 256, "cosine")]),
)
CONSUMERS = st.builds(
    Consumer,
    name=st.sampled_from(["one", "rag/two"]),
    digests=st.lists(st.sampled_from(["a" * 64, "b" * 64]), unique=True).map(tuple),
    models=st.sampled_from([("*",), ("a",), ("a", "b"), ()]),
)
VIEWS = st.builds(
    View,
    st.lists(MODELS, max_size=8).map(tuple),
    st.lists(CONSUMERS, max_size=2, unique_by=lambda consumer: consumer.name).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(view=VIEWS, seed=st.integers())
def test_any_order_of_a_view_gives_the_same_snapshot(view, seed):
    models, consumers = list(view.models), list(view.consumers)
    for told in (models, consumers):
        random.Random(seed).shuffle(told)
    assert snapshot.build(View(tuple(models), tuple(consumers))) == snapshot.build(view)


@settings(max_examples=50, deadline=None)
@given(views=st.lists(VIEWS, min_size=1, max_size=6))
def test_any_history_that_leads_to_a_view_gives_the_same_snapshot(views):
    current = None
    for view in views:
        current = snapshot.build(view, current)
    assert current == snapshot.build(views[-1])


@settings(max_examples=200, deadline=None)
@given(data=st.data(), pool=st.lists(MODELS, min_size=1, max_size=8))
def test_any_history_of_views_that_carry_models_over_gives_the_same_snapshot(data, pool):
    some = st.lists(st.sampled_from(range(len(pool))), unique=True)
    current, view = None, View()
    for indexes in data.draw(st.lists(some, min_size=1, max_size=6)):
        view = View(tuple(pool[index] for index in indexes))
        current = snapshot.build(view, current)
    assert current == snapshot.build(view)
    assert [*current.models, *current.hosts] == [*sorted(current.models), *sorted(current.hosts)]


def test_a_type_of_which_nothing_changed_is_the_same_object(served):
    one = served("one", 9000)
    before = snapshot.build(View((one,)))
    after = snapshot.build(View((served("one", 9001),)), before)
    kinds = (resources.EXTENSION_TYPE, resources.CLUSTER_TYPE, resources.LOAD_ASSIGNMENT_TYPE)
    assert [after.resources[kind] is before.resources[kind] for kind in kinds] == [True, True, False]


@settings(max_examples=50, deadline=None)
@given(model=MODELS, seed=st.integers())
def test_the_order_of_replicas_changes_no_version(model, seed):
    shuffled = list(model.endpoints)
    random.Random(seed).shuffle(shuffled)
    other = dataclasses.replace(model, endpoints=tuple(shuffled))
    assert snapshot.build(View((model,))).resources == snapshot.build(View((other,))).resources


def test_the_oldest_keeps_a_name_and_the_smaller_model_name_decides_a_tie(served):
    old = served("n", model="old", created=1)
    tied = served("n", model="omega", created=1)
    young = served("n", model="a", created=2)
    built = snapshot.build(View((young, tied, old)))
    assert built.models == {"n": old}
    assert built.contests == (Contest("n", "old", ("a", "omega")),)


@settings(deadline=None)
@given(
    claims=st.lists(
        st.tuples(st.integers(0, 2**31), st.from_regex("[a-b-]{1,3}", fullmatch=True), st.sampled_from("xy")),
        min_size=2,
        max_size=5,
    )
)
def test_who_keeps_a_name_is_who_the_operator_says_keeps_it(claims):
    def text(created):
        return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    view = tuple(
        ServedModel("n", f"{namespace}/{name}", ModelState.READY, "", created=created)
        for created, namespace, name in claims
    )
    _, namespace, name = min(claims, key=lambda claim: seniority(text(claim[0]), *claim[1:]))
    assert snapshot.build(View(view)).models["n"].model == f"{namespace}/{name}"


def test_a_host_goes_to_the_oldest_model_that_claims_it_whatever_its_names(served):
    old = served("n", model="a/old", created=1, hosts=("h",))
    alias = served("o", model="a/old", created=1, hosts=("h",))
    young = served("m", 9000, model="a/young", created=2, hosts=("h", "i"))
    built = snapshot.build(View((young, alias, old)))
    assert {host: model.model for host, model in built.hosts.items()} == {"h": "a/old", "i": "a/young"}
    assert built.contests == (Contest("h", "a/old", ("a/young",), "host"),)
    clusters = built.resources[resources.CLUSTER_TYPE]
    assert set(clusters) == {"m/m", "m/n", "m/o", "h/h", "h/i"}


def test_one_changed_model_among_2000_serialises_one_model(served, monkeypatch):
    view = tuple(served(f"m{i}", 9000) for i in range(2000))
    before = snapshot.build(View(view))
    built = []
    for function in ("cluster", "load_assignment"):
        real = getattr(resources, function)
        monkeypatch.setattr(
            resources,
            function,
            lambda name, *rest, real=real, **named: (built.append(name), real(name, *rest, **named))[1],
        )
    changed = (*view[:7], served("m7", 9001), *view[8:])

    after = snapshot.build(View(changed), before)

    assert built == ["m/m7"], "its endpoints: its cluster stays as it is"
    assert after == snapshot.build(View(changed))
    kinds = (resources.CLUSTER_TYPE, resources.LOAD_ASSIGNMENT_TYPE)
    differences = [snapshot.changed(before.resources[kind], after.resources[kind]) for kind in kinds]
    assert differences == [set(), {"m/m7"}]


def test_what_is_told_of_a_model_changes_nothing_that_envoy_has(served):
    model = served("a", 9000, hosts=("h",))
    before = snapshot.build(View((model,)))
    told = dataclasses.replace(model, message="other", progress=0.5, facts=Facts("embedding", 256, "cosine"))
    after = snapshot.build(View((told,)), before)
    assert after.models["a"].facts == told.facts
    assert before.resources.keys() == after.resources.keys()
    assert all(
        snapshot.changed(old, after.resources[kind]) == set() for kind, old in before.resources.items()
    )


def test_a_cluster_is_sent_anew_only_where_a_choice_of_replicas_begins_or_ends(served):
    def cluster(model):
        return snapshot.build(View((model,))).resources[resources.CLUSTER_TYPE]["m/m"]

    none, one, two, three = (served("m", *range(9000, 9000 + replicas)) for replicas in range(4))
    asleep, awake = served("m", from_zero=True), served("m", 9000, from_zero=True)
    assert len({cluster(model) for model in (none, one)}) == 1
    assert len({cluster(model) for model in (two, three, asleep, awake)}) == 1
    assert cluster(one) != cluster(two)
    grown = snapshot.build(View((two,)), snapshot.build(View((one,))))
    assert grown == snapshot.build(View((two,)))


def test_added_changed_and_removed_resources_are_changes():
    one, two = Resource("1", b"1"), Resource("2", b"2")
    old = {"same": one, "changed": one, "removed": one}
    new = {"same": Resource("1", b"1"), "changed": two, "added": one}
    assert snapshot.changed(old, new) == {"changed", "removed", "added"}

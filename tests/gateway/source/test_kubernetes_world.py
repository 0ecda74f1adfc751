"""Objects as a view: what follows from what, and that only the objects count, not their history."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_api.status import ModelState
from rerank_gateway import snapshot
from rerank_gateway.kubernetes import world
from rerank_gateway.kubernetes.objects import Model, Slice, Told
from rerank_gateway.kubernetes.world import World, served, standing
from rerank_gateway.models import Endpoint, Facts, ServedModel

ONE, TWO, SIX = Endpoint("10.0.0.1", 8000), Endpoint("10.0.0.2", 8000), Endpoint("fd00::1", 8000)
KEY = ("rag", "bge")


def model(namespace="rag", name="bge", **fields):
    return Model(**({"namespace": namespace, "name": name, "created": 7, "names": (name,)} | fields))


def test_each_public_name_of_a_model_has_all_replicas_of_all_its_slices():
    filled = World()
    filled.slices.put(("rag", "bge-1"), Slice(KEY, (ONE, TWO)))
    filled.slices.put(("rag", "bge-2"), Slice(KEY, (SIX, ONE)))
    filled.slices.put(("rag", "other-1"), Slice(("rag", "other"), (Endpoint("10.0.0.9", 8000),)))
    filled.slices.put(("elsewhere", "bge-1"), Slice(("elsewhere", "bge"), (Endpoint("10.0.0.8", 8000),)))
    filled.models.put(
        KEY,
        model(
            names=("bge", "BAAI/bge"),
            host="bge.example.com",
            from_zero=True,
            told=Told(ModelState.READY, "Fine.", facts=Facts("embedding", 256, "cosine")),
        ),
    )
    assert filled.view().models == tuple(
        ServedModel(
            name,
            "rag/bge",
            ModelState.READY,
            "Fine.",
            (ONE, TWO, SIX),
            created=7,
            hosts=("bge.example.com",),
            from_zero=True,
            facts=Facts("embedding", 256, "cosine"),
        )
        for name in ("bge", "BAAI/bge")
    )


@pytest.mark.parametrize(
    ("state", "message", "replicas", "stands", "says"),
    [
        pytest.param("Ready", "Fine.", 2, "Ready", "Fine.", id="as the operator says"),
        pytest.param("Degraded", "1 of 2.", 1, "Degraded", "1 of 2.", id="degraded"),
        pytest.param("Ready", None, 1, "Ready", "Ready.", id="the operator has no words"),
        pytest.param(None, None, 1, "Ready", "1 replica takes traffic.", id="no operator, one replica"),
        pytest.param(None, None, 2, "Ready", "2 replicas take traffic.", id="no operator, two replicas"),
        pytest.param("Pending", "Waits.", 1, "Ready", "1 replica takes traffic.", id="pending but there"),
        pytest.param("Loading", "41 %", 1, "Ready", "1 replica takes traffic.", id="loading but there"),
        pytest.param("Failed", "Broken.", 1, "Ready", "1 replica takes traffic.", id="failed but there"),
        pytest.param("Idle", "Asleep.", 1, "Ready", "1 replica takes traffic.", id="idle but there"),
        pytest.param("Ready", "Fine.", 0, "Pending", "No replica takes traffic.", id="ready but gone"),
        pytest.param("Degraded", "1 of 2.", 0, "Pending", "No replica takes traffic.", id="all gone"),
        pytest.param(None, None, 0, "Pending", "No replica takes traffic.", id="nothing yet"),
        pytest.param(None, "A word.", 0, "Pending", "No replica takes traffic.", id="a state unknown here"),
        pytest.param("Downloading", "41 %", 0, "Downloading", "41 %", id="on its way"),
        pytest.param("Failed", "Broken.", 0, "Failed", "Broken.", id="failed"),
        pytest.param("Idle", None, 0, "Idle", "Idle.", id="idle"),
    ],
)
def test_how_a_model_stands_is_what_the_operator_says_unless_the_replicas_show_otherwise(
    state, message, replicas, stands, says
):
    told = Told(ModelState(state) if state else None, message, 0.41)
    progress = 0.41 if stands == state else None
    assert standing(told, replicas) == (ModelState(stands), says, progress)


@pytest.mark.parametrize(
    ("change", "pressing"),
    [
        pytest.param({"message": "42 %"}, False, id="words"),
        pytest.param({"progress": 0.42}, False, id="progress"),
        pytest.param({"facts": Facts("embedding")}, False, id="facts"),
        pytest.param({"state": ModelState.VERIFYING}, True, id="a state"),
    ],
)
def test_words_about_a_model_can_wait_and_a_state_cannot(change, pressing):
    filled = World()
    told = Told(ModelState.LOADING, "41 %", 0.41)
    filled.models.put(KEY, model(told=told))
    assert filled.pressing
    filled.view()
    assert not filled.pressing
    filled.models.put(KEY, model(told=dataclasses.replace(told, **change)))
    assert (filled.changed, filled.pressing) == (True, pressing)


@pytest.mark.parametrize("field", ["names", "host", "created", "from_zero"])
def test_where_requests_go_cannot_wait(field):
    filled = World()
    filled.models.put(KEY, model())
    filled.view()
    other = {"names": ("other",), "host": "h", "created": 8, "from_zero": True}[field]
    filled.models.put(KEY, model(**{field: other}))
    assert filled.pressing
    filled.view()
    filled.models.put(KEY, None)
    assert filled.pressing


def test_replicas_cannot_wait():
    filled = World()
    filled.models.put(KEY, model())
    filled.view()
    filled.slices.put(("rag", "bge-1"), Slice(KEY, (ONE,)))
    assert filled.pressing


MODELS = st.builds(
    model,
    st.just("rag"),
    st.just("bge"),
    created=st.integers(0, 2),
    names=st.sampled_from([("a",), ("a", "b"), ("c",)]),
    host=st.none() | st.sampled_from(["h", "i"]),
    told=st.builds(
        Told,
        st.none() | st.sampled_from(list(ModelState)),
        progress=st.none() | st.just(0.5),
        facts=st.sampled_from([Facts(), Facts("embedding", 256, "cosine")]),
    ),
)
KEYS = st.sampled_from([("rag", "x"), ("rag", "y"), ("web", "x")])
SLICES = st.builds(Slice, KEYS, st.lists(st.sampled_from([ONE, TWO, SIX]), max_size=2).map(tuple))
EVENTS = st.lists(
    st.tuples(st.just("models"), KEYS, st.none() | MODELS)
    | st.tuples(st.just("slices"), KEYS, st.none() | SLICES)
    | st.tuples(st.just("view"), st.none(), st.none())
    | st.tuples(st.just("models"), st.just("rag") | st.none(), st.dictionaries(KEYS, MODELS))
    | st.tuples(st.just("slices"), st.just("rag") | st.none(), st.dictionaries(KEYS, SLICES)),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(events=EVENTS)
def test_any_history_that_leads_to_the_same_objects_gives_the_same_view(events):
    lived, objects = World(), {"models": {}, "slices": {}}
    for kind, key, value in events:
        if kind == "view":
            lived.view()
        elif isinstance(value, dict):
            inside = {k: v for k, v in value.items() if key in (None, k[0])}
            getattr(lived, kind).replace(key, inside)
            kept = {k: v for k, v in objects[kind].items() if key not in (None, k[0])}
            objects[kind] = kept | inside
        else:
            getattr(lived, kind).put(key, value)
            objects[kind].pop(key, None)
            if value is not None:
                objects[kind][key] = value
    fresh = World()
    fresh.slices.replace(None, objects["slices"])
    fresh.models.replace(None, objects["models"])
    assert snapshot.build(lived.view()) == snapshot.build(fresh.view())
    assert sorted(lived.view().models, key=repr) == sorted(fresh.view().models, key=repr)


def test_one_changed_object_among_2000_makes_one_model_anew(monkeypatch):
    filled, made = World(), []
    filled.models.replace(None, {("rag", f"m{i}"): model(name=f"m{i}") for i in range(2000)})
    before = filled.view().models
    monkeypatch.setattr(world, "served", lambda *told: (made.append(told[0].name), served(*told))[1])

    filled.slices.put(("rag", "m7-1"), Slice(("rag", "m7"), (ONE,)))
    after = filled.view().models

    assert made == ["m7"]
    assert [new.name for old, new in zip(before, after, strict=True) if old is not new] == ["m7"]


def test_what_is_told_again_unchanged_changes_no_view():
    filled = World()
    filled.models.put(KEY, model())
    filled.slices.put(("rag", "bge-1"), Slice(KEY, (ONE,)))
    filled.view()
    filled.models.put(KEY, model())
    filled.slices.replace(None, {("rag", "bge-1"): Slice(KEY, (ONE,))})
    assert not filled.changed

"""What the watches have told: in order, late, twice, or not at all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_operator.errors import RestoredError
from rerank_operator.keys import DEPLOYMENT, MODEL, POD, SERVICE, Key
from rerank_operator.world import World, claimed, host_claim
from tests.operator.given import KEY, Manifest, child, model

OTHER = Key("search", "other")
OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def world(*manifests: Manifest) -> World:
    made = World()
    for manifest in manifests:
        made.put(manifest)
    return made


def claim(name: str, *names: str, namespace: str = "search", created: str = OLD, **fields: Any) -> Manifest:
    """Return a model that claims public names."""
    fields.setdefault("uid", f"uid of {namespace}/{name}")
    return model(name, namespace=namespace, created=created, names=list(names), **fields)


def hosted(name: str, host: str, **fields: Any) -> Manifest:
    """Return a model that wants a host of its own."""
    return claim(name, ingress={"host": host}, **fields)


def leaving(manifest: Manifest) -> Manifest:
    """Return a model as it is while it is being deleted."""
    return {**manifest, "metadata": {**manifest["metadata"], "deletionTimestamp": NEW}}


def held(it: World, name: str) -> list[str]:
    """Return who keeps a name, or a host."""
    return [str(claim) for claim in it.holders([name]).get(name, ())]


@pytest.mark.parametrize(
    ("models", "holder"),
    [
        pytest.param([claim("a", "bge")], "search/a", id="the only one"),
        pytest.param([claim("bge")], "search/bge", id="by its own name where it gives none"),
        pytest.param([claim("a", "bge", created=NEW), claim("b", "bge")], "search/b", id="the older of two"),
        pytest.param(
            [claim("z", "bge", namespace="a"), claim("a", "bge", namespace="b")],
            "a/z",
            id="of the same age the first by namespace",
        ),
        pytest.param([claim("b", "bge"), claim("a", "bge")], "search/a", id="then the first by name"),
        pytest.param(
            [claim("a", "bge"), claim("b", "bge", created=NEW), claim("a", "other", version=2)],
            "search/b",
            id="the younger once the older gives it up",
        ),
        pytest.param(
            [claim("a", "bge", created=NEW), claim("b", "x"), claim("b", "x", "bge", version=2)],
            "search/b",
            id="an older one that asks for it later",
        ),
        pytest.param([claim("a", "other")], None, id="nobody"),
    ],
)
def test_the_oldest_model_that_claims_a_name_keeps_it(models: list[Manifest], holder: str | None) -> None:
    assert held(world(*models), "bge") == ([] if holder is None else [holder])


@pytest.mark.parametrize(
    ("models", "holders"),
    [
        pytest.param(
            [claim("a", "bge", weight=95), claim("b", "bge", weight=5, created=NEW)],
            ["search/a", "search/b"],
            id="both say a weight",
        ),
        pytest.param(
            [claim("a", "bge", weight=95), claim("b", "bge", created=NEW)], ["search/a"], id="one says none"
        ),
        pytest.param(
            [
                claim("a", "bge", weight=95),
                claim("b", "bge", created=NEW),
                claim("b", "bge", weight=5, created=NEW, version=2),
            ],
            ["search/a", "search/b"],
            id="one says it later",
        ),
        pytest.param(
            [
                claim("a", "bge", weight=95),
                claim("b", "bge", weight=5, created=NEW),
                claim("a", "bge", version=2),
            ],
            ["search/a"],
            id="the older takes it back",
        ),
        pytest.param(
            [hosted("a", "bge", weight=95), hosted("b", "bge", weight=5, created=NEW)], [], id="only a host"
        ),
    ],
)
def test_models_that_say_a_weight_share_a_name(models: list[Manifest], holders: list[str]) -> None:
    assert held(world(*models), "bge") == holders


def test_a_host_is_shared_by_nobody_whatever_their_weights() -> None:
    models = [hosted(name, "x.example.com", weight=5) for name in ("a", "b")]
    assert held(world(*models), "//x.example.com") == ["search/a"]


def test_who_shares_a_name_hears_of_the_others_weights() -> None:
    it = world(claim("a", "bge", weight=95), claim("b", "bge", weight=5, created=NEW))
    changed = claim("b", "bge", weight=10, created=NEW, version=2)
    assert it.put(changed) == {Key("search", "a"), Key("search", "b")}


@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        pytest.param(
            lambda it: it.put(claim("b", "one", created=NEW, version=5)), {"a", "b"}, id="a new claim"
        ),
        pytest.param(lambda it: it.put(claim("a", "three", version=5)), {"a", "c"}, id="a claim given up"),
        pytest.param(lambda it: it.remove(claim("a", version=5)), {"a", "c"}, id="a model removed"),
        pytest.param(lambda it: it.remove(claim("d", version=5)), {"d"}, id="a model alone"),
        pytest.param(
            lambda it: it.remove(claim("nobody", version=5)), set(), id="a model that was not known"
        ),
        pytest.param(
            lambda it: it.replace(MODEL, [claim("a", "two"), claim("c", "two", created=NEW)], 5),
            {"d"},
            id="a list without one of them",
        ),
        pytest.param(
            lambda it: it.replace(MODEL, [claim("a", "two", version=5), claim("d")], 5),
            {"a", "c"},
            id="a list with one changed and one gone",
        ),
    ],
)
def test_those_whom_a_change_concerns_are_named(
    change: Callable[[World], Iterable[Key]], concerned: set[str]
) -> None:
    before = world(claim("a", "two", "one"), claim("c", "two", created=NEW), claim("d"))
    assert {key.name for key in change(before)} == concerned


def test_a_model_is_concerned_by_everything_that_was_built_for_it() -> None:
    it = world(model())
    assert it.put(child("Deployment")) == {KEY}
    assert it.put(child("Pod", "bge-1", uid="p")) == {KEY}
    assert it.find(DEPLOYMENT, KEY) is not None
    assert [pod["metadata"]["name"] for pod in it.pods(KEY)] == ["bge-1"]
    assert [kind for kind, _ in it.owned(KEY)] == [DEPLOYMENT]
    assert it.remove(child("Deployment")) == {KEY}
    assert it.find(DEPLOYMENT, KEY) is None


def test_an_object_that_changes_sides_concerns_both() -> None:
    it = world(child("Service", "shared"))
    assert it.put(child("Service", "shared", of=OTHER, version=2)) == {KEY, OTHER}
    assert list(it.owned(KEY)) == []
    assert [kind for kind, _ in it.owned(OTHER)] == [SERVICE]


def test_an_object_that_loses_its_label_is_nobodys() -> None:
    it = world(child("Service"))
    stripped = child("Service", version=2)
    del stripped["metadata"]["labels"]
    assert it.put(stripped) == {KEY}
    assert it.find(SERVICE, KEY) is None


def test_pods_are_told_by_name_and_forgotten_with_their_removal() -> None:
    it = world(*(child("Pod", name, uid=name) for name in ("bge-2", "bge-1")), child("Pod", "x", of=OTHER))
    assert [pod["metadata"]["name"] for pod in it.pods(KEY)] == ["bge-1", "bge-2"]
    assert set(it.pod_uids()) == {"bge-1", "bge-2", "child"}
    it.remove(child("Pod", "bge-1", uid="bge-1"))
    assert [pod["metadata"]["name"] for pod in it.pods(KEY)] == ["bge-2"]


def test_a_model_on_its_way_out_is_not_worked_on_and_gives_its_names_up_at_once() -> None:
    it = world(claim("a", "bge"), claim("b", "bge", created=NEW))
    assert it.put(leaving(claim("a", "bge", version=2))) == {Key("search", "a"), Key("search", "b")}
    assert it.model(Key("search", "a")) is None
    assert held(it, "bge") == ["search/b"]
    assert it.remove(leaving(claim("a", "bge", version=3))) == {Key("search", "a")}
    assert held(it, "bge") == ["search/b"]


@pytest.mark.parametrize(
    ("models", "holder"),
    [
        pytest.param([hosted("a", "x.example.com")], "search/a", id="the only one"),
        pytest.param(
            [hosted("a", "x.example.com", created=NEW), hosted("b", "x.example.com")],
            "search/b",
            id="the older of two",
        ),
        pytest.param(
            [hosted("a", "x.example.com"), hosted("b", "X.Example.com", created=NEW)],
            "search/a",
            id="in whatever letters",
        ),
        pytest.param(
            [
                hosted("a", "x.example.com"),
                hosted("b", "x.example.com", created=NEW),
                leaving(hosted("a", "x.example.com", version=2)),
            ],
            "search/b",
            id="the younger once the older is being deleted",
        ),
        pytest.param([claim("a", "x.example.com")], None, id="not one that has it for a name"),
        pytest.param([hosted("a", "y.example.com")], None, id="nobody"),
    ],
)
def test_the_oldest_model_that_claims_a_host_keeps_it(models: list[Manifest], holder: str | None) -> None:
    wanted = host_claim(hosted("any", "x.example.com"))
    assert wanted is not None
    assert held(world(*models), wanted) == ([] if holder is None else [holder])


def test_those_who_want_the_host_of_a_model_hear_of_its_end() -> None:
    it = world(hosted("a", "x.example.com"), hosted("b", "x.example.com", created=NEW), claim("c"))
    assert it.remove(hosted("a", "x.example.com", version=2)) == {Key("search", "a"), Key("search", "b")}


def test_a_model_without_a_host_claims_none() -> None:
    assert host_claim(claim("a")) is None
    assert claimed(claim("a", "one", "two")) == ("one", "two")


FIRST = claim("a", "first", uid="one", version=10)
AGAIN = claim("a", "again", uid="two", created=NEW, version=20)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        pytest.param(
            [("put", FIRST, 10), ("remove", FIRST, 15), ("put", AGAIN, 20)], ["again"], id="in order"
        ),
        pytest.param(
            [("put", FIRST, 10), ("put", AGAIN, 20), ("remove", FIRST, 15)], ["again"], id="gone late"
        ),
        pytest.param([("put", AGAIN, 20), ("put", FIRST, 10)], ["again"], id="the first told after it"),
        pytest.param([("put", AGAIN, 20), ("put", AGAIN, 18)], ["again"], id="an earlier version after it"),
        pytest.param([("put", FIRST, 10), ("remove", AGAIN, 25)], [], id="both are gone, the second untold"),
        pytest.param([("remove", FIRST, 15), ("put", FIRST, 10)], [], id="told after its own end"),
        pytest.param(
            [("put", FIRST, 10), ("list", [], 15), ("put", FIRST, 10)], [], id="told after a list without it"
        ),
        pytest.param([("put", AGAIN, 20), ("list", [], 15)], ["again"], id="younger than a list without it"),
        pytest.param([("put", FIRST, 10), ("list", [], 12)], [], id="missing in a list: its end was missed"),
        pytest.param([("put", AGAIN, 20), ("list", [FIRST], 12)], ["again"], id="a list from before it"),
        pytest.param([("put", FIRST, 10), ("list", [AGAIN], 22)], ["again"], id="a list that has the second"),
        pytest.param([("list", [FIRST], 12), ("remove", FIRST, 15)], [], id="gone after a list"),
        pytest.param(
            [("put", FIRST, 10), ("remove", FIRST, 15), ("list", [FIRST], 12)], [], id="a late list"
        ),
        pytest.param([("list", [], 5), ("list", [FIRST], 12)], ["first"], id="two lists"),
        pytest.param([("list", [FIRST], 12), ("list", [FIRST], 12)], ["first"], id="the same list again"),
    ],
)
def test_the_newest_word_about_a_name_stands(told: list[Any], names: list[str]) -> None:
    it = World()
    for how, what, version in told:
        tell(it, how, what, version)
    assert sorted(it.holders(["first", "again"])) == names
    assert [*it.models()] == [Key("search", "a")] * len(names)


def tell(it: World, how: str, what: Any, version: int) -> Iterable[Key]:
    if how == "list":
        return it.replace(MODEL, what, version)
    manifest = {**what, "metadata": {**what["metadata"], "resourceVersion": str(version)}}
    return it.put(manifest) if how == "put" else it.remove(manifest)


def test_a_list_older_than_the_last_tells_of_an_api_server_that_was_restored() -> None:
    it = World()
    it.replace(MODEL, [AGAIN], 22)
    it.replace(POD, [], 12)  # of another kind, as lists are that are read one after another
    with pytest.raises(RestoredError, match=r"rerankmodels are at version 12, and were at 22 before: "):
        it.replace(MODEL, [FIRST], 12)


def test_a_list_older_than_what_a_watch_told_is_only_late() -> None:
    it = world(AGAIN)
    it.replace(MODEL, [], 12)
    assert [*it.models()] == [Key("search", "a")]


def test_what_was_told_twice_is_there_once() -> None:
    it = world(model(), model(), child("Pod", "p"), child("Pod", "p"))
    assert [*it.models()] == [KEY]
    assert len(it.pods(KEY)) == 1
    it.remove(model())
    it.remove(model())
    assert it.holders(["bge"]) == {}


def test_lists_of_one_kind_say_nothing_of_another() -> None:
    it = world(model(), child("Pod", "p"), child("Deployment"))
    it.replace(POD, [], 9)
    assert it.pods(KEY) == ()
    assert it.model(KEY) is not None
    assert it.find(DEPLOYMENT, KEY) is not None


NAMES = ("one", "two", "three")
PLACES = (Key("x", "a"), Key("x", "b"), Key("y", "a"))


@dataclass
class History:
    """What happened to models in a cluster: events as watches tell them, and what lists would have shown."""

    events: list[tuple[str, Manifest, int]] = field(default_factory=list)
    alive: dict[Key, Manifest] = field(default_factory=dict)
    lists: list[tuple[list[Manifest], int]] = field(default_factory=lambda: [([], 0)])

    def step(
        self, place: Key, names: tuple[str, ...], created: str, weight: int | None, *, leaves: bool
    ) -> None:
        """Create or change the model there; without names it is gone, if it was there."""
        version = len(self.events) + 1
        if names:
            before = self.alive.get(place)
            made = before["metadata"] if before else {"uid": f"uid {version}", "creationTimestamp": created}
            now = claim(
                place.name,
                *names,
                namespace=place.namespace,
                uid=made["uid"],
                created=made["creationTimestamp"],
                version=version,
                **({} if weight is None else {"weight": weight}),
            )
            self.alive[place] = leaving(now) if leaves else now
            self.events.append(("put", self.alive[place], version))
        elif gone := self.alive.pop(place, None):
            self.events.append(("remove", gone, version))
        self.lists.append((list(self.alive.values()), len(self.events)))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.lists(st.sampled_from(NAMES), unique=True, max_size=2).map(tuple),
        st.sampled_from((OLD, NEW)),
        st.sampled_from((None, 0, 5)),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


def history(steps: list[Any]) -> History:
    made = History()
    for place, names, created, weight, leaves in steps:
        made.step(place, names, created, weight, leaves=leaves)
    return made


def summary(it: World) -> tuple[Any, ...]:
    models = {key: it.model(key) for key in it.models()}
    return models, dict(it.holders(NAMES))


@hypothesis.settings(deadline=None)
@given(STEPS, st.data())
def test_any_order_of_the_same_words_gives_the_same_world(steps: list[Any], data: st.DataObject) -> None:
    happened = history(steps)
    in_order = World()
    for event in happened.events:
        tell(in_order, *event)
    lists = data.draw(st.lists(st.sampled_from(happened.lists), max_size=3))
    # Lists are read one after another, so they alone come in order.
    in_turn = iter(sorted(lists, key=lambda one: one[1]))
    told = data.draw(st.permutations([*happened.events, *(None for _ in lists)]))
    shuffled = World()
    for event in told:
        tell(shuffled, *(event or ("list", *next(in_turn))))
    assert summary(shuffled) == summary(in_order)


@hypothesis.settings(deadline=None)
@given(STEPS)
def test_a_list_puts_right_whatever_was_missed(steps: list[Any]) -> None:
    happened = history(steps)
    heard, complete = World(), World()
    for number, event in enumerate(happened.events):
        tell(complete, *event)
        if number % 3:
            tell(heard, *event)
    tell(heard, "list", *happened.lists[-1])
    assert summary(heard) == summary(complete)


@hypothesis.settings(deadline=None)
@given(STEPS, st.data())
def test_nobodys_names_change_hands_unheard(steps: list[Any], data: st.DataObject) -> None:
    happened = history(steps)
    it = World()
    for event in data.draw(st.permutations(happened.events)):
        before = claims(it)
        concerned = set(tell(it, *event))
        after = claims(it)
        assert {key for key in before | after if before.get(key) != after.get(key)} <= concerned


def claims(it: World) -> dict[Key, Any]:
    """Return who holds the names that each model claims."""
    models = {key: it.model(key) for key in it.models()}
    return {key: (raw, dict(it.holders(claimed(raw)))) for key, raw in models.items() if raw}

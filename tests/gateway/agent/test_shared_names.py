"""A public name that several RerankModels share, as the gateway serves, lists and meters it."""

from dataclasses import replace
from typing import Any

import pytest

from rerank_api.status import ModelState
from rerank_gateway import listing, sharing, snapshot
from rerank_gateway.claims import Contest
from rerank_gateway.metering import Account, Ledger, Use
from rerank_gateway.models import Consumer, Endpoint, Facts, ServedModel, View
from rerank_gateway.resources import CLUSTER_TYPE, LOAD_ASSIGNMENT_TYPE
from rerank_gateway.sharing import SharedName

READY, LOADING, IDLE = ModelState.READY, ModelState.LOADING, ModelState.IDLE
FAILED, DEGRADED, PENDING = ModelState.FAILED, ModelState.DEGRADED, ModelState.PENDING


def part(model: str, weight: int | None, state: ModelState = READY, **fields: Any) -> ServedModel:
    """Return a model that claims `bge`; it has a replica if it takes traffic."""
    port = 9000 + sum(model.encode())
    ready = (Endpoint("127.0.0.1", port),) if state in (READY, DEGRADED) else ()
    fields = {"endpoints": ready, "message": f"{model} is told.", **fields}
    return ServedModel(name="bge", model=model, state=state, weight=weight, **fields)


def served(*models: ServedModel) -> ServedModel:
    return snapshot.build(View(models)).models["bge"]


@pytest.mark.parametrize(
    ("parts", "state", "wakes"),
    [
        pytest.param([part("a", 95), part("b", 5)], READY, "a", id="both are ready"),
        pytest.param([part("a", 5), part("b", 95)], READY, "b", id="the larger part is the younger's"),
        pytest.param([part("a", 95), part("b", 5, LOADING)], DEGRADED, "a", id="one is on its way"),
        pytest.param([part("a", 95), part("b", 5, DEGRADED)], DEGRADED, "a", id="one lacks replicas"),
        pytest.param(
            [part("a", 95), part("b", 0, LOADING)], READY, "a", id="one without a part does not count"
        ),
        pytest.param(
            [part("a", 95, LOADING), part("b", 0)], LOADING, "a", id="who has no part stands in for none"
        ),
        pytest.param([part("a", 95, FAILED), part("b", 5, LOADING)], LOADING, "a", id="none, one on its way"),
        pytest.param([part("a", 0), part("b", 0)], IDLE, "a", id="nobody has a part"),
        pytest.param([part("a", 5, READY, endpoints=())], READY, "a", id="told ready, alone"),
        pytest.param(
            [part("a", 5, READY, endpoints=()), part("b", 5, READY, endpoints=())],
            PENDING,
            "a",
            id="told ready without replicas",
        ),
        pytest.param(
            [part("a", 95, FAILED), part("b", 5, IDLE, from_zero=True), part("c", 0, IDLE, from_zero=True)],
            IDLE,
            "b",
            id="a request wakes who may be woken and has a part",
        ),
    ],
)
def test_a_shared_name_stands_as_its_callers_find_it(
    parts: list[ServedModel], state: ModelState, wakes: str
) -> None:
    found = served(*parts)
    assert (found.state, found.wakes) == (state, wakes)
    assert found.from_zero is any(one.from_zero for one in parts)


@pytest.mark.parametrize(
    ("told", "facts"),
    [
        pytest.param([Facts("bert", 512, "logit")] * 2, Facts("bert", 512, "logit"), id="both say the same"),
        pytest.param(
            [Facts("bert", 512, "logit"), Facts("qwen3", 8192, "logit")],
            Facts(None, 512, "logit"),
            id="the shorter length holds for both",
        ),
        pytest.param([Facts("bert", 512, "logit"), Facts()], Facts(), id="one has said nothing yet"),
    ],
)
def test_of_a_shared_name_is_told_what_is_true_of_all(told: list[Facts], facts: Facts) -> None:
    models = [part(name, 1, facts=each) for name, each in zip("ab", told, strict=True)]
    assert served(*models).facts == facts
    assert served(*models, part("c", 0, facts=Facts("other", 1, "cosine"))).facts == facts


def test_a_weight_of_0_is_nothing_also_for_who_is_left_alone() -> None:
    found = served(part("a", 0))
    assert isinstance(found, SharedName)
    assert (found.state, found.endpoints) == (IDLE, ())
    own = replace(part("bge", 0), name="bge")
    assert served(own) is own


def test_of_a_name_that_is_not_shared_the_oldest_takes_all() -> None:
    oldest = part("rag/old", None, created=1)
    built = snapshot.build(View((part("rag/new", 5, created=2), oldest, part("web/new", 5, created=2))))
    assert built.models["bge"] is oldest
    assert built.contests == (Contest("bge", "rag/old", ("rag/new", "web/new")),)


def test_who_shares_a_name_contests_it_not() -> None:
    built = snapshot.build(View((part("rag/a", 5), part("rag/b", 5), part("rag/c", None, created=1))))
    assert [one.model.model for one in built.models["bge"].parts] == ["rag/a", "rag/b"]
    assert built.contests == (Contest("bge", "rag/a", ("rag/c",)),)


@pytest.mark.parametrize(
    ("weights", "leaves_a_choice"),
    [
        pytest.param((95, 94), True, id="another part"),
        pytest.param((95, None), False, id="one shares no more"),
        pytest.param((0, 5), False, id="one has no part any more"),
    ],
)
def test_a_changed_weight_is_told_and_nothing_else(
    weights: tuple[int, int | None], leaves_a_choice: bool
) -> None:
    other = replace(part("rag/other", None), name="other")
    before = snapshot.build(View((part("rag/a", 95), part("rag/b", 5), other)))
    after = snapshot.build(View((part("rag/a", weights[0]), part("rag/b", weights[1]), other)), before)
    concerned = {LOAD_ASSIGNMENT_TYPE} if leaves_a_choice else {LOAD_ASSIGNMENT_TYPE, CLUSTER_TYPE}
    for kind, resources in after.resources.items():
        told = snapshot.changed(before.resources[kind], resources)
        assert told == ({"m/bge"} if kind in concerned else set())


def test_a_host_of_a_model_is_open_to_who_may_call_the_name_that_it_shares() -> None:
    models = (part("rag/a", 95, hosts=("a.test",)), part("rag/b", 5, hosts=("b.test",)))
    built = snapshot.build(View(models, (Consumer("app", (), ("bge",)),)))
    assert built.doors == {"a.test": {"bge"}, "b.test": {"bge"}}
    assert {host: model.model for host, model in built.hosts.items()} == {
        "a.test": "rag/a",
        "b.test": "rag/b",
    }


def test_a_shared_name_is_listed_once_with_who_shares_it() -> None:
    found = served(part("rag/a", 95, created=7), part("rag/b", 5, LOADING, created=8, progress=0.4))
    assert listing.describe(found, ["bge"]) == {
        "id": "bge",
        "object": "model",
        "created": 7,
        "owned_by": "rag/a",
        "names": ["bge"],
        "state": "Degraded",
        "message": "Shared by weight: rag/a (95) Ready, rag/b (5) Loading.",
        "shared_by": [
            {"model": "rag/a", "weight": 95, "state": "Ready"},
            {"model": "rag/b", "weight": 5, "state": "Loading"},
        ],
    }
    on_its_way = listing.describe(listing.as_routed(found, lambda _: False), ["bge"])
    assert on_its_way["state"] == "Loading"
    assert [one["state"] for one in on_its_way["shared_by"]] == ["Loading", "Loading"]  # type: ignore[index]


def test_a_model_is_told_with_the_names_that_it_shares_too() -> None:
    own = ServedModel(name="b-alone", model="b", state=READY, message="x", weight=5)
    names = listing.names_by_model(snapshot.build(View((part("a", 95), part("b", 5), own))).models)
    assert names == {"a": ["bge"], "b": ["b-alone", "bge"]}


def test_what_each_of_them_did_is_added_up_by_itself() -> None:
    ledger = Ledger()
    for model, tokens in (("rag/a", 10), ("rag/b", 1), ("rag/a", 10), ("", 0)):
        use = Use("app", "bge", 200 if model else 503, 1, tokens, served_by=model)
        ledger.add(use, {"app"}, {"bge": served(part("rag/a", 95), part("rag/b", 5))}, {})
    assert ledger.requests() == {
        Account("app", "bge", "2xx", "rag/a"): 2,
        Account("app", "bge", "2xx", "rag/b"): 1,
        Account("app", "bge", "5xx", ""): 1,
    }
    assert (("app", "bge", "rag/a"), 2, 20) in set(ledger.used())


def test_a_claim_is_of_a_namespace_and_a_name() -> None:
    assert str(sharing.claim_of(part("a-b/x", 5))) == "a-b/x"
    assert str(sharing.claim_of(part("x", 5))) == "x"
    older = sharing.claim_of(part("a/x", 5)), sharing.claim_of(part("a-b/x", 5))
    assert older[0].seniority < older[1].seniority

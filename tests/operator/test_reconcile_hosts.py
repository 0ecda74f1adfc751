"""A model's own host: where the gateway is, what is built while nobody knows, and whose a host is."""

from typing import Any

import pytest

from rerank_api.status import ConditionType
from rerank_operator.errors import ClusterError
from rerank_operator.keys import Key
from rerank_operator.pods import Reason
from rerank_operator.reconcile import LOOK_NOW_AND_THEN_S
from tests.operator.given import model
from tests.operator.in_memory import refusal
from tests.operator.stage import GATEWAY_SERVICE, HOST, Stage, stage


def test_a_host_follows_the_gateways_address() -> None:
    it = stage(**HOST)
    it.run()
    assert it.again == LOOK_NOW_AND_THEN_S, "the gateway's Service is not watched"
    it.cluster.put({**GATEWAY_SERVICE, "spec": {"clusterIP": "10.96.0.99"}})
    [call] = it.run(later=60)
    assert call.startswith("apply EndpointSlice bge-gateway-")


def test_the_gateway_is_looked_up_once_a_minute_for_all_models() -> None:
    it = stage(**HOST)
    it.has(model("other", uid="o", ingress={"host": "other.example.com"}), model("plain", uid="p"))
    others = [Key("search", name) for name in ("other", "plain")]

    def lookups(later: float = 0.0) -> int:
        it.cluster.reads.clear()
        it.run(later=later)
        for key in others:
            it.run(key)
        return it.cluster.reads.count("get Service rerank-gateway")

    assert [lookups(), lookups(later=59), lookups(later=1), lookups()] == [1, 0, 1, 0]


def test_a_gateway_that_no_host_needs_is_not_looked_up() -> None:
    it = stage()
    it.run()
    assert "get Service rerank-gateway" not in it.cluster.reads


def test_a_model_beside_the_gateway_needs_no_address() -> None:
    it = Stage().has(model(namespace="rerank", **HOST))
    place = Key("rerank", "bge")
    assert it.run(place) == ["apply Deployment bge", "apply Service bge", "apply Ingress bge", "status bge"]
    assert it.again is None


@pytest.mark.parametrize(
    "service",
    [
        pytest.param(None, id="no gateway"),
        pytest.param({"clusterIP": "None"}, id="a gateway without an address"),
        pytest.param({"type": "ExternalName"}, id="a gateway that is a name"),
    ],
)
def test_a_host_that_leads_nowhere_is_said_and_the_model_is_built_all_the_same(service: Any) -> None:
    it = Stage().has(model(**HOST))
    if service is not None:
        it.has({**GATEWAY_SERVICE, "spec": service})
    assert it.run() == [
        "apply Deployment bge",
        "apply Service bge",
        "event GatewayNotFound",
        "status bge",
    ]
    status, reason, message = it.said(ConditionType.ACCEPTED)
    assert (status, reason) == ("False", Reason.GATEWAY_NOT_FOUND)
    assert message == (
        "spec.ingress.host leads nowhere: the gateway's Service rerank-gateway in rerank is not there "
        "or has no cluster IP: install the gateway, or remove the field."
    )
    assert it.again == LOOK_NOW_AND_THEN_S
    it.has(GATEWAY_SERVICE)
    built = [" ".join(call.split()[:2]) for call in it.run(later=60)]
    assert built == ["apply Service", "apply EndpointSlice", "apply Ingress", "status bge"]
    assert it.said(ConditionType.ACCEPTED)[0] == "True"


@pytest.mark.parametrize(
    ("read", "message"),
    [
        pytest.param(
            None,
            "spec.ingress.host leads nowhere: the gateway's Service rerank-gateway in rerank is not there or "
            "has no cluster IP: install the gateway, or remove the field.",
            id="it is not there any more",
        ),
        pytest.param(
            refusal(403, "services is forbidden"),
            "spec.ingress.host leads nowhere: the operator could not apply an object: services is forbidden: "
            "let it read that Service.",
            id="it may not be read any more",
        ),
    ],
)
def test_while_nobody_knows_where_the_gateway_is_nothing_is_taken_away(
    read: ClusterError | None, message: str
) -> None:
    it = stage(replicas=2, **HOST)
    it.run()
    if read is None:
        it.cluster.take("Service", Key("rerank", "rerank-gateway"))
    else:
        it.cluster.refusals["get Service rerank-gateway"] = read
    it.has(model(generation=2, status=it.live("RerankModel")["status"], replicas=1, **HOST))
    calls = it.run(later=60)
    assert calls == ["apply Deployment bge", "event GatewayNotFound", "status bge"]
    assert it.said(ConditionType.ACCEPTED) == ("False", Reason.GATEWAY_NOT_FOUND, message)
    it.cluster.refusals.clear()
    it.has(GATEWAY_SERVICE)
    assert it.run(later=60) == ["delete PodDisruptionBudget bge", "status bge"]


def test_a_lookup_of_the_gateway_that_fails_by_chance_is_tried_again() -> None:
    it = stage(**HOST)
    it.cluster.refusals["get Service rerank-gateway"] = refusal(0, "the API server cannot be reached")
    with pytest.raises(ClusterError):
        it.run()
    assert it.cluster.calls == []
    it.cluster.refusals.clear()
    it.run()
    assert it.said(ConditionType.ACCEPTED)[0] == "True"


OLDER = Key("search", "older")
YOUNG = "2026-01-02T00:00:00Z"


def two_of_one_host() -> Stage:
    return stage(created=YOUNG, **HOST).has(model("older", uid="o", **HOST))


def test_a_model_whose_host_an_older_one_has_is_built_without_it() -> None:
    it = two_of_one_host()
    assert it.run() == ["apply Deployment bge", "apply Service bge", "status bge"]
    assert it.said(ConditionType.ACCEPTED) == (
        "True",
        Reason.NAME_TAKEN,
        "The older model search/older has the host of spec.ingress: choose another.",
    )
    assert it.status().url == "http://rerank-gateway.rerank.svc"
    assert it.again is None, "what it waits for is watched"
    it.run(OLDER)
    assert it.live("Ingress", OLDER)["spec"]["rules"][0]["host"] == "bge.example.com"
    assert it.status(OLDER).url == "http://bge.example.com"
    assert it.said(ConditionType.ACCEPTED, OLDER)[1] == Reason.ACCEPTED


def test_a_host_is_the_younger_models_once_the_older_is_being_deleted() -> None:
    it = two_of_one_host()
    it.run()
    going = it.live("RerankModel", OLDER)
    going["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    it.has(going)
    assert "apply Ingress bge" in it.run()
    assert it.status().url == "http://bge.example.com"
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.ACCEPTED


def test_a_host_that_an_older_model_claims_later_is_given_up() -> None:
    it = stage(created=YOUNG, **HOST)
    it.run()
    it.has(model("older", uid="o", **HOST))
    deleted = [call for call in it.run() if call.startswith("delete")]
    assert sorted(call.split()[1] for call in deleted) == ["EndpointSlice", "Ingress", "Service"]
    assert ("Ingress", Key("search", "bge")) not in it.cluster.objects

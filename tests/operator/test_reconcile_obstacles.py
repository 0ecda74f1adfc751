"""What stands between a model and its objects: others' objects, refusals, names, events, and what passes."""

from typing import Any

import pytest

from rerank_api.status import ConditionType, ModelState
from rerank_operator.errors import ClusterError, EndingError
from rerank_operator.keys import Key
from rerank_operator.pods import Reason
from rerank_operator.reconcile import LOOK_NOW_AND_THEN_S, LOOK_WHILE_INCOMPLETE_S
from tests.operator.given import ELSEWHERE, UID, Manifest, model, pod
from tests.operator.in_memory import refusal
from tests.operator.stage import Stage, stage


def foreign(kind: str = "Service", name: str = "bge", **metadata: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "search", **metadata}}


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="that no watch shows"),
        pytest.param({"rerank.dev/model": "bge"}, id="that has our label"),
    ],
)
def test_an_object_of_somebody_else_is_left_alone_and_said(labels: dict[str, str]) -> None:
    it = stage().has(foreign(labels=labels))
    assert it.run() == ["apply Deployment bge", "event ObjectNameInUse", "status bge"]
    status, reason, message = it.said(ConditionType.ACCEPTED)
    assert (status, reason) == ("False", Reason.OBJECT_NAME_IN_USE)
    assert message == (
        "There is a Service bge in search that does not belong to this model, and it is not touched: rename "
        "the model, or remove that object."
    )
    assert it.status().state is ModelState.FAILED
    assert it.again == LOOK_NOW_AND_THEN_S
    assert it.run() == []
    it.loses("Service")
    assert it.run(later=60) == ["apply Service bge", "status bge"]
    assert it.said(ConditionType.ACCEPTED)[:2] == ("True", Reason.ACCEPTED)


def owned_by(uid: str, name: str) -> dict[str, Any]:
    owner = {"apiVersion": "rerank.dev/v1alpha1", "kind": "RerankModel", "name": name, "uid": uid}
    return {"ownerReferences": [{**owner, "controller": True}], "labels": {"rerank.dev/model": name}}


def test_an_object_of_another_model_that_lives_is_not_waited_for() -> None:
    it = stage().has(foreign(**owned_by("uid of other", "other")))
    it.run()
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.OBJECT_NAME_IN_USE


def test_what_an_earlier_model_of_the_name_left_is_waited_for() -> None:
    earlier = owned_by("uid of the earlier", "bge")
    it = stage().has(foreign("Deployment", **earlier), pod(ready=True))
    assert it.run() == ["apply Service bge", "status bge"]
    assert it.again == LOOK_WHILE_INCOMPLETE_S
    assert it.status().message == "The Deployment is not there yet."
    assert it.status().ready_replicas == 0, "the pods are the earlier model's"
    assert it.run() == []
    it.loses("Deployment")
    it.loses("Pod", Key("search", "bge-1"))
    assert it.run() == ["apply Deployment bge", "status bge"]
    assert it.again is None


def test_an_object_on_its_way_out_is_waited_for_whosever_it_is() -> None:
    it = stage().has(foreign(deletionTimestamp="2026-01-31T12:00:00Z", labels={}))
    assert it.run() == ["apply Deployment bge", "status bge"]
    assert it.again == LOOK_WHILE_INCOMPLETE_S, "no watch tells when it is gone"
    it.loses("Service")
    assert it.run() == ["apply Service bge"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"labels": {"rerank.dev/model": "bge"}}, id="nobody's"),
        pytest.param(owned_by("uid of other", "bge"), id="another model's"),
        pytest.param(
            {**owned_by(UID, "bge"), "deletionTimestamp": "2026-01-31T12:00:00Z"}, id="going already"
        ),
    ],
)
def test_what_is_not_ours_to_take_away_is_left(metadata: dict[str, Any]) -> None:
    it = stage().has(foreign("Ingress", "extra", **metadata))
    assert [call for call in it.run() if call.startswith("delete")] == []


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_a_refusal_that_only_people_can_mend_is_said(status: int) -> None:
    it = stage()
    it.cluster.refusals["apply Service"] = refusal(status, "Service is invalid: spec.ports: Invalid value.")
    assert it.run() == ["apply Deployment bge", "apply Service bge", "event ObjectRefused", "status bge"]
    assert it.said(ConditionType.ACCEPTED) == (
        "False",
        Reason.OBJECT_REFUSED,
        "The operator could not apply an object: Service is invalid: spec.ports: Invalid value.",
    )
    assert it.again == LOOK_NOW_AND_THEN_S
    it.cluster.refusals.clear()
    it.run()
    assert it.said(ConditionType.ACCEPTED)[0] == "True"


def test_a_refusal_while_replicas_serve_leaves_them_serving() -> None:
    it = stage()
    it.run()
    it.has(it.pod(ready=True))
    it.run()
    it.cluster.refusals["apply Deployment"] = refusal(422, "no")
    it.has(model(generation=2, status=it.live("RerankModel")["status"], replicas=3))
    it.run()
    assert it.status().state is ModelState.DEGRADED
    assert it.status().ready_replicas == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal(0, "the API server cannot be reached"), id="not reached"),
        pytest.param(refusal(409), id="a conflict"),
        pytest.param(refusal(429), id="too much at once"),
        pytest.param(refusal(500), id="its own fault"),
        pytest.param(EndingError("apply an object", 403, "being terminated"), id="a namespace that ends"),
    ],
)
@pytest.mark.parametrize("call", ["apply Deployment", "apply Service", "status"])
def test_what_passes_by_itself_is_raised_to_be_tried_again(error: ClusterError, call: str) -> None:
    it = stage()
    it.cluster.refusals[call] = error
    with pytest.raises(type(error)):
        it.run()
    it.cluster.refusals.clear()
    it.run()
    assert it.said(ConditionType.ACCEPTED)[0] == "True"
    assert it.run() == []


def test_a_refused_model_is_told_why_and_nothing_is_built() -> None:
    it = stage(**ELSEWHERE)
    assert it.run() == ["event Refused", "status bge"]
    assert it.status().state is ModelState.FAILED
    assert it.again is None
    assert it.run() == []


def test_a_model_that_is_refused_later_goes_on_as_it_was() -> None:
    it = stage(replicas=2)
    it.run()
    it.has(it.pod(ready=True), it.pod("bge-2", ready=True))
    it.run()
    it.has(model(generation=2, status=it.live("RerankModel")["status"], **ELSEWHERE))
    assert it.run() == ["event Refused", "status bge"]
    assert it.status().state is ModelState.DEGRADED
    assert it.status().ready_replicas == 2
    assert it.live("Deployment")["spec"]["replicas"] == 2


def test_a_model_without_a_name_of_its_own_is_not_built_until_it_has_one() -> None:
    it = Stage().has(
        model("older", uid="o", names=["bge"]), model(created="2026-01-02T00:00:00Z", names=["bge"])
    )
    assert it.run() == ["event NameTaken", "status bge"]
    assert it.again is None
    it.loses("RerankModel", Key("search", "older"))
    assert it.run() == ["apply Deployment bge", "apply Service bge", "status bge"]


def test_an_event_that_cannot_be_recorded_is_logged_and_does_not_hold_the_status_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = stage(**ELSEWHERE)
    it.cluster.refusals["event"] = refusal(403, "events.events.k8s.io is forbidden")
    assert it.run() == ["event Refused", "status bge"]
    assert it.status().state is ModelState.FAILED
    assert "events.events.k8s.io is forbidden" in caplog.text
    assert it.run() == []


def test_an_event_is_told_though_the_status_is_written_only_later() -> None:
    it = stage(**ELSEWHERE)
    it.cluster.refusals["status"] = refusal(409)
    with pytest.raises(ClusterError):
        it.run()
    it.cluster.refusals.clear()
    assert it.run() == ["event Refused", "status bge"]
    assert len(it.cluster.events) == 1, "told twice, it has one name"


def test_in_a_namespace_that_ends_neither_event_nor_status_is_written() -> None:
    it = stage(**ELSEWHERE)
    it.cluster.refusals["event"] = EndingError("record an event", 403, "being terminated")
    with pytest.raises(EndingError):
        it.run()
    assert it.cluster.calls == ["event Refused"]

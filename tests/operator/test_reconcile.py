"""One model from what is known to what shall be, against an API server in memory."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from rerank_api.rerank_model import RerankModelStatus
from rerank_api.status import ConditionType, ModelState, ServerState, ServerStatus
from rerank_operator.errors import ClusterError, EndingError
from rerank_operator.keys import DEPLOYMENT, INGRESS, SERVICE, Key
from rerank_operator.observed import FINGERPRINT
from rerank_operator.pods import Reason
from rerank_operator.reconcile import (
    LOOK_NOW_AND_THEN_S,
    LOOK_WHILE_COMING_S,
    LOOK_WHILE_FAILING_S,
    Reconciler,
)
from rerank_operator.settings import Settings
from rerank_operator.world import World
from tests.operator.given import GATEWAY, KEY, NOW, UID, Manifest, child, model, pending, pod, settings
from tests.operator.in_memory import InMemoryCluster, ToldReports, refusal

GATEWAY_SERVICE: Manifest = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "rerank-gateway", "namespace": "rerank"},
    "spec": {"clusterIP": GATEWAY},
}
HOST = {"ingress": {"host": "bge.example.com"}}


class Stage:
    """A reconciler with everything around it; the watches tell at once what the cluster is made to hold."""

    def __init__(self, by: Settings | None = None) -> None:
        self.world = World()
        self.cluster = InMemoryCluster()
        self.reports = ToldReports()
        self.now = NOW
        self.reconciler = Reconciler(
            self.world, self.cluster, self.reports, by or settings(), "rerank-operator-1", self._now
        )

    def _now(self) -> datetime:
        return self.now

    def has(self, *manifests: Manifest) -> "Stage":
        """Have the cluster hold objects, and the watches tell them."""
        for manifest in manifests:
            self.world.put(self.cluster.put(manifest))
        return self

    def loses(self, kind: str, place: Key = KEY) -> None:
        """Have somebody delete an object, and the watch tell it."""
        self.world.remove(self.cluster.take(kind, place))

    def live(self, kind: str, place: Key = KEY) -> Manifest:
        return self.cluster.objects[kind, place]

    def edit(self, kind: str, change: Callable[[Manifest], object]) -> None:
        """Have somebody change an object, and the watch tell it."""
        manifest = self.live(kind)
        change(manifest)
        self.has(manifest)

    def run(self, key: Key = KEY, *, later: float = 0.0) -> list[str]:
        """Reconcile; return what was done."""
        self.now += timedelta(seconds=later)
        while self.cluster.deleted:
            self.world.remove(self.cluster.deleted.pop())
        before = len(self.cluster.calls)
        self.again = asyncio.run(self.reconciler.reconcile(key))
        return self.cluster.calls[before:]

    def status(self, place: Key = KEY) -> RerankModelStatus:
        return RerankModelStatus.model_validate(
            self.live("RerankModel", place)["status"], by_alias=True, by_name=False
        )

    def said(self, of: ConditionType, place: Key = KEY) -> tuple[str, str, str]:
        """Return the status, the reason and the message of a condition."""
        [found] = [one for one in self.status(place).conditions if one.type is of]
        return found.status, found.reason, found.message

    def pod(self, name: str = "bge-1", **fields: Any) -> Manifest:
        """Return a pod of the template as it is in the cluster."""
        template = self.live("Deployment")["spec"]["template"]["metadata"]["annotations"]
        made = fields.pop("made", pod)
        return made(name, fingerprint=template[FINGERPRINT], **fields)  # type: ignore[no-any-return]


def stage(by: Settings | None = None, **spec: Any) -> Stage:
    """Return a stage with a model on it, and the gateway."""
    return Stage(by).has(model(**spec), GATEWAY_SERVICE)


@pytest.mark.parametrize(
    ("by", "spec", "built"),
    [
        pytest.param({}, {}, ["Deployment bge", "Service bge"], id="the least"),
        pytest.param({}, {"replicas": 0}, ["Deployment bge", "Service bge"], id="at rest"),
        pytest.param(
            {},
            {"replicas": 2},
            ["Deployment bge", "Service bge", "PodDisruptionBudget bge"],
            id="two replicas",
        ),
        pytest.param(
            {},
            HOST,
            [
                "Deployment bge",
                "Service bge",
                "Service bge-gateway-",
                "EndpointSlice bge-gateway-",
                "Ingress bge",
            ],
            id="a host",
        ),
        pytest.param(
            {"ingress": {"kind": "HTTPRoute"}},
            HOST,
            ["Deployment bge", "Service bge", "HTTPRoute bge"],
            id="a host by a route",
        ),
    ],
)
def test_everything_is_built_in_order_then_the_status_is_told_once(
    by: dict[str, Any], spec: dict[str, Any], built: list[str]
) -> None:
    it = stage(settings(**by), **spec)
    *applied, told = (call for call in it.run() if not call.startswith("event"))
    assert told == "status bge"
    assert_calls(applied, [f"apply {one}" for one in built])


def assert_calls(calls: list[str], wanted: list[str]) -> None:
    """Compare calls; an object whose name ends in a digest is given without it."""
    assert len(calls) == len(wanted), calls
    for call, begins in zip(calls, wanted, strict=True):
        assert call.startswith(begins) if begins.endswith("-") else call == begins


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="the least"),
        pytest.param({"replicas": 2, **HOST}, id="with all that may be built"),
    ],
)
def test_a_second_look_and_a_later_one_write_nothing(spec: dict[str, Any]) -> None:
    it = stage(**spec)
    it.run()
    assert it.run() == []
    assert it.run(later=3600) == []


def test_a_life_is_told_step_by_step_and_its_milestones_by_events() -> None:
    it = stage()
    it.run()
    assert it.status().state is ModelState.PENDING
    it.has(it.pod(made=pending))
    assert it.run(later=1) == ["status bge"]
    assert it.again == LOOK_WHILE_FAILING_S
    it.has(it.pod())
    it.reports.says["uid of bge-1"] = ServerStatus(
        state=ServerState.DOWNLOADING, message="x", progress=0.4301
    )
    assert it.run(later=1) == ["status bge"]
    assert it.status().message == "43% downloaded."
    assert it.again == LOOK_WHILE_COMING_S
    it.reports.says["uid of bge-1"] = ServerStatus(
        state=ServerState.DOWNLOADING, message="y", progress=0.4302
    )
    assert it.run(later=1) == [], "less than a percent is not written"
    it.has(it.pod(ready=True))
    it.reports.says["uid of bge-1"] = ServerStatus(
        state=ServerState.READY, message="Ready", engine="padded-cpu", revision="content-1"
    )
    assert it.run(later=1) == ["status bge", "event Ready"]
    assert it.status().engine == "padded-cpu"
    assert it.again is None
    assert it.run(later=60) == []
    assert [event["reason"] for event in it.cluster.events.values()] == ["Ready"]


@pytest.mark.parametrize(
    ("change", "written"),
    [
        pytest.param({"replicas": 2}, ["Deployment bge", "PodDisruptionBudget bge"], id="one replica more"),
        pytest.param({"scoring": {"activation": "sigmoid"}}, ["Deployment bge"], id="another scoring"),
        pytest.param(
            {"template": {"env": [{"name": "A", "value": "1"}]}}, ["Deployment bge"], id="another variable"
        ),
    ],
)
def test_a_change_writes_what_it_concerns_and_nothing_else(
    change: dict[str, Any], written: list[str]
) -> None:
    it = stage()
    it.run()
    it.has(model(generation=2, status=it.live("RerankModel")["status"], **change))
    assert it.run() == [*(f"apply {one}" for one in written), "status bge"]
    assert it.status().conditions[0].observed_generation == 2
    assert it.run() == []


def test_a_change_that_is_taken_back_leaves_nothing_of_it() -> None:
    it = stage()
    it.run()
    before = it.live("Deployment")["spec"]
    for generation, env in ((2, [{"name": "A", "value": "1"}]), (3, [])):
        status = it.live("RerankModel")["status"]
        it.has(model(generation=generation, status=status, template={"env": env, "envFrom": []}))
        it.run()
    assert it.live("Deployment")["spec"] == before


@pytest.mark.parametrize(
    ("change", "mended"),
    [
        pytest.param(
            lambda it: it.edit("Deployment", lambda one: one["spec"].update(replicas=7)),
            ["apply Deployment bge"],
            id="scaled by hand",
        ),
        pytest.param(
            lambda it: it.edit("Service", lambda one: one["metadata"].update(ownerReferences=[])),
            [],
            id="disowned: then it is somebody else's",
        ),
        pytest.param(lambda it: it.loses("Service"), ["apply Service bge"], id="deleted"),
        pytest.param(
            lambda it: it.edit("Service", lambda one: one["metadata"].pop("labels")),
            ["apply Service bge"],
            id="without its label, and so out of sight",
        ),
        pytest.param(
            lambda it: it.edit("Deployment", lambda one: one["metadata"]["labels"].update(team="search")),
            [],
            id="somebody's label beside ours",
        ),
    ],
)
def test_what_somebody_changes_is_mended(change: Callable[[Stage], object], mended: list[str]) -> None:
    it = stage()
    it.run()
    change(it)
    assert [call for call in it.run() if call.startswith("apply")] == mended


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
    assert it.run() == ["apply Deployment bge", "status bge", "event ObjectNameInUse"]
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
    assert it.again == LOOK_WHILE_FAILING_S
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
    assert it.again == LOOK_WHILE_FAILING_S, "no watch tells when it is gone"
    it.loses("Service")
    assert it.run() == ["apply Service bge"]


@pytest.mark.parametrize(
    ("before", "after", "deleted"),
    [
        pytest.param({"replicas": 2}, {"replicas": 1}, ["PodDisruptionBudget bge"], id="the second replica"),
        pytest.param(
            HOST,
            {},
            ["EndpointSlice bge-gateway-", "Ingress bge", "Service bge-gateway-"],
            id="the host, with all that leads there",
        ),
    ],
)
def test_what_is_not_wanted_any_more_is_taken_away(
    before: dict[str, Any], after: dict[str, Any], deleted: list[str]
) -> None:
    it = stage(**before)
    it.run()
    it.has(model(generation=2, status=it.live("RerankModel")["status"], **after))
    assert_calls(
        sorted(call for call in it.run() if call.startswith("delete")), [f"delete {one}" for one in deleted]
    )
    left = {kind for kind, place in it.cluster.objects if place.namespace == KEY.namespace}
    assert left == {"RerankModel", "Deployment", "Service"}
    assert it.run() == []


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
    assert it.run() == ["apply Deployment bge", "apply Service bge", "status bge", "event ObjectRefused"]
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


def test_for_a_model_that_is_gone_or_going_nothing_is_done() -> None:
    it = Stage()
    assert it.run() == []
    it.has(model())
    it.run()
    it.edit("RerankModel", lambda one: one["metadata"].update(deletionTimestamp="2026-01-31T12:00:00Z"))
    it.loses("Deployment")
    assert it.run() == []
    it.loses("RerankModel")
    assert it.run() == []
    assert it.again is None


def test_a_model_that_was_created_anew_is_read_anew() -> None:
    it = stage(weight=5)
    it.run()
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.REFUSED
    it.loses("RerankModel")
    it.run()
    it.has(model(uid="another"))
    it.run()
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.ACCEPTED
    assert it.live("Deployment")["metadata"]["ownerReferences"][0]["uid"] == "another"


def test_a_refused_model_is_told_why_and_nothing_is_built() -> None:
    it = stage(weight=5)
    assert it.run() == ["status bge", "event Refused"]
    assert it.status().state is ModelState.FAILED
    assert it.again is None
    assert it.run() == []


def test_a_model_that_is_refused_later_goes_on_as_it_was() -> None:
    it = stage(replicas=2)
    it.run()
    it.has(it.pod(ready=True), it.pod("bge-2", ready=True))
    it.run()
    it.has(model(generation=2, status=it.live("RerankModel")["status"], weight=5))
    assert it.run() == ["status bge", "event Refused"]
    assert it.status().state is ModelState.DEGRADED
    assert it.status().ready_replicas == 2
    assert it.live("Deployment")["spec"]["replicas"] == 2


def test_a_model_without_a_name_of_its_own_is_not_built_until_it_has_one() -> None:
    it = Stage().has(
        model("older", uid="o", names=["bge"]), model(created="2026-01-02T00:00:00Z", names=["bge"])
    )
    assert it.run() == ["status bge", "event NameTaken"]
    assert it.again is None
    it.loses("RerankModel", Key("search", "older"))
    assert it.run() == ["apply Deployment bge", "apply Service bge", "status bge"]


def test_a_status_of_another_version_of_the_operator_is_written_anew() -> None:
    it = Stage().has(model(status={"state": "Dreaming", "conditions": [{"type": "Awake"}]}))
    assert it.run()[-1] == "status bge"
    assert it.status().state is ModelState.PENDING


def test_servers_are_asked_and_nodes_complaints_are_read() -> None:
    it = stage()
    it.run()
    it.has(it.pod(made=pending), it.pod("bge-2"), child("Pod", "other-1", of=Key("search", "other"), uid="x"))
    it.cluster.complaints["uid of bge-1"] = [
        {"reason": "FailedScheduling", "message": "0/1 nodes are available"},
        {"reason": "FailedMount", "message": 'secret "old" not found'},
        {"reason": "FailedMount", "message": 'secret "hub" not found'},
        {"reason": "Unhealthy", "message": "Startup probe failed"},
    ]
    it.run()
    assert it.reports.asked == ["bge-1", "bge-2"]
    assert it.status().message == (
        'The node node-1 cannot prepare the pod: secret "hub" not found. It tries again by itself.'
    )


@pytest.mark.parametrize(
    ("pods", "says", "again"),
    [
        pytest.param([], {}, None, id="no pods: a watch tells"),
        pytest.param([{"ready": True}], {"bge-1": ServerState.READY}, None, id="ready"),
        pytest.param([{"ready": True}], {}, LOOK_NOW_AND_THEN_S, id="ready, and cannot be asked"),
        pytest.param([{}], {"bge-1": ServerState.LOADING}, LOOK_WHILE_COMING_S, id="loading"),
        pytest.param([{}], {}, LOOK_WHILE_COMING_S, id="starting"),
        pytest.param([{}], {"bge-1": ServerState.FAILED}, LOOK_WHILE_FAILING_S, id="failing"),
        pytest.param(
            [{}, {}],
            {"bge-1": ServerState.FAILED, "bge-2": ServerState.LOADING},
            LOOK_WHILE_COMING_S,
            id="one fails, one loads",
        ),
        pytest.param([{"made": pending}], {}, LOOK_WHILE_FAILING_S, id="prepared by its node"),
        pytest.param([{"made": pending, "node": None}], {}, None, id="without a node: a watch tells"),
    ],
)
def test_a_model_is_looked_at_again_where_no_watch_tells(
    pods: list[dict[str, Any]], says: dict[str, ServerState], again: float | None
) -> None:
    it = stage()
    it.run()
    it.has(*(it.pod(f"bge-{number}", **fields) for number, fields in enumerate(pods, 1)))
    for name, state in says.items():
        failure = "It fails." if state is ServerState.FAILED else None
        it.reports.says[f"uid of {name}"] = ServerStatus(state=state, message="x", failure=failure)
    it.run()
    assert it.again == again


def test_a_host_follows_the_gateways_address() -> None:
    it = stage(**HOST)
    it.run()
    assert it.again == LOOK_NOW_AND_THEN_S, "the gateway's Service is not watched"
    it.cluster.put({**GATEWAY_SERVICE, "spec": {"clusterIP": "10.96.0.99"}})
    [call] = it.run(later=60)
    assert call.startswith("apply EndpointSlice bge-gateway-")


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
        "apply Ingress bge",
        "status bge",
        "event GatewayNotFound",
    ]
    status, reason, message = it.said(ConditionType.ACCEPTED)
    assert (status, reason) == ("False", Reason.GATEWAY_NOT_FOUND)
    assert message == (
        "spec.ingress.host leads nowhere, because the gateway's Service rerank-gateway in rerank is not "
        "there or has no cluster IP: install the gateway, or remove the field."
    )
    assert it.again == LOOK_NOW_AND_THEN_S
    it.has(GATEWAY_SERVICE)
    it.run()
    assert it.said(ConditionType.ACCEPTED)[0] == "True"


def test_a_model_beside_the_gateway_needs_no_address() -> None:
    it = Stage().has(model(namespace="rerank", **HOST))
    place = Key("rerank", "bge")
    assert it.run(place) == ["apply Deployment bge", "apply Service bge", "apply Ingress bge", "status bge"]
    assert it.again is None


def test_the_world_knows_at_once_what_was_written() -> None:
    it = stage(**HOST)
    it.run()
    for kind in (DEPLOYMENT, SERVICE, INGRESS):
        assert it.world.find(kind, KEY) is not None
    known = it.world.model(KEY)
    assert known is not None
    assert known["status"]["state"] == "Pending"

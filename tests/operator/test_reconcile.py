"""One model from what is known to what shall be, against an API server in memory."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from rerank_api.status import ConditionType, ModelState, ServerState, ServerStatus
from rerank_operator.keys import DEPLOYMENT, INGRESS, SERVICE, Key
from rerank_operator.pods import Reason
from rerank_operator.reconcile import LOOK_WHILE_PREPARED_S, PATIENCE
from tests.operator.given import ELSEWHERE, KEY, NOW, child, model, pending, settings
from tests.operator.in_memory import refusal
from tests.operator.stage import HOST, Stage, stage


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
            {"ingress": {"kind": "HTTPRoute", "parentRefs": [{"name": "public"}]}},
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
    assert it.again == LOOK_WHILE_PREPARED_S
    it.has(it.pod())
    it.reports.said["uid of bge-1/0"] = ServerStatus(
        state=ServerState.DOWNLOADING, message="x", progress=0.4301
    )
    assert it.run(later=1) == ["status bge"]
    assert it.status().message == "43% downloaded."
    assert it.again is None, "the followers of its server tell"
    it.reports.said["uid of bge-1/0"] = ServerStatus(
        state=ServerState.DOWNLOADING, message="y", progress=0.4302
    )
    assert it.run(later=1) == [], "less than a percent is not written"
    it.has(it.pod(ready=True))
    it.reports.said["uid of bge-1/0"] = ServerStatus(
        state=ServerState.READY, message="Ready", engine="padded-cpu", revision="content-1"
    )
    assert it.run(later=1) == ["event Ready", "status bge"]
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
    it = stage(**ELSEWHERE)
    it.run()
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.REFUSED
    it.loses("RerankModel")
    it.run()
    it.has(model(uid="another"))
    it.run()
    assert it.said(ConditionType.ACCEPTED)[1] == Reason.ACCEPTED
    assert it.live("Deployment")["metadata"]["ownerReferences"][0]["uid"] == "another"


def test_two_models_that_share_a_name_are_both_built_and_a_changed_weight_changes_no_object() -> None:
    names = ["shared"]
    elder = model("elder", uid="e", names=names, weight=95)
    it = Stage().has(elder, model(created="2026-01-02T00:00:00Z", names=names, weight=5))
    assert it.run() == ["apply Deployment bge", "apply Service bge", "status bge"]
    [name] = it.status().names
    assert name.accepted
    assert name.message == "Shared by weight with search/elder (95); spec.weight here is 5."
    status = it.live("RerankModel")["status"]
    it.has(model(created="2026-01-02T00:00:00Z", generation=2, status=status, names=names, weight=10))
    assert it.run() == ["status bge"]


def test_a_status_of_another_version_of_the_operator_is_written_anew() -> None:
    it = Stage().has(model(status={"state": "Dreaming", "conditions": [{"type": "Awake"}]}))
    assert it.run()[-1] == "status bge"
    assert it.status().state is ModelState.PENDING


def test_the_servers_of_a_model_are_followed_until_it_is_gone() -> None:
    it = stage()
    it.run()
    it.has(it.pod(), it.pod("bge-2"), child("Pod", "other-1", of=Key("search", "other"), uid="x"))
    it.run()
    assert it.reports.followed == {KEY: ["bge-1", "bge-2"]}
    it.loses("Pod", Key("search", "bge-1"))
    it.run()
    assert it.reports.followed == {KEY: ["bge-2"]}
    it.loses("RerankModel")
    it.run()
    assert it.reports.followed == {KEY: []}


def test_what_a_server_said_before_it_was_started_again_is_not_told_of_the_next_run() -> None:
    it = stage()
    it.run()
    it.reports.said["uid of bge-1/0"] = ServerStatus(state=ServerState.LOADING, message="The first run")
    it.has(it.pod(last={"terminated": {"exitCode": 255, "reason": "Unknown"}}))
    it.run()
    assert it.status().message == "The server's process is starting."


COMPLAINTS = [
    {"reason": "FailedScheduling", "message": "0/1 nodes are available"},
    {"reason": "FailedMount", "message": 'secret "old" not found'},
    {"reason": "FailedMount", "message": 'secret "hub" not found'},
    {"reason": "FailedMount", "message": "Unable to attach or mount volumes: unmounted volumes=[hub]"},
    {"reason": "Unhealthy", "message": "Startup probe failed"},
]
PREPARED = {"conditions": [{"type": "PodReadyToStartContainers", "status": "True"}]}
PREPARES = "The node node-1 prepares the pod: image and volumes."


def since(ago: timedelta) -> str:
    """Write a time as the kubelet does."""
    return (NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("fields", "reads", "message"),
    [
        pytest.param(
            {"made": pending, "startTime": since(PATIENCE)},
            ["warnings bge-1"],
            'The node node-1 cannot prepare the pod: secret "hub" not found. It tries again by itself.',
            id="prepared for long",
        ),
        pytest.param(
            {"made": pending, "startTime": since(PATIENCE - timedelta(seconds=1))},
            [],
            PREPARES,
            id="prepared for a moment",
        ),
        pytest.param({"made": pending}, [], PREPARES, id="not taken by its node yet"),
        pytest.param(
            {"made": pending, "startTime": since(timedelta(hours=1)), **PREPARED},
            [],
            PREPARES,
            id="past all that was complained of, and waiting for its image",
        ),
        pytest.param(
            {"startTime": since(timedelta(hours=1))}, [], "The server's process is starting.", id="prepared"
        ),
    ],
)
def test_nodes_complaints_are_read_once_a_pod_is_prepared_for_long(
    fields: dict[str, Any], reads: list[str], message: str
) -> None:
    it = stage()
    it.run()
    it.has(it.pod(**fields))
    it.cluster.complaints["uid of bge-1"] = COMPLAINTS
    it.cluster.reads.clear()
    it.run()
    assert it.cluster.reads == reads
    assert it.status().message == message


def test_complaints_that_may_not_be_read_cost_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    it = stage()
    it.run()
    it.has(it.pod(made=pending, startTime=since(PATIENCE)))
    it.cluster.refusals["warnings"] = refusal(403, "events is forbidden")
    assert it.run() == ["status bge"]
    assert it.status().message == PREPARES
    assert it.again == LOOK_WHILE_PREPARED_S
    assert "events is forbidden" in caplog.text


@pytest.mark.parametrize(
    ("pods", "says", "again"),
    [
        pytest.param([], {}, None, id="no pods: a watch tells"),
        pytest.param([{"ready": True}], {"bge-1": ServerState.READY}, None, id="ready"),
        pytest.param([{"ready": True}], {}, None, id="ready, and cannot be asked: its follower tells"),
        pytest.param([{}], {"bge-1": ServerState.LOADING}, None, id="loading: its follower tells"),
        pytest.param([{}], {"bge-1": ServerState.FAILED}, None, id="failing: its follower tells"),
        pytest.param([{"made": pending}], {}, LOOK_WHILE_PREPARED_S, id="prepared by its node"),
        pytest.param([{"ready": True}, {"made": pending}], {}, LOOK_WHILE_PREPARED_S, id="one of two"),
        pytest.param([{"made": pending, **PREPARED}], {}, None, id="waiting for its image: a watch tells"),
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
        it.reports.said[f"uid of {name}/0"] = ServerStatus(state=state, message="x", failure=failure)
    it.run()
    assert it.again == again


def test_the_world_knows_at_once_what_was_written() -> None:
    it = stage(**HOST)
    it.run()
    for kind in (DEPLOYMENT, SERVICE, INGRESS):
        assert it.world.find(kind, KEY) is not None
    known = it.world.model(KEY)
    assert known is not None
    assert known["status"]["state"] == "Pending"

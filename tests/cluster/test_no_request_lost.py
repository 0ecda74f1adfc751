"""Eight clients send all the while, and none of their requests may fail."""

import os
import time

from tests.cluster.harness.kube import BUILT, Kube, eventually
from tests.cluster.harness.models import model, quickstart
from tests.cluster.harness.traffic import Door, assert_none_failed, traffic
from tests.cluster.onenode.cluster import OneNode

NAME = quickstart()["metadata"]["name"]
API_AWAY_S = 600 if os.environ.get("RERANK_NIGHTLY") == "1" else 60


def served(kube: Kube, door: Door, **spec: object) -> None:
    """Have a model of two replicas that the gateway serves."""
    kube.apply(model("steady", names=["acme/steady"], replicas=2, **spec))
    kube.ready("steady")
    door.answered("acme/steady")


def test_a_changed_manifest_rolls_out_without_a_failed_request_and_a_deleted_model_is_gone_at_once(
    kube: Kube, door: Door
) -> None:
    served(kube, door)
    before = {pod["metadata"]["name"] for pod in kube.pods("steady")}
    with traffic(door, "acme/steady") as seen:
        kube.patch("rerankmodel", "steady", {"spec": {"scoring": {"maxLength": 128}}})
        status = kube.says("steady", "RollingOut")
        assert [one["status"] for one in status["conditions"] if one["type"] == "Available"] == ["True"]
        assert "Serving as before the change" in status["message"]
        kube.ready("steady")
        eventually(
            lambda: not before & {pod["metadata"]["name"] for pod in kube.pods("steady")},
            "the replaced pods to end",
            seconds=600,
        )
        time.sleep(2)
    assert_none_failed(seen)

    # A finalizer holds what was built for it: no request is refused because its pods end.
    kube.patch("rerankmodel", "steady", {"metadata": {"finalizers": ["example.com/hold"]}})
    try:
        kube("delete", "rerankmodel", "steady", "--wait=false")
        deleted = time.monotonic()
        door.answered("acme/steady", 404)
        print(f"404 everywhere after {time.monotonic() - deleted:.2f} s")
        serving = [pod for pod in kube.pods("steady") if "deletionTimestamp" not in pod["metadata"]]
        assert len(serving) == 2
    finally:
        kube.patch("rerankmodel", "steady", {"metadata": {"finalizers": None}})
    eventually(
        lambda: kube.all(BUILT, "rerank.dev/model=steady") == [], "all that was built to go", seconds=600
    )


def test_gateway_pods_are_replaced_without_a_failed_request(models: Kube, door: Door, system: Kube) -> None:
    door.answered(NAME)
    with traffic(door, NAME) as seen:
        system("rollout", "restart", "deployment/rerank-gateway")
        system("rollout", "status", "deployment/rerank-gateway", "--timeout=600s")
        gateways = "app.kubernetes.io/component=gateway"
        eventually(lambda: len(system.all("pods", gateways)) == 2, "the old gateways to end", seconds=600)
        time.sleep(2)
    assert_none_failed(seen)


def test_traffic_goes_on_without_operator_and_api_server_and_both_come_back_to_the_same_state(
    models: Kube, door: Door, system: Kube, own_cluster: OneNode
) -> None:
    door.answered(NAME)
    before = models.get("rerankmodel", NAME)
    with traffic(door, NAME) as seen:
        system(
            "delete",
            "pod",
            "--selector",
            "app.kubernetes.io/component=operator",
            "--grace-period=0",
            "--force",
        )
        own_cluster.stop("apiserver")
        try:
            time.sleep(API_AWAY_S)
        finally:
            own_cluster.start("apiserver")
        system("rollout", "status", "deployment/rerank-operator", "--timeout=600s")
        models.ready(NAME)
    assert_none_failed(seen, at_least=100)

    # Both hear of changes again.
    fresh = model("after-the-outage", replicas=0)
    models.apply(fresh)
    models.says("after-the-outage", "ScaledToZero")
    eventually(
        lambda: all("after-the-outage" in told for told in door.lists()), "every gateway to hear of it"
    )
    # Not before: only an operator that acts again could have written something else.
    eventually(
        lambda: models.status(NAME) == before["status"],
        f"the status to be as before: {before['status']}",
        lambda: models.status(NAME),
    )
    models("delete", "rerankmodel", "after-the-outage")
    eventually(
        lambda: not any("after-the-outage" in told for told in door.lists()),
        "every gateway to hear that it is gone",
    )

"""Eight clients send all the while, and none of their requests may fail."""

import time

from tests.cluster.harness.kube import BUILT, Kube, eventually
from tests.cluster.harness.models import model
from tests.cluster.harness.traffic import Door, Traffic, traffic
from tests.cluster.onenode.cluster import OneNode


def assert_none_failed(seen: Traffic, at_least: int = 20) -> None:
    """Every request was answered, and there were some."""
    print(dict(seen.outcomes))
    assert seen.failures == []
    assert seen.answered >= at_least


def served(kube: Kube, door: Door, **spec: object) -> None:
    """Have a model of two replicas that the gateway serves."""
    kube.apply(model("steady", names=["acme/steady"], replicas=2, **spec))
    kube.ready("steady")
    eventually(lambda: door.rank("acme/steady").status_code == 200, "the gateway to know it")


def test_a_changed_manifest_rolls_out_without_a_failed_request_and_a_deleted_model_is_gone_at_once(
    kube: Kube, door: Door
) -> None:
    served(kube, door)
    before = {pod["metadata"]["name"] for pod in kube.pods("steady")}
    with traffic(door, "acme/steady") as seen:
        kube.patch("rerankmodel", "steady", {"spec": {"scoring": {"maxLength": 128}}})
        kube.says("steady", "RollingOut")
        assert kube.condition("steady", "Available")["status"] == "True"
        assert "Serving as before the change" in kube.status("steady")["message"]
        kube.ready("steady")
        eventually(
            lambda: not before & {pod["metadata"]["name"] for pod in kube.pods("steady")},
            "the replaced pods to end",
            seconds=60,
        )
        time.sleep(2)
    assert_none_failed(seen)

    kube("delete", "rerankmodel", "steady", "--wait=false")
    deleted = time.monotonic()
    gone = eventually(lambda: _gone(door), "404", every=0.05)
    print(f"404 after {gone - deleted:.2f} s")
    assert gone - deleted < 1.0  # the promise itself, which is of seconds and not of speed
    eventually(
        lambda: kube.all(BUILT, "rerank.dev/model=steady") == [], "all that was built to go", seconds=90
    )


def test_gateway_pods_are_replaced_without_a_failed_request(models: Kube, door: Door, system: Kube) -> None:
    name = models.all("rerankmodels")[0]["metadata"]["name"]
    with traffic(door, name) as seen:
        system("rollout", "restart", "deployment/rerank-gateway")
        system("rollout", "status", "deployment/rerank-gateway", "--timeout=180s")
        gateways = "app.kubernetes.io/component=gateway"
        eventually(lambda: len(system.all("pods", gateways)) == 2, "the old gateways to end", seconds=120)
        time.sleep(2)
    assert_none_failed(seen)


def test_traffic_goes_on_without_operator_and_api_server_and_both_come_back_to_the_same_state(
    models: Kube, door: Door, system: Kube, own_cluster: OneNode
) -> None:
    name = models.all("rerankmodels")[0]["metadata"]["name"]
    before = models.get("rerankmodel", name)
    with traffic(door, name) as seen:
        system(
            "delete",
            "pod",
            "--selector",
            "app.kubernetes.io/component=operator",
            "--grace-period=0",
            "--force",
        )
        own_cluster.stop("apiserver")
        time.sleep(60)
        own_cluster.start("apiserver")
        system("rollout", "status", "deployment/rerank-operator", "--timeout=180s")
        models.ready(name)
    assert_none_failed(seen, at_least=100)
    after = models.get("rerankmodel", name)
    assert after["status"] == before["status"]

    # Both hear of changes again.
    fresh = model("after-the-outage", replicas=0)
    models.apply(fresh)
    models.says("after-the-outage", "ScaledToZero")
    eventually(lambda: "after-the-outage" in door.models(), "the gateway to hear of it")
    models("delete", "rerankmodel", "after-the-outage")
    eventually(lambda: "after-the-outage" not in door.models(), "the gateway to hear that it is gone")


def _gone(door: Door) -> float | None:
    return time.monotonic() if door.rank("acme/steady").status_code == 404 else None

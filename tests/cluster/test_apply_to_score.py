"""The README's path: install, apply, wait, ask."""

import json
from typing import Any

import httpx
import pytest

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import model, quickstart
from tests.cluster.harness.release import Release
from tests.cluster.harness.traffic import PANDA, Door

NAME = quickstart()["metadata"]["name"]


def assert_panda(answer: httpx.Response) -> None:
    """The example's ranking: the right order, in Jina's shape."""
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert [result["index"] for result in body["results"]] == [2, 1, 0]
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == pytest.approx([0.7455, 0.4255, 0.0914], abs=1e-3)
    assert body["results"][0]["document"] == {"text": PANDA["documents"][2]}
    assert body["usage"] == {"prompt_tokens": 49, "total_tokens": 49}
    assert body["object"] == "list"


def test_the_quickstart_is_ranked_through_an_ingress(models: Kube, door: Door) -> None:
    answer = door.answered(NAME)
    assert_panda(answer)
    assert answer.json()["model"] == NAME


def test_the_quickstart_is_ranked_through_an_http_route(models: Kube, release: Release) -> None:
    assert_panda(release.route_door.answered(NAME))


def test_status_says_everything_about_a_ready_model(models: Kube) -> None:
    eventually(
        lambda: models.condition(NAME, "Verified").get("status") == "True",
        "what its server says of the comparison",
        lambda: models.status(NAME),
    )
    found = models.get("rerankmodel", NAME)
    status = found["status"]
    conditions = {one["type"]: one for one in status["conditions"]}
    assert {name: one["status"] for name, one in conditions.items()} == {
        "Accepted": "True", "Available": "True", "Verified": "True", "Ready": "True",
    }  # fmt: skip
    assert {one["observedGeneration"] for one in conditions.values()} == {found["metadata"]["generation"]}
    assert "scores compared, the largest deviation is" in conditions["Verified"]["message"]
    assert status["state"] == "Ready"
    assert status["message"] == "1 replica ready."
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["names"] == [{"name": NAME, "accepted": True}]
    assert status["engine"]
    assert status["revision"]
    assert status["verification"]["passed"] is True
    assert status["url"] == "http://rerank.test"
    selected = models.all("pods", status["selector"])
    assert [pod["metadata"]["labels"]["rerank.dev/model"] for pod in selected] == [NAME]
    assert [event["reason"] for event in models.events(NAME)] == ["Ready"]


def test_kubectl_get_shows_it_in_columns(models: Kube) -> None:
    header, row = models("get", "rerankmodels", "--output", "wide").strip().splitlines()
    assert header.split() == ["NAME", "NAMES", "STATE", "READY", "GPU", "AGE", "MESSAGE"]
    assert row.split()[:4] == [NAME, NAME, "Ready", "1"]
    assert row.endswith("1 replica ready.")


def test_the_gateway_lists_it(models: Kube, door: Door) -> None:
    said = eventually(
        lambda: [told[NAME] for told in door.lists() if told[NAME]["state"] == "Ready"],
        "it to be listed as ready",
    )
    assert {listed["owned_by"] for listed in said} == {f"{models.namespace}/{NAME}"}


def test_a_host_of_its_own_reaches_a_model_that_the_request_does_not_name(kube: Kube, door: Door) -> None:
    kube.apply(model("hosted", ingress={"host": "hosted.test"}))
    assert kube.ready("hosted")["url"] == "http://hosted.test"
    own = Door(door.address, "hosted.test")
    assert_panda(own.answered(None))
    assert_panda(own.answered("hosted"))
    assert door.answered(None, 400).json()["error"]["code"] == "missing_model"


def test_a_host_is_gone_with_the_field(kube: Kube) -> None:
    kube.apply(model("unhosted", ingress={"host": "gone.test"}, replicas=0))
    eventually(lambda: kube.find("ingress", "unhosted"), "the Ingress")
    kube.apply(model("unhosted", replicas=0))
    eventually(lambda: kube.find("ingress", "unhosted") is None, "the Ingress to go")
    ours = "rerank.dev/model=unhosted,endpointslice.kubernetes.io/managed-by=rerank-operator"
    eventually(lambda: kube.all("endpointslices", ours) == [], "what stood for the gateway to go")
    eventually(lambda: len(kube.all("services")) == 1, "its Service to go", lambda: kube.all("services"))
    assert kube.find("deployment", "unhosted") is not None


def test_a_model_of_no_replicas_is_idle_and_says_how_to_wake_it(kube: Kube, door: Door) -> None:
    kube.apply(model("asleep", replicas=0))
    status = kube.says("asleep", "ScaledToZero")
    assert status["state"] == "Idle"
    assert status["message"] == "spec.replicas is 0: set it to 1 or more to serve this model."
    assert door.answered("asleep", 503).json()["error"]["code"] == "model_not_ready"


def test_the_older_of_two_models_keeps_a_name(kube: Kube) -> None:
    kube.apply(model("elder", names=["shared-name"], replicas=0))
    kube.says("elder", "ScaledToZero")
    kube.apply(model("younger", names=["shared-name", "younger-name"], replicas=0))
    status = kube.says("younger", "ScaledToZero")
    shared, own = status["names"]
    assert own == {"name": "younger-name", "accepted": True}
    assert shared["accepted"] is False
    assert f"The older model {kube.namespace}/elder has this name" in shared["message"]
    kube("delete", "rerankmodel", "elder")
    eventually(
        lambda: all(name["accepted"] for name in kube.status("younger")["names"]), "the name to be inherited"
    )


def test_a_name_with_slashes_serves_two_replicas(kube: Kube, door: Door) -> None:
    kube.apply(model("slashed", names=["acme/mini:v1"], replicas=2))
    status = kube.ready("slashed")
    assert status["readyReplicas"] == 2
    assert status["servedNames"] == "acme/mini:v1"
    assert kube.get("poddisruptionbudget", "slashed")["spec"]["maxUnavailable"] == 1
    answer = door.answered("acme/mini:v1")
    assert_panda(answer)
    assert answer.json()["model"] == "acme/mini:v1"
    kube.patch("rerankmodel", "slashed", {"spec": {"replicas": 1}})
    eventually(lambda: kube.find("poddisruptionbudget", "slashed") is None, "the budget of one replica to go")
    kube("scale", "rerankmodel", "slashed", "--replicas", "2")  # the scale subresource
    eventually(lambda: kube.find("poddisruptionbudget", "slashed"), "the budget of two replicas")


def test_servers_run_as_nobody_without_a_token_on_a_file_system_that_is_read_only(models: Kube) -> None:
    pod = models.pod(NAME)
    assert models("exec", pod["metadata"]["name"], "--", "id", "-u").strip() == "65532"
    look = "test ! -e /var/run/secrets/kubernetes.io && ! touch /opt/rerank/x 2>/dev/null && echo closed"
    assert models("exec", pod["metadata"]["name"], "--", "sh", "-c", look).strip() == "closed"


def test_operator_and_gateway_pass_the_restricted_pod_security_standard(system: Kube) -> None:
    system.cluster.kubectl(
        "label", "namespace", system.namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite"
    )
    for deployment in system.all("deployments"):
        template = {"kind": "Pod", "apiVersion": "v1", **deployment["spec"]["template"]}
        template["metadata"]["name"] = "as-a-pod"
        system("apply", "--dry-run=server", "--filename", "-", given=json.dumps(template))


def test_models_pass_the_restricted_pod_security_standard(kube: Kube) -> None:
    kube.cluster.kubectl(
        "label", "namespace", kube.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    kube.apply(model("restricted"))
    eventually(lambda: kube.pods("restricted"), "a pod to be admitted", lambda: kube.status("restricted"))

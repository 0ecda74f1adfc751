"""What others change is mended, and where nothing changes nothing is written."""

import json
import time
from collections import Counter
from typing import Any

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import NAMESPACE
from tests.cluster.harness.traffic import Door
from tests.cluster.onenode.cluster import OneNode

NAME = quickstart()["metadata"]["name"]
QUIET_S = 20
REST_S = 60
WATCHED = {
    "rerankmodels", "deployments", "replicasets", "pods", "services", "endpointslices",
    "poddisruptionbudgets", "ingresses", "httproutes",
}  # fmt: skip


def test_a_deployment_that_is_deleted_comes_back(models: Kube) -> None:
    before = models.get("deployment", NAME)["metadata"]["uid"]
    models("delete", "deployment", NAME)
    eventually(lambda: _other(models.find("deployment", NAME), before), "another Deployment")
    _rolled_out(models)


def test_an_image_that_is_edited_is_set_back(models: Kube) -> None:
    before = _container(models)["image"]
    change = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/other:1"}
    ]
    models("patch", "deployment", NAME, "--type", "json", "--patch", json.dumps(change))
    eventually(lambda: _container(models)["image"] == before, "the image to be set back")
    _rolled_out(models)


def test_labels_that_are_stripped_come_back(models: Kube) -> None:
    models("label", "deployment", NAME, "app.kubernetes.io/managed-by-")
    eventually(lambda: "app.kubernetes.io/managed-by" in _labels(models), "the label to come back")
    models("label", "deployment", NAME, "rerank.dev/model-")
    eventually(lambda: _labels(models).get("rerank.dev/model") == NAME, "the label that it is found by")


def test_a_service_that_is_deleted_comes_back(models: Kube) -> None:
    before = models.get("service", NAME)["metadata"]["uid"]
    models("delete", "service", NAME)
    eventually(lambda: _other(models.find("service", NAME), before), "another Service")
    models.ready(NAME)


def test_what_others_add_is_theirs(models: Kube) -> None:
    models("annotate", "deployment", NAME, "example.com/note=mine", "--overwrite")
    models("label", "deployment", NAME, "app.kubernetes.io/managed-by-")  # ours, so that ours are written
    eventually(lambda: "app.kubernetes.io/managed-by" in _labels(models), "the label to come back")
    assert models.get("deployment", NAME)["metadata"]["annotations"]["example.com/note"] == "mine"
    models("annotate", "deployment", NAME, "example.com/note-")


def test_an_object_of_somebody_else_is_left_alone_and_said(kube: Kube) -> None:
    kube("create", "deployment", "theirs", "--image=localhost/pause:1", "--replicas=0")
    before = kube.get("deployment", "theirs")["spec"]
    kube.apply({**quickstart(), "metadata": {"name": "theirs"}})
    status = kube.says("theirs", "ObjectNameInUse")
    assert status["state"] == "Failed"
    assert "is not touched: rename the model, or remove that object" in status["message"]
    assert kube.get("deployment", "theirs")["spec"] == before
    kube("delete", "deployment", "theirs")
    eventually(lambda: kube.pods("theirs"), "the model to be built", lambda: kube.status("theirs"))


def test_a_cluster_at_rest_gets_no_write_from_us(models: Kube, door: Door, own_cluster: OneNode) -> None:
    _rolled_out(models)
    rest = eventually(
        lambda: _rest(own_cluster, door),
        "a time in which nobody else writes to what we watch",
        lambda: models.status(NAME),
        seconds=900,
    )
    writes = Counter(map(_what, filter(_is_ours, rest)))
    renewals = writes.pop("update leases", 0)
    print(
        f"{REST_S} s at rest: {sum(writes.values())} writes, {renewals} renewals of the Lease; {dict(writes)}"
    )
    assert not writes
    assert renewals > 0  # the log does hold what we write


def _rolled_out(models: Kube) -> None:
    """Wait for the Deployment, and then for its model: that may have been ready all the while."""
    models("rollout", "status", f"deployment/{NAME}", "--timeout=600s")
    models.ready(NAME)


def _rest(cluster: OneNode, door: Door) -> list[dict[str, Any]] | None:
    """Return all that was written while requests were answered; None where that was no rest.

    It is none if somebody else wrote to what we watch, as a kubelet does when a probe was answered late: we
    have to answer that. Nor if anybody at all did just before, for then we may be at it still.
    """
    before = cluster.audit_log.stat().st_size
    time.sleep(QUIET_S)
    if any(map(_is_watched, _entries(cluster, before))):
        return None
    start = cluster.audit_log.stat().st_size
    statuses: Counter[int] = Counter()
    for _ in range(REST_S):
        statuses[door.rank(NAME).status_code] += 1  # requests are no reason to write either
        time.sleep(1)
    entries = _entries(cluster, start)
    if any(_is_watched(entry) and not _is_ours(entry) for entry in entries):
        return None
    assert statuses == {200: REST_S}
    return entries


def _entries(cluster: OneNode, start: int) -> list[dict[str, Any]]:
    with cluster.audit_log.open("rb") as log:
        log.seek(start)
        whole, _, _ = log.read().rpartition(b"\n")  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]


def _is_watched(entry: dict[str, Any]) -> bool:
    return entry.get("objectRef", {}).get("resource") in WATCHED


def _is_ours(entry: dict[str, Any]) -> bool:
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    return (
        entry["user"]["username"].startswith(f"system:serviceaccount:{NAMESPACE}:")
        and entry["verb"] in writes
    )


def _what(entry: dict[str, Any]) -> str:
    return f"{entry['verb']} {entry['objectRef']['resource']}"


def _other(manifest: dict[str, Any] | None, uid: str) -> bool:
    return manifest is not None and manifest["metadata"]["uid"] != uid


def _container(kube: Kube) -> dict[str, Any]:
    return dict(kube.get("deployment", NAME)["spec"]["template"]["spec"]["containers"][0])


def _labels(kube: Kube) -> dict[str, str]:
    return dict(kube.get("deployment", NAME)["metadata"]["labels"])

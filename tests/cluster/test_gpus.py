"""GPUs, as the kubelet's device plugins and the scheduler hand them out."""

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import model
from tests.cluster.onenode.cluster import OneNode

GPU = "nvidia.com/gpu"


def test_a_gpu_is_allocated_and_a_model_that_finds_none_says_so_until_there_is_room(
    kube: Kube, own_cluster: OneNode
) -> None:
    kube.apply(model("one-gpu", resources={"limits": {GPU: 1}}))
    assert kube.ready("one-gpu")["gpu"] == f"1 {GPU}"
    pod = kube.pod("one-gpu")
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    visible = kube("exec", pod["metadata"]["name"], "--", "printenv", "NVIDIA_VISIBLE_DEVICES").strip()
    assert visible
    assert "," not in visible

    kube.apply(model("two-gpus", resources={"limits": {GPU: 2}}))
    status = kube.says(
        "two-gpus", "Unschedulable", "Insufficient nvidia.com/gpu"
    )  # the scheduler's own words
    print(status["message"])
    assert status["state"] == "Pending"
    assert [event["reason"] for event in kube.events("two-gpus")] == ["Unschedulable"]

    own_cluster.set_gpus(3)
    try:
        kube.ready("two-gpus")
        pod = kube.pod("two-gpus")
        visible = kube("exec", pod["metadata"]["name"], "--", "printenv", "NVIDIA_VISIBLE_DEVICES")
        assert len(visible.strip().split(",")) == 2
    finally:
        kube("delete", "rerankmodels", "--all")
        eventually(lambda: kube.all("pods") == [], "the GPUs to be given back", seconds=600)
        own_cluster.set_gpus(2)

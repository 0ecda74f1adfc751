"""What `make images-load` loads runs as the chart runs it: without rights, on a root that is only read."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.onenode.cluster import Cluster

EXAMPLE = Path(__file__).parents[2] / "examples/quickstart.yaml"
NAMESPACE = f"images-{uuid.uuid4().hex[:4]}"
SERVER = "localhost/rerank-server:test"
CONTROL = "localhost/rerank-control:test"
WITHIN_S = 600
# Pods may do what Kubernetes' restricted profile leaves them; who they are, their image says.
CONFINED = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
AUDIT = """
import importlib.util, json, os, shutil, stat, sys

def writable(path):
    try:
        with open(os.path.join(path, "probe"), "w"):
            return True
    except OSError:
        return False

def ready_compiled(name):
    source = importlib.util.find_spec(name).origin
    with open(importlib.util.cache_from_source(source), "rb") as file:
        header = file.read(12)
    hashed = int.from_bytes(header[4:8], "little") == 1
    return hashed or int.from_bytes(header[8:12], "little") == int(os.stat(source).st_mtime)

privileged = []
for folder, directories, files in os.walk("/"):
    if folder == "/":
        directories[:] = set(directories) - {"dev", "proc", "sys"}
    for name in files:
        path = os.path.join(folder, name)
        if os.lstat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
            privileged.append(path)
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "writable": [path for path in ("/", "/opt/rerank", "/var", "/tmp", os.environ["HOME"]) if writable(path)],
    "privileged": privileged,
    "tools": [name for name in ("cc", "gcc", "g++", "clang", "ld", "make", "uv") if shutil.which(name)],
    "torch": importlib.util.find_spec("torch") is not None,
    "compiled": [name for name in sys.argv[1:] if ready_compiled(name)],
}))
"""


@pytest.fixture(scope="module")
def confined(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with a namespace in which the restricted profile is enforced."""
    Kube(cluster, NAMESPACE).create()
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.parametrize(
    ("name", "image", "torch", "modules"),
    [
        pytest.param("audit-server", SERVER, True, ["rerank_server", "fastapi"], id="server"),
        pytest.param("audit-control", CONTROL, False, ["rerank_operator", "kopf"], id="control"),
    ],
)
def test_an_image_has_no_rights_and_no_tools(
    confined: Cluster, name: str, image: str, torch: bool, modules: list[str]
) -> None:
    container = {"image": image, "command": ["/opt/rerank/bin/python", "-c", AUDIT, *modules]}
    assert json.loads(said(confined, name, container)) == {
        "user": [65532, 65532],
        "writable": ["/tmp", "/tmp"],  # the volume, which is also the home
        "privileged": [],
        "tools": [],
        "torch": torch,
        "compiled": modules,
    }


@pytest.mark.parametrize("module", ["rerank_operator", "rerank_gateway"])
def test_the_control_image_runs_the_operator_and_the_gateway(confined: Cluster, module: str) -> None:
    told = said(confined, module.replace("_", "-"), {"image": CONTROL, "args": [module, "--help"]})
    assert f"usage: python -m {module}" in told


def test_the_control_image_has_an_envoy_that_runs(confined: Cluster) -> None:
    code = "import os, rerank_gateway.envoy_binary as e; p = str(e.find()); os.execv(p, [p, '--version'])"
    told = said(confined, "envoy", {"image": CONTROL, "command": ["/opt/rerank/bin/python", "-c", code]})
    assert "version:" in told


def test_the_server_image_serves_the_quickstart(confined: Cluster) -> None:
    manifest = json.dumps(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    create(
        confined,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "manifest", "namespace": NAMESPACE},
            "data": {"model.json": manifest},
        },
        pod(
            "server",
            {
                "image": SERVER,
                "args": ["--manifest", "/etc/rerank/model.json", "--host", "0.0.0.0"],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8000}, "periodSeconds": 1},
            },
            {"name": "manifest", "configMap": {"name": "manifest"}},
        ),
    )
    try:
        confined.kubectl(
            "-n", NAMESPACE, "wait", "pod/server", "--for=condition=Ready", f"--timeout={WITHIN_S}s"
        )
    except Exception:
        print(confined.kubectl("-n", NAMESPACE, "logs", "server"))
        raise


def said(cluster: Cluster, name: str, container: dict[str, Any]) -> str:
    """Return what a container said that ended well."""
    kube = Kube(cluster, NAMESPACE)
    create(cluster, pod(name, container))
    phase = eventually(
        lambda: {"Succeeded", "Failed"} & {kube.get("pod", name)["status"].get("phase")},
        f"{name} to end",
        lambda: kube("describe", "pod", name).splitlines(),
        WITHIN_S,
    )
    told = kube("logs", name)
    assert phase == {"Succeeded"}, told
    return told


def pod(name: str, container: dict[str, Any], *volumes: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that is confined; what is not /tmp is mounted at /etc/rerank."""
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    mounts += [{"name": volume["name"], "mountPath": "/etc/rerank"} for volume in volumes]
    alone = {"name": "main", "securityContext": CONFINED, "imagePullPolicy": "Never", "volumeMounts": mounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [alone | container],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
        },
    }


def create(cluster: Cluster, *objects: dict[str, Any]) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--server-side", "-f", "-", given=listed)

"""The test cluster does what it says: names, Services, Ingresses, routes, GPUs, the log of writes.

It needs `make cluster`, and is skipped without. With RERANK_CLUSTER_LIFECYCLE=1 the cluster is also killed,
ended and started anew: not for a cluster that somebody else is using.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.onenode import OneNode, addresses, find, leftovers, probes, processes
from tests.cluster.onenode.components import ROOT

WITHIN_S = 600.0
NAMESPACE = f"onenode-{uuid.uuid4().hex[:4]}"
LIFECYCLE = "RERANK_CLUSTER_LIFECYCLE"


@pytest.fixture(scope="module")
def cluster() -> OneNode:
    found = find()
    if not isinstance(found, OneNode):
        pytest.skip("no cluster of ours runs: make cluster")
    return found


@pytest.fixture(scope="module")
def namespace(cluster: OneNode) -> Iterator[str]:
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, *web()]
    create(cluster, *objects)
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", f"--timeout={WITHIN_S:.0f}s")
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def create(cluster: OneNode, *objects: dict[str, Any]) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "--server-side", "-f", "-", given=listed)


def web() -> tuple[dict[str, Any], ...]:
    """Return a web server of two pods, its Service, and both ways in by a host name."""
    metadata = {"name": "web", "namespace": NAMESPACE}
    container = {
        "name": "web",
        "image": addresses.BUSYBOX_IMAGE,
        "command": ["sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8000 -h /tmp"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    route = {
        "parentRefs": [{"name": "contour", "namespace": "projectcontour"}],
        "hostnames": ["route.test"],
        "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
    }
    return (
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": metadata,
            "spec": {
                "ingressClassName": "contour",
                "rules": [{"host": "ingress.test", "http": {"paths": paths}}],
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": route,
        },
    )


def gpu_pod(name: str, gpus: int) -> dict[str, Any]:
    resources = {"limits": {addresses.GPU_RESOURCE: gpus}}
    container = {"name": "gpu", "image": addresses.BUSYBOX_IMAGE, "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def wait_until_ready(cluster: OneNode, pod: str) -> None:
    cluster.kubectl(
        "-n", NAMESPACE, "wait", f"pod/{pod}", "--for=condition=Ready", f"--timeout={WITHIN_S:.0f}s"
    )


def environment(cluster: OneNode, pod: str) -> str:
    return cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", "env")


def get(url: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


def eventually(seen: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + WITHIN_S
    while (last := seen()) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    assert last == wanted


def resolve(name: str) -> str | None:
    """Ask the cluster's DNS, at its Service's address, for the name's first address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(query, (addresses.DNS_SERVICE, 53))
        try:
            answer = client.recv(512)
        except TimeoutError:
            return "nobody answers"
    found = struct.unpack(">H", answer[6:8])[0]
    return socket.inet_ntoa(answer[-4:]) if found else None


def service_address(cluster: OneNode) -> str:
    return cluster.kubectl("-n", NAMESPACE, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")


def test_a_service_answers_at_its_address_and_has_a_name(cluster: OneNode, namespace: str) -> None:
    address = service_address(cluster)
    eventually(lambda: get(f"http://{address}/"), (200, "hello\n"))
    eventually(lambda: resolve(f"web.{namespace}.svc.cluster.local"), address)
    eventually(lambda: resolve("kubernetes.default.svc.cluster.local"), addresses.API_SERVICE)
    eventually(lambda: resolve("example.com"), None)


@pytest.mark.parametrize("host", ["ingress.test", "route.test"])
def test_hosts_of_ingresses_and_of_routes_answer_on_one_port(
    cluster: OneNode, namespace: str, host: str
) -> None:
    eventually(lambda: get(f"http://{cluster.ingress}/", host), (200, "hello\n"))
    eventually(lambda: get(f"http://{cluster.ingress}/", "unknown.test")[0], 404)


def test_gpus_are_given_out_and_room_can_be_made(cluster: OneNode, namespace: str) -> None:
    cluster.set_gpus(2)
    try:
        create(cluster, gpu_pod("two", 2))
        wait_until_ready(cluster, "two")
        assert "NVIDIA_VISIBLE_DEVICES=gpu-0,gpu-1\n" in environment(cluster, "two")
        create(cluster, gpu_pod("one", 1))
        scheduled = 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].reason}'
        reason = ("-n", namespace, "get", "pod", "one", "-o", scheduled)
        eventually(lambda: cluster.kubectl(*reason), "Unschedulable")
        cluster.set_gpus(3)
        wait_until_ready(cluster, "one")
        assert "NVIDIA_VISIBLE_DEVICES=gpu-2\n" in environment(cluster, "one")
    finally:
        cluster.kubectl("-n", namespace, "delete", "pod", "one", "two", "--ignore-not-found")
        cluster.set_gpus(2)


def test_gpus_are_there_again_after_the_kubelet_restarts(cluster: OneNode, namespace: str) -> None:
    cluster.stop("kubelet")
    cluster.start("kubelet")
    create(cluster, gpu_pod("after", 1))
    try:
        wait_until_ready(cluster, "after")
        assert "NVIDIA_VISIBLE_DEVICES=gpu-" in environment(cluster, "after")
    finally:
        cluster.kubectl("-n", namespace, "delete", "pod", "after", "--ignore-not-found")


def test_service_accounts_get_tokens_that_the_api_knows(cluster: OneNode, namespace: str) -> None:
    token = cluster.kubectl("-n", namespace, "create", "token", "default").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    said = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", given=json.dumps(review)))
    assert said["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:default"


def test_each_write_is_logged_with_its_user(cluster: OneNode, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "configmap", "written")
    about = {"name": "written", "namespace": namespace}

    def writes() -> list[tuple[str, str]]:
        whole, _, _ = cluster.audit_log.read_text(encoding="utf-8").rpartition("\n")
        events = [json.loads(line) for line in whole.splitlines()]
        found = [event for event in events if about.items() <= event.get("objectRef", {}).items()]
        return [(event["verb"], event["user"]["username"]) for event in found]

    eventually(writes, [("create", "admin")])  # the line comes after the answer


def test_pods_go_on_serving_while_the_api_server_is_away(cluster: OneNode, namespace: str) -> None:
    address = service_address(cluster)
    eventually(lambda: get(f"http://{cluster.ingress}/", "ingress.test")[0], 200)
    eventually(lambda: get(f"http://{address}/")[0], 200)
    assert probes.answers(f"{addresses.API_URL}/readyz")
    cluster.stop("apiserver")
    try:
        assert not probes.answers(f"{addresses.API_URL}/readyz")
        assert get(f"http://{cluster.ingress}/", "ingress.test") == (200, "hello\n")
        assert get(f"http://{address}/") == (200, "hello\n")
    finally:
        cluster.start("apiserver")
    assert "node-1" in cluster.kubectl("get", "nodes", "-o", "name")


@pytest.mark.skipif(os.environ.get(LIFECYCLE) != "1", reason=f"ends the cluster: set {LIFECYCLE}=1")
def test_a_cluster_whose_parts_were_killed_is_cleaned_up_and_starts_again(cluster: OneNode) -> None:
    for component in ("containerd", "kubelet", "etcd"):
        process = processes.recorded(cluster.state, component)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    command = [sys.executable, "-m", "tests.cluster.onenode"]
    subprocess.run([*command, "down"], cwd=ROOT, check=True)
    assert leftovers.find(cluster.state) == []
    subprocess.run([*command, "up"], cwd=ROOT, check=True)
    assert find() is not None

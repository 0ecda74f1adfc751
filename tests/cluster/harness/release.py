"""The chart, installed as a user installs it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.traffic import Door
from tests.cluster.onenode.cluster import Cluster, OneNode

CHART = Path(__file__).parents[3] / "charts/rerank-operator"
VALUES = Path(__file__).parents[1] / "values.yaml"
NAME = "rerank"
NAMESPACE = "rerank-test-system"
CONTROL_IMAGE = "localhost/rerank-control:test"
INGRESS_HOST = "rerank.test"
ROUTE_HOST = "rerank-route.test"


def ctr(cluster: OneNode, *arguments: str) -> str:
    """Ask the node's containerd."""
    command = ["ctr", "--address", str(cluster.containerd_socket), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Release:
    """One installed release."""

    cluster: Cluster
    name: str = NAME
    namespace: str = NAMESPACE

    @property
    def door(self) -> Door:
        """Return the gateway through the Ingress."""
        return Door(self.cluster.ingress, INGRESS_HOST)

    @property
    def route_door(self) -> Door:
        """Return the gateway through the HTTPRoute."""
        return Door(self.cluster.ingress, ROUTE_HOST)

    def install(self, *more: str) -> None:
        """Install or upgrade, and wait until operator and gateway are ready and what they replace has ended.

        Until then a request may still reach a gateway that was told otherwise.
        """
        self._helm(
            "upgrade", "--install", self.name, str(CHART), "--create-namespace", "--values", str(VALUES),
            "--wait", "--timeout", "10m", *self._with_image_versions(), *more,
        )  # fmt: skip
        eventually(lambda: not self._ending(), "the replaced pods to end", self._ending, seconds=600)

    def uninstall(self) -> None:
        """Remove it, as a user does."""
        self._helm("uninstall", self.name, "--wait", "--timeout", "10m")

    def _ending(self) -> list[str]:
        pods = [pod["metadata"] for pod in Kube(self.cluster, self.namespace).all("pods")]
        return [pod["name"] for pod in pods if "deletionTimestamp" in pod]

    def _with_image_versions(self) -> list[str]:
        """Have pods replaced whose image was loaded anew under the same tag."""
        if not isinstance(self.cluster, OneNode):
            return []
        listed = ctr(self.cluster, "images", "list", f"name=={CONTROL_IMAGE}").splitlines()
        digest = next(word for word in listed[-1].split() if word.startswith("sha256:"))
        return [
            "--set-string", f"operator.podAnnotations.loaded={digest}",
            "--set-string", f"gateway.podAnnotations.loaded={digest}",
        ]  # fmt: skip

    def _helm(self, *arguments: str) -> None:
        command = [
            str(self.cluster.bin / "helm"), "--kubeconfig", str(self.cluster.kubeconfig),
            "--namespace", self.namespace, *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

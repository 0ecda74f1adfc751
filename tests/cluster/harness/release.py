"""The chart, installed as a user installs it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.harness.traffic import Door
from tests.cluster.onenode.cluster import Cluster

CHART = Path(__file__).parents[3] / "charts/rerank-operator"
VALUES = Path(__file__).parents[1] / "values.yaml"
NAME = "rerank"
NAMESPACE = "rerank-system"
INGRESS_HOST = "rerank.test"
ROUTE_HOST = "rerank-route.test"


@dataclass(frozen=True)
class Release:
    """One installed release."""

    cluster: Cluster

    @property
    def door(self) -> Door:
        """Return the gateway through the Ingress."""
        return Door(self.cluster.ingress, INGRESS_HOST)

    @property
    def route_door(self) -> Door:
        """Return the gateway through the HTTPRoute."""
        return Door(self.cluster.ingress, ROUTE_HOST)

    def install(self, *more: str) -> None:
        """Install or upgrade, and wait until operator and gateway are ready."""
        self._helm(
            "upgrade", "--install", NAME, str(CHART), "--create-namespace", "--values", str(VALUES),
            "--wait", "--timeout", "5m", *more,
        )  # fmt: skip

    def uninstall(self) -> None:
        """Remove it, as a user does."""
        self._helm("uninstall", NAME, "--wait", "--timeout", "5m")

    def _helm(self, *arguments: str) -> None:
        command = [
            str(self.cluster.bin / "helm"), "--kubeconfig", str(self.cluster.kubeconfig),
            "--namespace", NAMESPACE, *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

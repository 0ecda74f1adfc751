"""Every component of the cluster: its command, where it runs, and how it says that it is ready."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rerank_gateway import envoy_binary
from tests.cluster.onenode import addresses, network
from tests.cluster.onenode.state import State

ROOT = Path(__file__).resolve().parents[3]
QPS = ("--kube-api-qps=500", "--kube-api-burst=1000")
READY_S = 600.0


@dataclass(frozen=True)
class Component:
    """A process of the cluster.

    `ready` is a URL that answers 200, or `unix:` and the path of a socket. `says`, if not empty, is what one
    that has just been started writes into its log before it is ready.
    """

    name: str
    command: tuple[str, ...]
    ready: str
    on_host: bool = False
    ready_s: float = READY_S
    says: str = ""

    def run_as(self) -> tuple[str, ...]:
        """Return the command as it is started, inside the cluster's network or on this machine's."""
        return self.command if self.on_host else network.inside(*self.command)


def stages(state: State, programs: Path) -> tuple[tuple[Component, ...], ...]:
    """Return the components in the order of their start; those of a stage start together."""
    return (
        (etcd(state, programs), containerd(state)),
        (apiserver(state, programs),),
        (
            controller_manager(state, programs),
            scheduler(state, programs),
            proxy(state, programs),
            kubelet(state, programs),
            coredns(state, programs),
            gpus(state),
        ),
        (contour(state, programs), envoy(state)),
    )


def environment() -> dict[str, str]:
    """Return what components see of the environment: nothing that could change what they do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}


def etcd(state: State, programs: Path) -> Component:
    """Keep everything, without waiting for the disk: the cluster does not outlive the machine."""
    health = f"http://{addresses.NODE}:2381"
    return Component(
        "etcd",
        (
            str(programs / "etcd"),
            f"--data-dir={state.root / 'etcd'}",
            f"--listen-client-urls={addresses.ETCD_URL}",
            f"--advertise-client-urls={addresses.ETCD_URL}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            f"--listen-metrics-urls={health}",
            "--unsafe-no-fsync",
            "--quota-backend-bytes=4294967296",
            "--auto-compaction-retention=5m",
        ),
        f"{health}/health",
    )


def containerd(state: State) -> Component:
    """Run containers."""
    command = ("containerd", f"--config={state.config / 'containerd.toml'}")
    return Component("containerd", command, f"unix:{state.containerd_socket}")


def apiserver(state: State, programs: Path) -> Component:
    """Serve the API, log each write, and let pods ask for tokens."""
    return Component(
        "apiserver",
        (
            str(programs / "kube-apiserver"),
            f"--etcd-servers={addresses.ETCD_URL}",
            f"--bind-address={addresses.NODE}",
            f"--advertise-address={addresses.NODE}",
            f"--service-cluster-ip-range={addresses.SERVICES}",
            f"--tls-cert-file={state.pki / 'apiserver.crt'}",
            f"--tls-private-key-file={state.pki / 'apiserver.key'}",
            f"--client-ca-file={state.pki / 'ca.crt'}",
            f"--kubelet-certificate-authority={state.pki / 'ca.crt'}",
            f"--kubelet-client-certificate={state.pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={state.pki / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={state.pki / 'service-accounts.key'}",
            f"--service-account-signing-key-file={state.pki / 'service-accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--audit-policy-file={state.config / 'audit-policy.yaml'}",
            f"--audit-log-path={state.audit_log}",
        ),
        f"{addresses.API_URL}/readyz",
    )


def controller_manager(state: State, programs: Path) -> Component:
    """Run Kubernetes' own controllers, fast enough for thousands of objects."""
    return Component(
        "controller-manager",
        (
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={state.kubeconfig('controller-manager')}",
            f"--bind-address={addresses.NODE}",
            f"--service-account-private-key-file={state.pki / 'service-accounts.key'}",
            f"--root-ca-file={state.pki / 'ca.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--allocate-node-cidrs=false",
            # A kubelet that a busy machine holds up is not gone, and its pods are not either.
            "--node-monitor-grace-period=10m",
            *QPS,
        ),
        f"https://{addresses.NODE}:10257/healthz",
    )


def scheduler(state: State, programs: Path) -> Component:
    """Give pods their node."""
    return Component(
        "scheduler",
        (
            str(programs / "kube-scheduler"),
            f"--kubeconfig={state.kubeconfig('scheduler')}",
            f"--bind-address={addresses.NODE}",
            "--leader-elect=false",
            *QPS,
        ),
        f"https://{addresses.NODE}:10259/healthz",
    )


def proxy(state: State, programs: Path) -> Component:
    """Make Services' addresses work, by iptables rules in the cluster's namespace."""
    return Component(
        "kube-proxy",
        (
            str(programs / "kube-proxy"),
            f"--kubeconfig={state.kubeconfig('proxy')}",
            f"--hostname-override={addresses.NODE_NAME}",
            f"--cluster-cidr={addresses.PODS}",
            "--proxy-mode=iptables",
            f"--nodeport-addresses={addresses.NODE}/32",
            f"--healthz-bind-address={addresses.NODE}:10256",
            # These kernel settings are the whole machine's.
            "--conntrack-max-per-core=0",
            "--conntrack-min=0",
        ),
        f"http://{addresses.NODE}:10256/livez",
    )


def kubelet(state: State, programs: Path) -> Component:
    """Run pods on the one node."""
    return Component(
        "kubelet",
        (
            str(programs / "kubelet"),
            f"--config={state.config / 'kubelet.yaml'}",
            f"--kubeconfig={state.kubeconfig('kubelet')}",
            f"--root-dir={state.kubelet}",
            f"--hostname-override={addresses.NODE_NAME}",
            f"--node-ip={addresses.NODE}",
            "--v=2",
        ),
        f"http://{addresses.NODE}:10248/healthz",
        # Until its first batch of pods it counts the GPUs of pods that are gone, and refuses new pods.
        says='"SyncLoop ADD" source="api"',
    )


def coredns(state: State, programs: Path) -> Component:
    """Answer for the names of Services."""
    command = (str(programs / "coredns"), "-conf", str(state.config / "Corefile"))
    return Component("coredns", command, f"http://{addresses.NODE}:8181/ready")


def gpus(state: State) -> Component:
    """Offer GPUs that are none, by the kubelet's device plugin protocol."""
    module = "tests.cluster.onenode.gpu_plugin"
    command = (
        "env",
        f"PYTHONPATH={ROOT}",
        sys.executable,
        "-m",
        module,
        str(state.device_plugins),
        str(state.gpus),
    )
    return Component("gpus", command, f"unix:{state.device_plugins / 'rerank-test-gpu.sock'}", on_host=True)


def contour(state: State, programs: Path) -> Component:
    """Turn Ingresses and HTTPRoutes into Envoy's configuration."""
    node, here = addresses.NODE, addresses.INGRESS_ADDRESS
    return Component(
        "contour",
        (
            str(programs / "contour"),
            "serve",
            f"--config-path={state.config / 'contour.yaml'}",
            f"--kubeconfig={state.kubeconfig('contour')}",
            "--disable-leader-election",
            "--ingress-class-name=contour",
            f"--ingress-status-address={here}",
            "--insecure",
            f"--xds-address={node}",
            f"--xds-port={addresses.XDS_PORT}",
            f"--health-address={node}",
            "--health-port=8000",
            f"--http-address={node}",
            "--http-port=8002",
            f"--envoy-service-http-address={here}",
            f"--envoy-service-http-port={addresses.INGRESS_PORT}",
            f"--envoy-service-https-address={here}",
            f"--stats-address={here}",
            f"--stats-port={addresses.STATS_PORT}",
            "--kubernetes-client-qps=500",
            "--kubernetes-client-burst=1000",
        ),
        f"http://{node}:8000/healthz",
    )


def envoy(state: State) -> Component:
    """Serve Ingresses and HTTPRoutes on this machine's loopback."""
    return Component(
        "envoy",
        (
            str(envoy_binary.find()),
            *("--config-path", str(state.config / "envoy.json")),
            *("--service-cluster", "contour"),
            *("--service-node", "rerank-test"),
            *("--log-level", "warn"),
            "--disable-hot-restart",
        ),
        f"http://{addresses.INGRESS_ADDRESS}:{addresses.STATS_PORT}/ready",
        on_host=True,
    )

"""The configuration files of the components, as values, and how they are written."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.onenode import addresses, cgroups, debian
from tests.cluster.onenode.state import State

WRITES = ["create", "update", "patch", "delete", "deletecollection"]
POD_NETWORK = "rerank-test"


def audit_policy() -> dict[str, Any]:
    """Log each finished write, without its body."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "verbs": WRITES}, {"level": "None"}],
    }


def kubelet(state: State) -> dict[str, Any]:
    """Return a KubeletConfiguration that keeps the kubelet's files in the state directory."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.NODE,
        "healthzBindAddress": addresses.NODE,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(state.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(state.pki / "kubelet.key"),
        "clusterDNS": [addresses.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": str(state.config / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.NAME}",
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{state.containerd_socket}",
        "podLogsDir": str(state.root / "pod-logs"),
        "volumePluginDir": str(state.root / "volume-plugins"),
        "maxPods": 200,
        "nodeStatusUpdateFrequency": "1s",  # so that another number of GPUs is known at once
        # Images come by `ctr images import` and cannot be had again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def pod_network(state: State) -> dict[str, Any]:
    """Return the CNI plugins that give a pod its address."""
    addresses_of_pods = {
        "type": "host-local",
        "ranges": [[{"subnet": addresses.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(state.root / "pod-addresses"),
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses_of_pods,
    }
    return {
        "cniVersion": "0.4.0",
        "name": POD_NETWORK,
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def containerd(state: State) -> str:
    """Return containerd's configuration (version 1.6 reads it), with all its files in the state directory."""
    place = state.containerd
    return f"""\
version = 2
root = "{place}/root"
state = "{place}/run"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{state.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{addresses.PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{debian.CNI_PLUGINS}"
    conf_dir = "{place}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{place}/runc"
"""


def corefile(state: State) -> str:
    """Return CoreDNS's configuration. Of names outside the cluster it says at once that there are none."""
    return f"""\
cluster.local in-addr.arpa {{
    bind {addresses.NODE}
    errors
    health {addresses.NODE}:8080
    ready {addresses.NODE}:8181
    kubernetes {{
        kubeconfig {state.kubeconfig("coredns")}
    }}
}}
. {{
    bind {addresses.NODE}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def contour() -> dict[str, Any]:
    """Return Contour's configuration: Ingresses, and the routes of one Gateway."""
    return {
        "gateway": {"gatewayRef": {"namespace": "projectcontour", "name": "contour"}},
        "network": {"admin-port": addresses.ADMIN_PORT},
    }


def write(state: State) -> None:
    """Write all of them."""
    network = state.containerd / "cni"
    network.mkdir(exist_ok=True)
    _write(state.config / "audit-policy.yaml", json.dumps(audit_policy(), indent=1))
    _write(state.config / "kubelet.yaml", json.dumps(kubelet(state), indent=1))
    _write(network / "10-pods.conflist", json.dumps(pod_network(state), indent=1))
    _write(state.config / "containerd.toml", containerd(state))
    _write(state.config / "Corefile", corefile(state))
    _write(state.config / "contour.yaml", json.dumps(contour(), indent=1))
    _write(state.config / "resolv.conf", f"nameserver {addresses.DNS_SERVICE}\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

"""Places outside the state directory that Kubernetes' programs insist on, and how they are given back."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.onenode import probes
from tests.cluster.onenode.configs import POD_NETWORK
from tests.cluster.onenode.errors import OccupiedError
from tests.cluster.onenode.state import State

DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")  # the kubelet's, whatever its --root-dir
CONTAINER_LOGS = Path("/var/log/containers")  # links that the kubelet makes
CNI_RESULTS = Path("/var/lib/cni/results")
SHIM_SOCKETS = Path("/run/containerd/s")
SHIM_FIFOS = Path("/run/containerd/fifo")


def take(state: State) -> None:
    """Lead the kubelet's directory of device plugins into the state directory."""
    if DEVICE_PLUGINS.is_symlink() and not DEVICE_PLUGINS.exists():
        DEVICE_PLUGINS.unlink()  # a cluster's whose state was deleted by hand
    if DEVICE_PLUGINS.exists():
        if DEVICE_PLUGINS.resolve() != state.device_plugins:
            raise OccupiedError(
                f"{DEVICE_PLUGINS} is there already: this machine is, or was, a node of another Kubernetes, "
                "and a kubelet empties that directory. Use a machine without one, or set KUBECONFIG to that "
                "cluster."
            )
        return
    DEVICE_PLUGINS.parent.mkdir(parents=True, exist_ok=True)
    DEVICE_PLUGINS.symlink_to(state.device_plugins)


def give_back(state: State) -> None:
    """Remove what is the cluster's; directories go if nothing else is in them."""
    for path in ours(state):
        path.unlink(missing_ok=True)
    for directory in (CONTAINER_LOGS, CNI_RESULTS, SHIM_SOCKETS, SHIM_FIFOS, DEVICE_PLUGINS):
        parent = directory.parent
        for empty in (directory, *([parent] if parent.name in ("cni", "containerd", "kubelet") else [])):
            try:
                empty.rmdir()
            except OSError:
                continue


def ours(state: State) -> tuple[Path, ...]:
    """Return the cluster's files in such places."""
    found = [link for link in _entries(CONTAINER_LOGS) if _leads_into(link, state.root)]
    found += [DEVICE_PLUGINS] if _leads_into(DEVICE_PLUGINS, state.root) else []
    # Loopback's results do not say whose they are, but their containers are the pods'.
    results = {file: _read(file) for file in _entries(CNI_RESULTS)}
    pods = {one.get("containerId") for one in results.values() if one.get("networkName") == POD_NETWORK}
    pods |= {sandbox.name for sandbox in _entries(state.sandboxes)}
    found += [file for file, one in results.items() if one.get("containerId") in pods]
    found += [socket for socket in _entries(SHIM_SOCKETS) if _is_abandoned(socket)]
    return tuple(found)


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() and not directory.is_symlink() else []


def _leads_into(link: Path, root: Path) -> bool:
    return link.is_symlink() and link.readlink().is_relative_to(root)


def _read(result: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(result.read_text(encoding="utf-8")))
    except (ValueError, OSError):
        return {}


def _is_abandoned(socket: Path) -> bool:
    """Say whether no process answers: a killed shim leaves its socket, of whatever cluster it was."""
    return socket.is_socket() and not probes.answers(f"unix:{socket}")

"""A network namespace for the whole cluster, and one cable from it to this machine.

Links, routes, iptables rules, kernel settings of the network, and ports are all inside the namespace: with
it they are gone, whatever a crash left, and this machine's own are never touched. The machine reaches pods
and Services by their addresses through the cable, and another machine reaches nothing.
"""

import socket
import subprocess
from pathlib import Path

from tests.cluster.onenode import addresses
from tests.cluster.onenode.errors import OneNodeError

NAMESPACE = "rerank-test"
NAMESPACE_FILE = Path("/run/netns") / NAMESPACE
CABLE = "rerank-test0"  # this machine's end
NODE_END = "host0"
SETTINGS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}


def inside(*command: str) -> tuple[str, ...]:
    """Return the command as it runs in the namespace; `ip netns exec` would hide the kubelet's mounts too."""
    return ("nsenter", f"--net={NAMESPACE_FILE}", *command)


def exists() -> bool:
    """Say whether the namespace is there."""
    return NAMESPACE_FILE.exists()


def cable_exists() -> bool:
    """Say whether this machine's end of the cable is there."""
    return any(name == CABLE for _, name in socket.if_nameindex())


def is_unused() -> bool:
    """Say whether the directory of namespaces, which the first one makes, is there for nothing."""
    return NAMESPACE_FILE.parent.is_dir() and not any(NAMESPACE_FILE.parent.iterdir())


def ensure() -> None:
    """Lay the namespace, the cable and the routes, unless they are there."""
    if exists() and cable_exists():
        return
    remove()
    node, host = addresses.NODE, addresses.HOST
    _run("ip", "netns", "add", NAMESPACE)
    _run("ip", "link", "add", CABLE, "type", "veth", "peer", "name", NODE_END, "netns", NAMESPACE)
    _run("ip", "address", "add", host, "peer", node, "dev", CABLE)
    _run("ip", "link", "set", CABLE, "up")
    _run(*inside("ip", "link", "set", "lo", "up"))
    _run(*inside("ip", "address", "add", node, "peer", host, "dev", NODE_END))
    _run(*inside("ip", "link", "set", NODE_END, "up"))
    # A Service's address needs a route before kube-proxy's rules may rewrite it: an empty bridge will do.
    _run(*inside("ip", "link", "add", "services", "type", "bridge"))
    _run(*inside("ip", "link", "set", "services", "up"))
    _run(*inside("ip", "route", "add", addresses.SERVICES, "dev", "services"))
    for setting, value in SETTINGS.items():
        _run(*inside("sh", "-c", f"echo {value} > /proc/sys/{setting}"))
    for reached in (addresses.PODS, addresses.SERVICES):
        _run("ip", "route", "add", reached, "via", node)


def remove() -> None:
    """Remove namespace and cable, if they are there."""
    if exists():
        _run("ip", "netns", "delete", NAMESPACE)
    if cable_exists():
        _run("ip", "link", "delete", CABLE)
    if is_unused():
        subprocess.run(["umount", str(NAMESPACE_FILE.parent)], capture_output=True, check=False)
        NAMESPACE_FILE.parent.rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OneNodeError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")

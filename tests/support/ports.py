"""Ports for programs that have to be told theirs, and cannot be handed a socket that listens already."""

import random
import socket
from pathlib import Path

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, LOWEST_NODE_PORT = 10_000, 30_000


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that nobody listens on.

    None is of those that the kernel gives to connections, of which one could take it before its program does.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.choice(range(LOWEST, _end()))  # spreads what runs side by side
        if port not in found and _is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    """Return one of them."""
    return free_ports(1)[0]


def _end() -> int:
    """Return the first port that is not ours to choose; all are, where the kernel leaves next to none."""
    try:
        first = int(OUTGOING.read_text(encoding="ascii").split()[0])
    except FileNotFoundError:
        first = LOWEST_NODE_PORT  # macOS: from 49152 on
    return min(first, LOWEST_NODE_PORT) if first > LOWEST + 1000 else LOWEST_NODE_PORT


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""What a cluster leaves behind: nothing, or this list says what."""

import subprocess
from pathlib import Path

from tests.cluster.onenode import addresses, cgroups, host_paths, network
from tests.cluster.onenode.state import State

MOUNTS = Path("/proc/self/mountinfo")
RANGES = tuple(range_.rpartition(".")[0] + "." for range_ in (addresses.PODS, addresses.SERVICES))


def mounts_below(root: Path, mountinfo: str) -> tuple[Path, ...]:
    """Return the mount points in a directory, the last mounted first; octal escapes stand for blanks."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in mountinfo.splitlines()]
    return tuple(Path(point) for point in reversed(points) if Path(point).is_relative_to(root))


def processes_of(root: Path) -> dict[int, str]:
    """Return the processes that are in the cluster's control groups, or whose command names its directory."""
    members = cgroups.members()
    found: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        names_it = command.startswith(f"{root}/") or f"={root}/" in command or f" {root}/" in command
        if int(place.name) in members or (names_it and _is_component(command)):
            found[int(place.name)] = command
    return found


def find(state: State) -> list[str]:
    """Return a line for each thing of the cluster that is there."""
    left = [f"process {pid}: {command}" for pid, command in sorted(processes_of(state.root).items())]
    left += [f"mount {point}" for point in mounts_below(state.root, MOUNTS.read_text(encoding="utf-8"))]
    left += [f"control group {group}" for group in cgroups.left()]
    if network.exists():
        left.append(f"network namespace {network.NAMESPACE}")
    if network.is_unused():
        left.append(f"directory {network.NAMESPACE_FILE.parent}")
    if network.cable_exists():
        left.append(f"network link {network.CABLE}")
    left += [f"route {line}" for line in _lines("ip", "route") if line.startswith(RANGES)]
    left += [f"iptables rule {line}" for line in _lines("iptables-save") if any(r in line for r in RANGES)]
    left += [f"file {path}" for path in host_paths.ours(state)]
    if state.root.exists():
        left.append(f"directory {state.root}")
    return left


def _is_component(command: str) -> bool:
    """An editor or a pager on a log is no left-over."""
    program = Path(command.split(maxsplit=1)[0]).name
    return program.startswith(("kube", "containerd", "etcd", "coredns", "contour", "envoy"))


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

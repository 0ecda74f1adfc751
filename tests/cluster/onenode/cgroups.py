"""Control groups: every process of the cluster, its pods' included, is in one tree.

So whatever a crash leaves running can be found for certain, without a guess by name.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "rerank-test-cluster"
MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True)
class Hierarchies:
    """Where control groups are mounted: one place with version 2, one a controller with version 1."""

    roots: tuple[Path, ...]

    @property
    def tracking(self) -> Path:
        """Return the hierarchy that the cluster's own processes are put in."""
        named = [root for root in self.roots if root.name == "pids"]
        return (named or list(self.roots))[0]


def parse(mounts: str) -> Hierarchies:
    """Read /proc/mounts. A hybrid machine has version 1 and, without controllers, version 2."""
    lines = [line.split() for line in mounts.splitlines()]
    return Hierarchies(tuple(Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2")))


def hierarchies() -> Hierarchies:
    """Return this machine's."""
    return parse(MOUNTS.read_text(encoding="utf-8"))


def ensure() -> None:
    """Make the cluster's group in every hierarchy; the kubelet wants its root to exist."""
    for root in hierarchies().roots:
        group = root / NAME
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            # With version 1 a new group has no processor and no memory, and nothing can run in it.
            if (root / "cgroup.procs").exists() and (group / file).exists() and root.name == "cpuset":
                (group / file).write_text((root / file).read_text(encoding="utf-8"), encoding="utf-8")


def adopt(pid: int, component: str) -> None:
    """Put a process, and what it starts from now on, into the component's group."""
    group = hierarchies().tracking / NAME / component
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text(str(pid), encoding="utf-8")


def members() -> frozenset[int]:
    """Return the processes in the cluster's groups."""
    found: set[int] = set()
    for group in _groups():
        try:
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text(encoding="utf-8").split())
        except OSError:
            continue  # the group went meanwhile
    return frozenset(found)


def remove() -> None:
    """Remove the groups, innermost first; those with processes stay."""
    for group in _groups():
        try:
            group.rmdir()
        except OSError:
            continue


def left() -> tuple[Path, ...]:
    """Return the cluster's outermost groups that there are."""
    return tuple(root / NAME for root in hierarchies().roots if (root / NAME).exists())


def _groups() -> Iterator[Path]:
    for root in hierarchies().roots:
        for path, _, _ in os.walk(root / NAME, topdown=False):
            yield Path(path)

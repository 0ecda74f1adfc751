"""Ending the cluster: nothing of it stays, however far it had come."""

import shutil
import subprocess
from pathlib import Path

from tests.cluster.onenode import cgroups, host_paths, kernel, leftovers, network, probes, processes
from tests.cluster.onenode.errors import OneNodeError
from tests.cluster.onenode.state import State

KILL_S = 20.0


def clean(state: State) -> None:
    """Remove processes, mounts, network, control groups, files. Raise OneNodeError if something stays."""
    state.refuse_foreign()
    # Its data goes too, so nothing needs time to end well; its control groups hold exactly its processes.
    processes.kill_members(KILL_S)
    for point in leftovers.mounts_below(state.root, Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
    network.remove()
    probes.wait(_control_groups_are_gone, KILL_S)
    host_paths.give_back(state)
    kernel.put_back(state)
    if state.root.exists():
        shutil.rmtree(state.root)
    if left := leftovers.find(state):
        raise OneNodeError("The cluster is not wholly gone; what is left:\n  " + "\n  ".join(left))


def _control_groups_are_gone() -> bool:
    """Remove what can be removed; the group of a process that is about to be gone cannot, for a moment."""
    cgroups.remove()
    return not cgroups.left()

"""How many CPU cores this process may really use."""

import os
from pathlib import Path

CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cpu_max: Path = CGROUP_CPU_MAX) -> int:
    """Return the cores that scheduler affinity and the container's CPU limit leave, at least one.

    `cpu_max` is cgroup v2's file: quota and period in microseconds, or `max` where there is no limit.
    More threads than the quota allows are stopped by the kernel in the middle of a batch.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))


def compute_with(threads: int) -> None:
    """Let torch compute what the calling thread asks of it with this many threads, the caller among them."""
    import torch

    torch.set_num_threads(threads)

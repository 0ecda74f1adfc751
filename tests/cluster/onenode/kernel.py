"""Kernel settings of the whole machine that the kubelet changes: kept at the start, put back at the end."""

import json
from pathlib import Path

from tests.cluster.onenode.state import State

CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
SETTINGS = Path("/proc/sys")


def keep(state: State) -> None:
    """Write down how the settings are, unless that was done before."""
    kept = state.root / "kernel.json"
    if not kept.exists():
        values = {name: (SETTINGS / name).read_text(encoding="utf-8").strip() for name in CHANGED_BY_KUBELET}
        kept.write_text(json.dumps(values), encoding="utf-8")


def put_back(state: State) -> None:
    """Set what was written down."""
    try:
        values = json.loads((state.root / "kernel.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    for name, value in values.items():
        (SETTINGS / name).write_text(value, encoding="utf-8")

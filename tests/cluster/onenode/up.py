"""Starting the cluster: what runs already stays, what does not is started, and all of it is waited for."""

import json
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.onenode import (
    addresses,
    cgroups,
    configs,
    debian,
    down,
    gpu_count,
    host_paths,
    images,
    kernel,
    network,
    objects,
    pki,
    probes,
    processes,
    programs,
)
from tests.cluster.onenode.components import Component, environment, stages
from tests.cluster.onenode.errors import NotReadyError, OneNodeError
from tests.cluster.onenode.kubectl import kubectl
from tests.cluster.onenode.state import State

LOG_LINES = 15
NODE_READY_S = 600.0


def up(state: State) -> Path:
    """Start the cluster, or what is absent of it; return the directory of the programs."""
    debian.ensure()
    binaries = programs.ensure()
    crds = programs.crds()
    if not is_running(state, binaries):
        down.clean(state)  # what a crash or an earlier boot left
    state.make()
    kernel.keep(state)
    host_paths.take(state)
    cgroups.ensure()
    network.ensure()
    pki.ensure(state)
    configs.write(state)
    store, api, node, ingress = stages(state, binaries)
    start(state, store)
    images.load(state)
    start(state, api)
    start(state, node)
    apply(state, binaries, crds)
    bootstrap_envoy(state, binaries)
    start(state, ingress)
    wait_for_node(state, binaries)
    return binaries


def is_running(state: State, binaries: Path) -> bool:
    """Say whether any component runs."""
    return state.exists() and any(
        processes.recorded(state, component.name) for stage in stages(state, binaries) for component in stage
    )


def start(state: State, components: Iterable[Component]) -> None:
    """Start those that do not run, and wait for all."""
    chosen = tuple(components)
    said_before: dict[str, int] = {}
    for component in chosen:
        if processes.recorded(state, component.name) is None:
            said_before[component.name] = len(_log(state, component.name))
            processes.start(state, component.name, component.run_as(), environment())
    for component in chosen:
        wait_for(state, component, said_before.get(component.name))


def wait_for(state: State, component: Component, said_before: int | None) -> None:
    """Raise NotReadyError, with what the component said last, unless it becomes ready in time.

    `said_before` is the length of its log, in characters, before it was started; None if it ran already.
    """
    begun = time.monotonic()

    def ended() -> bool:
        return processes.recorded(state, component.name) is None

    def is_ready() -> bool:
        says = said_before is None or component.says in _log(state, component.name)[said_before:]
        return says and not ended() and probes.answers(component.ready)

    if not probes.wait(is_ready, component.ready_s, ended):
        how = "ended" if ended() else "is not ready"
        raise NotReadyError(
            f"{component.name} {how} after {time.monotonic() - begun:.0f} s ({component.ready}). "
            f"The last lines of {state.log(component.name)}:\n{_tail(_log(state, component.name))}\n"
            "Mend what they say and run `make cluster` again, or end what runs with `make cluster-down`."
        )


def apply(state: State, binaries: Path, crds: Iterable[Path]) -> None:
    """Create the objects that the cluster starts with."""
    files = [argument for path in crds for argument in ("-f", str(path))]
    kubectl(state.admin, binaries, "apply", "--server-side", "--force-conflicts", *files)
    kubectl(state.admin, binaries, "wait", "--for=condition=Established", "--timeout=600s", *files)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects.initial()})
    kubectl(state.admin, binaries, "apply", "--server-side", "--force-conflicts", "-f", "-", given=listed)


def bootstrap_envoy(state: State, binaries: Path) -> None:
    """Write the configuration with which Envoy finds Contour."""
    done = subprocess.run(
        [
            str(binaries / "contour"),
            "bootstrap",
            str(state.config / "envoy.json"),
            f"--admin-address={state.root / 'envoy-admin.sock'}",
            f"--xds-address={addresses.NODE}",
            f"--xds-port={addresses.XDS_PORT}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OneNodeError(f"`contour bootstrap` failed: {done.stderr.strip()}")


def wait_for_node(state: State, binaries: Path) -> None:
    """Wait until node and kubelet agree that pods, and the GPUs that are offered, can be given out."""
    wanted = Node("True", int(state.gpus.read_text(encoding="utf-8")))

    def is_ready() -> bool:
        # The kubelet is asked first: what the status shows may be from before it restarted.
        return gpu_count.known_to_kubelet(state.kubelet) == wanted.gpus and _node(state, binaries) == wanted

    if not probes.wait(is_ready, NODE_READY_S):
        raise NotReadyError(
            f"After {NODE_READY_S:.0f} s the node should be {wanted} and is {_node(state, binaries)}; "
            f"the kubelet has {gpu_count.known_to_kubelet(state.kubelet)} GPUs to give. "
            f"The last lines of {state.log('kubelet')}:\n{_tail(_log(state, 'kubelet'))}\n"
            f"`kubectl describe node {addresses.NODE_NAME}` says more; `make cluster-down` ends the cluster."
        )


@dataclass(frozen=True)
class Node:
    """What the API says of the node: its condition Ready, and its GPUs."""

    ready: str
    gpus: int


def _node(state: State, binaries: Path) -> Node:
    said = kubectl(
        state.admin, binaries, "get", "node", addresses.NODE_NAME, "--ignore-not-found", "-o", "json"
    )
    status = json.loads(said)["status"] if said else {}
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    return Node(
        conditions.get("Ready", "unknown"), int(status.get("allocatable", {}).get(addresses.GPU_RESOURCE, 0))
    )


def _log(state: State, component: str) -> str:
    try:
        return state.log(component).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _tail(log: str) -> str:
    return "\n".join(f"  {line}" for line in log.splitlines()[-LOG_LINES:]) or "  (there is none)"

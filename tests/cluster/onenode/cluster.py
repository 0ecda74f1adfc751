"""What tests know of the cluster that they run in."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.onenode import addresses, processes, programs
from tests.cluster.onenode.components import Component, stages
from tests.cluster.onenode.errors import OneNodeError
from tests.cluster.onenode.kubectl import kubectl
from tests.cluster.onenode.state import State
from tests.cluster.onenode.up import start, wait_for_node


@dataclass(frozen=True)
class Cluster:
    """Any cluster, ours or one that KUBECONFIG names.

    `bin` holds kubectl, helm and kwok. `ingress` is where Ingresses and HTTPRoutes answer: `127.0.0.1:18080`.
    """

    kubeconfig: Path
    bin: Path
    ingress: str

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl says; raise OneNodeError if it fails."""
        return kubectl(self.kubeconfig, self.bin, *arguments, given=given)


@dataclass(frozen=True)
class OneNode(Cluster):
    """The cluster that this tool started: tests may stop parts of it, and see what is behind it.

    `audit_log` has a JSON object for each write to the API. `host` is this machine as pods see it, `node`
    the node as this machine sees it; pods and Services can be reached from here by their addresses.
    """

    state: State
    containerd_socket: Path
    audit_log: Path
    node_name: str = addresses.NODE_NAME
    node: str = addresses.NODE
    host: str = addresses.HOST

    def component(self, name: str) -> Component:
        """Return a component by its name, as `apiserver`."""
        known = {component.name: component for stage in stages(self.state, self.bin) for component in stage}
        if name not in known:
            raise OneNodeError(f"There is no component {name!r}; there are {', '.join(known)}.")
        return known[name]

    def stop(self, name: str) -> None:
        """Stop one component; pods and other components go on."""
        processes.stop(self.state, self.component(name).name)

    def start(self, name: str) -> None:
        """Start one component that was stopped, and wait until it is ready."""
        start(self.state, (self.component(name),))
        if name in ("kubelet", "gpus"):
            wait_for_node(self.state, self.bin)
        if name == "apiserver":
            # By themselves they would come back after pauses, which an outage makes a minute long.
            for follower in ("controller-manager", "scheduler"):
                self.stop(follower)
                self.start(follower)

    def set_gpus(self, count: int) -> None:
        """Make the node offer so many GPUs from now on; return once it does."""
        draft = self.state.gpus.with_suffix(".new")
        draft.write_text(str(count), encoding="utf-8")
        draft.rename(self.state.gpus)
        wait_for_node(self.state, self.bin)


def chosen_kubeconfig(state: State) -> Path | None:
    """Return the kubeconfig of a cluster that the user chose in place of ours."""
    chosen = os.environ.get("KUBECONFIG")
    return Path(chosen) if chosen and Path(chosen).resolve() != state.admin.resolve() else None


def find() -> Cluster | None:
    """Return the cluster that KUBECONFIG names, else ours if it runs, else None."""
    state = State.from_environment()
    if chosen := chosen_kubeconfig(state):
        ingress = (
            os.environ.get("RERANK_CLUSTER_INGRESS")
            or f"{addresses.INGRESS_ADDRESS}:{addresses.INGRESS_PORT}"
        )
        return Cluster(chosen, programs.ensure(programs.CLIENTS), ingress)
    if processes.recorded(state, "apiserver") is None:
        return None
    return of(state, programs.ensure())


def of(state: State, binaries: Path) -> OneNode:
    """Return ours."""
    return OneNode(
        kubeconfig=state.admin,
        bin=binaries,
        ingress=f"{addresses.INGRESS_ADDRESS}:{addresses.INGRESS_PORT}",
        state=state,
        containerd_socket=state.containerd_socket,
        audit_log=state.audit_log,
    )

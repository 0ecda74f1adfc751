"""`python -m tests.cluster.onenode up|down`: what `make cluster` and `make cluster-down` run."""

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.onenode import addresses, cluster, down, leftovers, programs
from tests.cluster.onenode.errors import OneNodeError
from tests.cluster.onenode.state import State
from tests.cluster.onenode.up import is_running, up


@contextmanager
def alone() -> Iterator[None]:
    """Wait for another start or end of the cluster to be over."""
    directory = programs.cache_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(state: State) -> None:
    """Start the cluster, unless the user has one."""
    if chosen := cluster.chosen_kubeconfig(state):
        print(f"KUBECONFIG is set: the tests use the cluster of {chosen}, and none is started.")
        return
    begun = time.monotonic()
    binaries = programs.ensure()
    ran = is_running(state, binaries)
    up(state)
    how = "runs already" if ran else f"is ready after {time.monotonic() - begun:.0f} s"
    print(
        f"The cluster {how}. Use it:\n"
        f"  export KUBECONFIG={state.admin} PATH={binaries}:$PATH\n"
        f"Ingresses and HTTPRoutes answer on http://{addresses.INGRESS_ADDRESS}:{addresses.INGRESS_PORT}, "
        "by their host names."
    )


def end(state: State) -> None:
    """End the cluster that `start` started."""
    if cluster.chosen_kubeconfig(state):
        print("KUBECONFIG is set to another cluster; that one is left as it is.")
    if not leftovers.find(state):
        print("No cluster of ours runs.")
        return
    down.clean(state)
    print("The cluster is gone.")


def main() -> int:
    """Return the exit code."""
    commands = {"up": start, "down": end}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print("usage: python -m tests.cluster.onenode up|down", file=sys.stderr)
        return 2
    try:
        with alone():
            commands[sys.argv[1]](State.from_environment())
    except OneNodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

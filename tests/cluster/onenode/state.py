"""Where everything of one cluster lies on disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.onenode.errors import OccupiedError

DEFAULT = "/var/lib/rerank-test-cluster"
MARKER = ".rerank-test-cluster"
GPUS = "2"


@dataclass(frozen=True)
class State:
    """The state directory and the places in it."""

    root: Path

    @classmethod
    def from_environment(cls) -> "State":
        """Return the one that RERANK_CLUSTER_DIR names, else the default."""
        return cls(Path(os.environ.get("RERANK_CLUSTER_DIR") or DEFAULT).resolve())

    @property
    def admin(self) -> Path:
        """Return the kubeconfig of the administrator."""
        return self.kubeconfig("admin")

    @property
    def containerd(self) -> Path:
        """Return containerd's directory."""
        return self.root / "containerd"

    @property
    def containerd_socket(self) -> Path:
        """Return the socket on which containerd answers."""
        return self.containerd / "containerd.sock"

    @property
    def sandboxes(self) -> Path:
        """Return containerd's directory with one entry a pod."""
        return self.containerd / "run" / "io.containerd.grpc.v1.cri" / "sandboxes"

    @property
    def pki(self) -> Path:
        """Return the directory of keys and certificates."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Return the directory of the configuration files that the tool writes."""
        return self.root / "config"

    @property
    def run(self) -> Path:
        """Return the directory with one record a process."""
        return self.root / "run"

    @property
    def audit_log(self) -> Path:
        """Return the API server's log of writes, a JSON object a line."""
        return self.root / "log" / "audit.log"

    @property
    def device_plugins(self) -> Path:
        """Return the directory in which kubelet and device plugins meet."""
        return self.root / "device-plugins"

    @property
    def kubelet(self) -> Path:
        """Return the kubelet's root directory."""
        return self.root / "kubelet"

    @property
    def gpus(self) -> Path:
        """Return the file with the number of GPUs that the device plugin offers."""
        return self.root / "gpus"

    def kubeconfig(self, user: str) -> Path:
        """Return the kubeconfig of a user."""
        return self.root / f"{user}.kubeconfig"

    def log(self, component: str) -> Path:
        """Return a component's log."""
        return self.root / "log" / f"{component}.log"

    def exists(self) -> bool:
        """Say whether there is a state directory that this tool made."""
        return (self.root / MARKER).exists()

    def make(self) -> None:
        """Make the directories; raise OccupiedError rather than take over one with other things in it."""
        self.refuse_foreign()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / MARKER).touch()
        for path in (
            self.containerd,
            self.pki,
            self.config,
            self.run,
            self.device_plugins,
            self.audit_log.parent,
        ):
            path.mkdir(mode=0o700, exist_ok=True)
        if not self.gpus.exists():
            self.gpus.write_text(os.environ.get("RERANK_CLUSTER_GPUS") or GPUS, encoding="utf-8")

    def refuse_foreign(self) -> None:
        """Raise OccupiedError if the directory holds things that are not a cluster's."""
        if self.root.exists() and not self.exists() and any(self.root.iterdir()):
            raise OccupiedError(
                f"{self.root} is not a test cluster's directory and is not empty: "
                "set RERANK_CLUSTER_DIR to a directory that may be deleted."
            )

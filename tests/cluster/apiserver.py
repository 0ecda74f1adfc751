"""A Kubernetes API server of a test's own, with nothing but etcd behind it: it may be stopped at any time."""

import copy
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cluster.onenode import programs
from tests.support.ports import free_port, free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 600.0
ADMIN = "the-admin"

Json = dict[str, Any]


def binaries() -> Path:
    """Return a directory with `etcd` and `kube-apiserver`: RERANK_TEST_BIN, else what the cluster runs."""
    given = os.environ.get("RERANK_TEST_BIN")
    if given:
        return Path(given)
    return programs.ensure(p for p in programs.PROGRAMS if p.name in {"etcd", "kube-apiserver"})


@dataclass
class ApiServer:
    """etcd and kube-apiserver on loopback, as processes that can be ended, frozen and started again.

    Users are known by static tokens, so that a test may take one away. `url` and `certificate` stay.
    """

    directory: Path
    tokens: dict[str, str] = field(default_factory=lambda: {ADMIN: "system:masters"})
    """Group by token; the token is the user's name too."""

    def __post_init__(self) -> None:
        self._bin = binaries()
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"https://127.0.0.1:{self._port}"
        self.etcd_url = f"http://127.0.0.1:{self._etcd_port}"
        key = self.directory / "service-accounts.key"
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "RSA", "-out", key], check=True, capture_output=True
        )

    @property
    def certificate(self) -> Path:
        """What the server signs itself with."""
        return self.directory / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start what does not run, and wait until it is ready."""
        if self._etcd is None:
            self._etcd = self._run("etcd", *self._etcd_flags())
        if self._server is None:
            lines = (f"{token},{token},{token},{group}" for token, group in self.tokens.items())
            (self.directory / "tokens.csv").write_text("\n".join(lines))
            self._server = self._run("kube-apiserver", *self._server_flags())
        self.wait(lambda: self.certificate.exists() and self.ask("GET", "/readyz").status_code == 200)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the API server; etcd goes on."""
        assert self._server is not None
        self._server.send_signal(how)
        self._server.wait()
        self._server = None

    def pause(self) -> None:
        """End both processes in peace; `start` has them go on from what etcd has on disk."""
        self.stop()
        assert self._etcd is not None
        self._etcd.send_signal(signal.SIGTERM)
        self._etcd.wait()
        self._etcd = None

    def beside(self) -> "ApiServer":
        """Return another server, on another port, before the same etcd."""
        other = copy.copy(self)
        other._port = free_port()
        other.url = f"https://127.0.0.1:{other._port}"
        other._server = None
        return other

    def freeze(self) -> None:
        """Have the API server keep its connections and say nothing on them."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End both processes."""
        for process in (self._server, self._etcd):
            if process is not None:
                process.kill()
                process.wait()

    def compact(self) -> None:
        """Have etcd forget all versions but the present ones."""
        with httpx.Client(base_url=self.etcd_url, timeout=120) as client:
            now = client.post("/v3/kv/range", json={"key": "AA=="}).json()["header"]["revision"]
            compaction = {"revision": now, "physical": True}
            client.post("/v3/kv/compaction", json=compaction).raise_for_status()

    def kubeconfig(self, token: str = ADMIN) -> Path:
        """Write a kubeconfig whose token is in a file of its own, and return it."""
        (self.directory / f"{token}.token").write_text(token)
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        path = self.directory / f"{token}.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": cluster}],
                    "users": [{"name": token, "user": {"tokenFile": str(self.directory / f"{token}.token")}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": token}}],
                    "current-context": "test",
                }
            )
        )
        return path

    def ask(self, method: str, path: str, body: Json | None = None, kind: str = "json") -> httpx.Response:
        """Ask as the administrator. Raises httpx.TransportError where nobody answers."""
        content = {"content-type": f"application/{kind}"}
        with self.client() as client:
            return client.request(method, path, json=body, headers=content)

    def client(self) -> httpx.Client:
        """Return a client of the administrator's, for many requests on one connection."""
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(
            base_url=self.url, verify=trusted, headers={"authorization": f"Bearer {ADMIN}"}, timeout=120
        )

    def install(self) -> None:
        """Install the custom resources and wait until they are served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            self.ask("POST", path, yaml.safe_load(file.read_text())).raise_for_status()
        for kind in ("rerankmodels", "rerankconsumers"):
            self.wait(lambda kind=kind: self.ask("GET", f"/apis/rerank.dev/v1alpha1/{kind}").is_success)

    def _etcd_flags(self) -> tuple[str, ...]:
        peer = f"http://127.0.0.1:{self._peer_port}"
        return (
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )

    def _server_flags(self) -> tuple[str, ...]:
        key = self.directory / "service-accounts.key"
        return (
            f"--etcd-servers={self.etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self.certificate.parent}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount",
            "--etcd-compaction-interval=0",
            "--shutdown-delay-duration=0s",
        )

    def _run(self, name: str, *flags: str) -> "subprocess.Popen[bytes]":
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen([self._bin / name, *flags], stdout=log, stderr=log)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that is asked of the API server; it may be away meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for name, process in (("etcd", self._etcd), ("kube-apiserver", self._server)):
                if process is not None and process.poll() is not None:
                    said = (self.directory / f"{name}.log").read_text()[-2000:]
                    raise AssertionError(f"{name} ended with {process.returncode}:\n{said}")
            try:
                if condition():
                    return
            except (httpx.TransportError, OSError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"the API server was not ready within {PATIENCE_S:g} s; see {self.directory}")

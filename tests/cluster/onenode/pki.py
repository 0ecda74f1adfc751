"""The cluster's certificate authority, certificates, and the kubeconfigs that hold them."""

import base64
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster.onenode import addresses
from tests.cluster.onenode.errors import OneNodeError
from tests.cluster.onenode.state import State

DAYS = 3650
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
MASTERS = "system:masters"


@dataclass(frozen=True)
class Certificate:
    """Whom a certificate names; `hosts` in OpenSSL's words, as `DNS:node-1`."""

    name: str
    user: str
    group: str | None = None
    hosts: tuple[str, ...] = ()


CERTIFICATES = (
    Certificate(
        "apiserver",
        "kube-apiserver",
        hosts=(
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            "DNS:kubernetes.default.svc.cluster.local",
            f"IP:{addresses.API_SERVICE}",
            f"IP:{addresses.NODE}",
            "IP:127.0.0.1",
        ),
    ),
    Certificate(
        "kubelet",
        f"system:node:{addresses.NODE_NAME}",
        "system:nodes",
        (f"DNS:{addresses.NODE_NAME}", f"IP:{addresses.NODE}"),
    ),
    Certificate("kubelet-client", "kubelet-client", MASTERS),
    Certificate("admin", "admin", MASTERS),
    Certificate("controller-manager", "system:kube-controller-manager"),
    Certificate("scheduler", "system:kube-scheduler"),
    Certificate("proxy", "system:kube-proxy"),
    # Neither is under test, so what they may do is not worth a role each.
    Certificate("coredns", "coredns", MASTERS),
    Certificate("contour", "contour", MASTERS),
)
USERS = ("admin", "controller-manager", "scheduler", "kubelet", "proxy", "coredns", "contour")


def ensure(state: State) -> None:
    """Make what is absent: keys, certificates, kubeconfigs."""
    if not (state.pki / "ca.crt").exists():
        _sign(state.pki, "ca", _request("rerank-test-ca", None, _authority()), authority=False)
    if not (state.pki / "service-accounts.key").exists():
        _openssl("genpkey", "-algorithm", "RSA", "-out", str(state.pki / "service-accounts.key"))
    for certificate in CERTIFICATES:
        if not (state.pki / f"{certificate.name}.crt").exists():
            request = _request(certificate.user, certificate.group, _leaf(certificate))
            _sign(state.pki, certificate.name, request, authority=True)
    for user in USERS:
        path = state.kubeconfig(user)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(kubeconfig(state.pki, user), encoding="utf-8")


def kubeconfig(pki: Path, user: str) -> str:
    """Return a kubeconfig that needs no other file."""

    def data(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    cluster = {"server": addresses.API_URL, "certificate-authority-data": data("ca.crt")}
    credentials = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    name = "rerank-test"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        }
    )


def _request(user: str, group: str | None, extensions: str) -> str:
    organisation = f"O = {group}\n" if group else ""
    return (
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n"
        f"[subject]\n{organisation}CN = {user}\n[extensions]\n{extensions}"
    )


def _authority() -> str:
    return (
        "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign, cRLSign\n"
        "subjectKeyIdentifier = hash\n"
    )


def _leaf(certificate: Certificate) -> str:
    hosts = f"subjectAltName = {', '.join(certificate.hosts)}\n" if certificate.hosts else ""
    return (
        "basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\n"
        f"extendedKeyUsage = serverAuth, clientAuth\nauthorityKeyIdentifier = keyid\n{hosts}"
    )


def _sign(pki: Path, name: str, request: str, *, authority: bool) -> None:
    signer = ("-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key")) if authority else ()
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(request)
        config.flush()
        draft = pki / f".{name}.crt"
        key = ("-keyout", str(pki / f"{name}.key"), "-days", str(DAYS))
        _openssl("req", "-x509", "-config", config.name, *KEY, *key, *signer, "-out", str(draft))
        draft.rename(pki / f"{name}.crt")


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OneNodeError(f"`openssl {' '.join(arguments)}` failed: {done.stderr.strip()}")

"""TLS at the gateway's own port, with the certificate of a Secret that is renewed.

A release of its own beside that of all other tests: gateways alone, which follow models by themselves.
"""

import base64
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.harness.kube import Kube, eventually
from tests.cluster.harness.models import quickstart
from tests.cluster.harness.release import Release
from tests.cluster.harness.traffic import ANSWER_S, PANDA, Door, assert_none_failed, traffic
from tests.cluster.onenode.cluster import OneNode
from tests.support.certificates import make_pair

MODEL = quickstart()["metadata"]["name"]
BODY = {**PANDA, "model": MODEL}
HOST = "rerank-tls.test"
NAMESPACE = "rerank-test-tls"
GATEWAY = "secured-rerank-gateway"
SERVICE_HOST = f"{GATEWAY}.{NAMESPACE}.svc"
SECRET = "certificate"
VALUES = {
    "operator": {"replicas": 0},  # the other release's writes the models
    "crds": {"install": False},
    "rbac": {"aggregateRoles": False},
    "gateway": {
        "tls": {"secretName": SECRET},
        "ingress": {"hosts": [HOST]},
        "httpRoute": {"enabled": False},
    },
}
"""Over the tests' usual values."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Secured:
    """The gateways that speak TLS, and the pairs of certificate and key that they may have."""

    kube: Kube
    pairs: Path
    door: Door

    def pods(self) -> list[dict[str, Any]]:
        return self.kube.all("pods", "app.kubernetes.io/component=gateway")

    def addresses(self) -> list[Address]:
        """Return where each gateway listens."""
        return [(pod["status"]["podIP"], 8080) for pod in self.pods()]

    def incarnations(self) -> dict[str, list[int]]:
        """Return which pods there are, and how often their containers began anew."""
        return {
            pod["metadata"]["uid"]: [one["restartCount"] for one in pod["status"]["containerStatuses"]]
            for pod in self.pods()
        }

    def write(self, pair: str) -> None:
        """Have the Secret hold one of the pairs."""
        files = {name: (self.pairs / pair / name).read_bytes() for name in ("tls.crt", "tls.key")}
        self.kube.apply(
            {
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": SECRET},
                "data": {name: base64.b64encode(data).decode() for name, data in files.items()},
            }
        )  # fmt: skip

    def arrives(self, look: Callable[[], bool], what: str) -> None:
        """Wait until a written Secret has arrived.

        kubelet brings a pod's volumes up to date once a minute or so, and whenever the pod changes.
        """
        looks = count()

        def poked() -> bool:
            self.kube("annotate", "pods", "--all", f"looked={next(looks)}", "--overwrite")
            return look()

        eventually(poked, what, lambda: sorted(self.served()), seconds=300, every=1)

    def served(self) -> set[str]:
        """Return the names in the certificates that new connections get, at every gateway."""
        trust = self.trusting(*(pair.name for pair in self.pairs.iterdir() if pair.name != "wrong"))
        return {handshake(address, trust)[1] for address in self.addresses()}

    def trusting(self, *pairs: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        for pair in pairs:
            context.load_verify_locations(self.pairs / pair / "tls.crt")
        return context

    def client(self, address: Address, *pairs: str) -> httpx.Client:
        """Return a client that trusts these certificates alone, and keeps its connection while it idles."""
        context = self.trusting(*pairs)
        context.set_alpn_protocols(["http/1.1"])
        kept = httpx.Limits(max_connections=1, keepalive_expiry=None)
        transport = httpx.HTTPTransport(verify=context, limits=kept)
        return httpx.Client(
            base_url=f"https://{address[0]}:{address[1]}", transport=transport, timeout=ANSWER_S
        )


def handshake(address: Address, trust: ssl.SSLContext) -> tuple[str | None, str]:
    """Return the protocol that ALPN chose on a new connection, and the name in the certificate."""
    with (
        socket.create_connection(address, timeout=ANSWER_S) as plain,
        trust.wrap_socket(plain, server_hostname=SERVICE_HOST) as connection,
    ):
        certificate: Any = connection.getpeercert()
        return connection.selected_alpn_protocol(), certificate["subject"][0][0][1]


def ranked(client: httpx.Client) -> httpx.Response:
    """Rank the example at a gateway that is reached by an address, and must be who the Service is."""
    return client.post("/v1/rerank", json=BODY, extensions={"sni_hostname": SERVICE_HOST})


@pytest.fixture(scope="module")
def secured(
    own_cluster: OneNode, release: Release, models: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    pairs = folder / "pairs"
    for name in ("first", "second"):
        make_pair(pairs / name, name, hosts=f"DNS:{SERVICE_HOST}")
    (pairs / "wrong").mkdir()
    shutil.copy(pairs / "first" / "tls.crt", pairs / "wrong")
    shutil.copy(pairs / "second" / "tls.key", pairs / "wrong")
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES), encoding="utf-8")

    secured = Secured(Kube(own_cluster, NAMESPACE), pairs, Door(own_cluster.ingress, HOST))
    beside = replace(release, name="secured", namespace=NAMESPACE)
    own_cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")  # of a run before this one
    secured.kube.create()
    try:
        secured.write("first")
        beside.install("--values", str(values))
        yield secured
        beside.uninstall()
    finally:
        own_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_who_trusts_the_secret_s_certificate_is_answered_by_pods_and_service_and_plain_http_by_none(
    secured: Secured,
) -> None:
    service = secured.kube.get("service", GATEWAY)["spec"]
    (port,) = service["ports"]
    assert (port["name"], port["port"], port["appProtocol"]) == ("https", 443, "https")
    addresses = secured.addresses()
    assert len(addresses) == 2
    for address in (*addresses, (service["clusterIP"], 443)):
        assert handshake(address, secured.trusting("first")) == ("h2", "first")
        with secured.client(address, "first") as client:
            answer = ranked(client)
            assert answer.status_code == 200, answer.text
            assert [result["index"] for result in answer.json()["results"]] == [2, 1, 0]
        with secured.client(address, "second") as client, pytest.raises(httpx.ConnectError, match="VERIFY"):
            ranked(client)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://{address[0]}:{address[1]}/healthz", timeout=ANSWER_S)


def test_an_ingress_controller_that_goes_by_the_ports_app_protocol_speaks_tls_to_it(secured: Secured) -> None:
    assert secured.door.answered(MODEL).json()["results"][0]["index"] == 2


def test_a_renewed_secret_counts_for_new_connections_without_a_restart_or_a_failed_request(
    secured: Secured,
) -> None:
    secured.door.answered(MODEL)
    before = secured.incarnations()
    kept = [secured.client(address, "first") for address in secured.addresses()]
    try:
        for client in kept:
            assert ranked(client).status_code == 200
        with traffic(secured.door, MODEL, clients=4) as seen:
            secured.write("second")
            secured.arrives(
                lambda: secured.served() == {"second"}, "every gateway to have the new certificate"
            )
            renewed = seen.answered
            eventually(lambda: seen.answered >= renewed + 20, "requests afterwards", seconds=300)
        assert_none_failed(seen)
        # They trust the first certificate alone: their connections are the old ones, which go on.
        for client in kept:
            assert ranked(client).status_code == 200
    finally:
        for client in kept:
            client.close()
    for address in secured.addresses():
        with secured.client(address, "first") as client, pytest.raises(httpx.ConnectError, match="VERIFY"):
            ranked(client)
    assert secured.incarnations() == before


def test_a_secret_that_does_not_fit_leaves_the_certificate_before_it_until_one_that_does(
    secured: Secured,
) -> None:
    before = secured.incarnations()
    (had,) = secured.served()
    names = [pod["metadata"]["name"] for pod in secured.pods()]

    def complained() -> bool:
        logs = [secured.kube("logs", name, "--container", "envoy") for name in names]
        return all("KEY_VALUES_MISMATCH" in log for log in logs)

    secured.write("wrong")
    secured.arrives(complained, "the complaint of every gateway")
    assert secured.served() == {had}
    other = "first" if had == "second" else "second"
    secured.write(other)
    secured.arrives(lambda: secured.served() == {other}, "the pair that fits")
    assert secured.incarnations() == before

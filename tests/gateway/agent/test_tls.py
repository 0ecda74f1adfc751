"""TLS towards callers: a certificate as Kubernetes mounts one, renewed while requests run."""

import asyncio
import contextlib
import re
import shutil
import socket
import ssl
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from rerank_gateway import state_file
from rerank_gateway.expiry import Expiry
from rerank_gateway.models import View
from tests.gateway.agent.conftest import PATIENCE
from tests.support.certificates import make_pair, needs_openssl, openssl
from tests.support.ports import free_port

pytestmark = [pytest.mark.anyio, needs_openssl]

BODY = {"model": "m", "query": "q", "documents": ["d"]}


@dataclass
class Mount:
    """A volume with a Secret, as kubelet writes one: files are links into `..data`, which is renamed."""

    directory: Path
    version: int = 0

    def write(self, source):
        """Have the volume hold the files of `source`, all at once."""
        self.version += 1
        hidden = self.directory / f"..version-{self.version}"
        shutil.copytree(source, hidden)
        link = self.directory / "..data_tmp"
        link.symlink_to(hidden.name)
        link.rename(self.directory / "..data")
        for name in ("tls.crt", "tls.key"):
            file = self.directory / name
            if not file.is_symlink():
                file.symlink_to(f"..data/{name}")
        if self.version > 1:
            shutil.rmtree(self.directory / f"..version-{self.version - 1}")


def trusting(*certificates):
    context = ssl.create_default_context()
    for certificate in certificates:
        context.load_verify_locations(certificate)
    return context


@dataclass
class Secure:
    """A gateway that speaks TLS."""

    port: int
    mount: Mount
    pairs: Path
    envoy: object
    agent: object

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self):
        return trusting(*self.pairs.glob("*/tls.crt"))

    def handshake(self, context):
        """Return the protocol, TLS and ALPN's, and the name in the certificate."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=120) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            subject = connection.getpeercert()["subject"]
            return connection.version(), connection.selected_alpn_protocol(), subject[0][0][1]

    @property
    def name(self):
        return self.handshake(self.trust)[2]


@pytest.fixture
def pairs(tmp_path):
    for name in ("first", "second"):
        make_pair(tmp_path / "pairs" / name, name)
    return tmp_path / "pairs"


@pytest.fixture
async def secure(socket_dir, process, replica, served, until, pairs):
    mount = Mount(socket_dir / "tls")
    mount.directory.mkdir()
    mount.write(pairs / "first")
    state = socket_dir / "state.json"
    state_file.write(state, View((served("m", (await replica("only")).port),)))
    where = ("--socket-dir", str(socket_dir))
    agent = process("agent", "--state-file", str(state), *where)
    port = free_port()
    listen = ("--listen", f"127.0.0.1:{port}", "--concurrency", "1")
    envoy = process("envoy", *where, *listen, "--tls-dir", str(mount.directory))
    await agent.start()
    await envoy.start()
    made = Secure(port, mount, pairs, envoy, agent)

    async def ready():
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(verify=made.trust, timeout=120) as client:
                return (await client.get(f"{made.url}/healthz")).status_code == 200
        return False

    await until(ready, "the gateway to be ready")
    return made


async def test_a_caller_that_trusts_the_certificate_is_answered(secure):
    async with httpx.AsyncClient(verify=secure.trust, base_url=secure.url, timeout=PATIENCE) as client:
        answer = await client.post("/v1/rerank", json=BODY)
        assert (answer.status_code, answer.text) == (200, "only")
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "m"


async def test_a_caller_that_does_not_trust_it_is_not_deceived(secure):
    async with httpx.AsyncClient(verify=ssl.create_default_context(), timeout=PATIENCE) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get(f"{secure.url}/healthz")


async def test_plain_http_is_not_answered_where_tls_is_spoken(secure):
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{secure.port}/healthz")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(["h2", "http/1.1"], "h2", id="both"),
        pytest.param(["http/1.1"], "http/1.1", id="HTTP/1.1 alone"),
        pytest.param([], None, id="none"),
    ],
)
async def test_the_version_of_http_is_agreed_on_by_alpn(secure, offered, chosen):
    context = secure.trust
    if offered:
        context.set_alpn_protocols(offered)
    assert secure.handshake(context) == ("TLSv1.3", chosen, "first")


async def test_tls_1_2_is_spoken_and_1_1_is_refused_by_the_gateway(secure):
    older = secure.trust
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    assert secure.handshake(older)[0] == "TLSv1.2"
    oldest = secure.trust
    oldest.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL itself would not try
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        oldest.minimum_version = oldest.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        secure.handshake(oldest)


async def test_a_renewed_secret_counts_for_new_connections_and_fails_no_request(secure, until):
    answers, over = [], asyncio.Event()

    async def client(kept):
        """Ask on one connection all the time, or each time on a new one."""
        async with contextlib.AsyncExitStack() as clients:
            made = None
            while not over.is_set():
                if made is None or not kept:
                    await clients.aclose()
                    made = await clients.enter_async_context(httpx.AsyncClient(verify=trust, timeout=120))
                try:
                    answers.append((await made.post(f"{secure.url}/v1/rerank", json=BODY)).status_code)
                except httpx.TransportError as error:
                    answers.append(repr(error))
                await asyncio.sleep(0.005)

    trust = secure.trust
    async with asyncio.TaskGroup() as clients:
        clients.create_task(client(True))
        clients.create_task(client(False))
        for name in ("second", "first", "second"):
            before = len(answers)
            secure.mount.write(secure.pairs / name)

            async def renewed(name=name, before=before):
                return await asyncio.to_thread(lambda: secure.name) == name and len(answers) > before + 10

            await until(renewed, f"the certificate {name}")
        over.set()
    assert set(answers) == {200}
    assert secure.envoy.child.returncode is None


async def test_a_renewed_pair_that_does_not_fit_leaves_the_earlier_one_in_use(secure, tmp_path, until):
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    shutil.copy(secure.pairs / "second" / "tls.crt", wrong)
    shutil.copy(secure.pairs / "first" / "tls.key", wrong)
    secure.mount.write(wrong)

    async def complained():
        return "KEY_VALUES_MISMATCH" in secure.envoy.said()

    await until(complained, "Envoy's complaint")
    assert secure.name == "first"
    secure.mount.write(secure.pairs / "second")

    async def renewed():
        return secure.name == "second"

    await until(renewed, "the pair that fits")


async def test_an_expired_certificate_is_told_in_the_log_and_to_prometheus(secure, socket_dir, until):
    async def told():
        """What the agent tells Prometheus: when the certificate ends, if it is known."""
        transport = httpx.AsyncHTTPTransport(uds=str(socket_dir / "http.sock"))
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:
            text = (await client.get("http://agent/metrics")).text
        found = re.search(r"^rerank_gateway_certificate_expiry_timestamp_seconds (\S+)$", text, re.MULTILINE)
        return found and float(found[1])

    good = await until(told, "when the certificate ends")
    assert good > time.time()
    assert "expired" not in secure.agent.said()
    old = secure.pairs / "old"
    shutil.copytree(secure.pairs / "first", old)
    certificate = (
        "-in",
        str(old / "tls.crt"),
        "-out",
        str(old / "tls.crt"),
        "-signkey",
        str(old / "tls.key"),
    )
    openssl("x509", "-days", "-1", *certificate)
    secure.mount.write(old)

    async def logged():
        return "the TLS certificate expired at" in secure.agent.said()

    await until(logged, "a word of the expired certificate")
    assert await told() < time.time()


def test_each_expired_certificate_is_told_once(caplog):
    expiry = Expiry()
    for at, now in ((None, 0), (9, 5), (9, 9), (9, 10), (None, 11), (9, 12), (20, 13), (20, 21)):
        expiry.take(at, now)
        assert expiry.at == at
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "the TLS certificate expired at 1970-01-01T00:00:09+00:00",
        "the TLS certificate expired at 1970-01-01T00:00:20+00:00",
    ]


def without_key(directory):
    (directory / "tls.key").unlink()


def of_another(directory):
    make_pair(directory / "other", "other")
    shutil.copy(directory / "other" / "tls.key", directory)


def no_pem(directory):
    (directory / "tls.crt").write_text("a certificate")


def empty(directory):
    (directory / "tls.crt").write_text("")


def encrypted(directory):
    key = directory / "tls.key"
    openssl("ec", "-aes256", "-passout", "pass:secret", "-in", str(key), "-out", str(key))


def short(directory):
    make_pair(directory, "short", key=("-newkey", "rsa:1024"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(shutil.rmtree, "{0}/tls.crt cannot be read (No such file", id="absent"),
        pytest.param(without_key, "{0}/tls.key cannot be read (No such file or directory)", id="no key"),
        pytest.param(of_another, "KEY_VALUES_MISMATCH", id="another certificate's key"),
        pytest.param(no_pem, "Failed to load certificate chain from {0}/tls.crt", id="no PEM"),
        pytest.param(empty, "{0}/tls.crt", id="an empty file"),
        pytest.param(encrypted, "Failed to load private key from {0}/tls.key", id="an encrypted key"),
        pytest.param(short, "2048-bit or larger", id="a short key"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_envoy_starts(
    socket_dir, process, tmp_path, spoil, says
):
    made = tmp_path / "tls"
    make_pair(made, "good")
    spoil(made)
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--socket-dir", str(socket_dir))
    envoy = process("envoy", *listen, "--tls-dir", str(made))
    await envoy.start()
    assert await asyncio.wait_for(envoy.child.wait(), 60) == 1
    said = envoy.said()
    assert said.startswith("Envoy cannot be started: ")
    assert says.format(made) in said
    assert "private key, not encrypted, into tls.key" in said
    assert said.count("\n") == 1
    assert not (socket_dir / "envoy.json").exists()


async def test_the_private_key_is_not_in_envoy_s_dump_of_its_configuration(secure, socket_dir):
    transport = httpx.AsyncHTTPTransport(verify=False, uds=str(socket_dir / "admin.sock"))
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:
        dump = (await client.get("http://envoy/config_dump?include_eds")).text
    assert "certificate.json" in dump
    key = (secure.pairs / "first" / "tls.key").read_text().splitlines()[1]
    assert key not in dump
    assert "PRIVATE KEY" not in dump

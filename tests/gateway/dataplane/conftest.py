"""A whole gateway on loopback: the real Envoy and the real agent, before small real HTTP servers."""

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from rerank_api.keys import digest_of, make_key
from rerank_api.status import ModelState
from rerank_gateway import state_file
from rerank_gateway.auth import without_key
from rerank_gateway.bootstrap import BootstrapSettings, arguments, bootstrap
from rerank_gateway.envoy_binary import find
from rerank_gateway.models import Consumer, Endpoint, ServedModel, View
from rerank_gateway.tracing import Tracing
from tests.support.ports import free_port

REQUEST_TIMEOUT_S = RECEIVE_TIMEOUT_S = 60.0
"""Longer than any request takes that is answered, however busy the machine is."""
PATIENCE_S = 120.0

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reply:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def error(self) -> dict:
        """The one error body; its shape is checked on the way."""
        assert self.headers.get_all("content-type") == ["application/json"]
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "code", "param"}
        return self.json["error"]


@dataclass(frozen=True)
class Caller:
    """A client that sends exactly what it is told."""

    port: int

    def raw(self, *parts: bytes) -> Reply:
        """Send bytes as they are, and read one response."""
        with closing(self.connect()) as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except (BrokenPipeError, ConnectionResetError):
                    break  # an answer may come before the whole request is read
            return self.read(connection)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Headers = (),
        host: str = "gateway.test",
    ) -> Reply:
        """Send one request with a Content-Length where there is a body."""
        length = () if body is None else (("content-length", str(len(body))),)
        return self.raw(head(method, path, (*headers, *length), host) + (body or b""))

    def post(self, path: str, body: bytes, headers: Headers = (), host: str = "gateway.test") -> Reply:
        return self.ask("POST", path, body, headers, host)

    def post_chunked(self, path: str, body: bytes, headers: Headers = (), size: int = 65_536) -> Reply:
        """Send a body in chunks, without its length ahead."""
        chunks = (body[i : i + size] for i in range(0, len(body), size))
        coded = (b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        return self.raw(
            head("POST", path, (*headers, ("transfer-encoding", "chunked"))), *coded, b"0\r\n\r\n"
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def read(self, connection: socket.socket, method: str = "POST") -> Reply:
        with closing(http.client.HTTPResponse(connection, method=method)) as response:
            response.begin()
            return Reply(response.status, response.headers, response.read())


@dataclass(frozen=True)
class Seen:
    """A request as a model server received it."""

    method: str
    path: str
    headers: http.client.HTTPMessage
    length: int


@dataclass
class Upstream:
    """A model server's place: a port, what it does with a request, and what it received."""

    port: int
    seen: list[Seen] = field(default_factory=list)


@dataclass(frozen=True)
class Gateway:
    """One running gateway."""

    caller: Caller
    upstreams: dict[str, Upstream]
    settings: BootstrapSettings
    agent: subprocess.Popen
    models: tuple[ServedModel, ...]

    def serve(self, *models: ServedModel) -> None:
        """Tell the agent of these models, from now on."""
        state_file.write(self.settings.socket_dir / "state.json", View(models))

    def admit(self, *consumers: Consumer) -> None:
        """Tell the agent who may call, from now on."""
        state_file.write(self.settings.socket_dir / "state.json", View(self.models, consumers))

    def administration(self, path: str) -> str:
        """Return what Envoy's own administration says."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.settings.admin_socket))) as client:
            return client.get(f"http://envoy{path}", timeout=PATIENCE_S).text

    def complaints(self) -> list[str]:
        """Return what Envoy warns of, but that the agent was not there yet: either may be the first."""
        lines = (self.settings.socket_dir / "envoy.log").read_text().splitlines()
        return [line for line in lines if "gRPC config stream to ads closed" not in line]

    def another_agent(self) -> AbstractContextManager[subprocess.Popen]:
        """Run an agent in the place of the one that is gone; it is told what the state file says."""
        return agent_process(self.settings.socket_dir)


def head(method: str, path: str, headers: Headers = (), host: str = "gateway.test") -> bytes:
    """Write the head of an HTTP/1.1 request, in Latin-1 and unchecked."""
    lines = (
        f"{method} {path} HTTP/1.1",
        f"host: {host}",
        *(f"{name}: {value}" for name, value in headers),
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.fixture(scope="session")
def request_head() -> Callable[..., bytes]:
    return head


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """Return a gateway with a model for each fate that a request can meet."""
    with gateway_directory() as directory, served() as upstreams:
        models = fates(upstreams)
        with running_gateway(directory, models, upstreams) as gateway:
            yield gateway


@pytest.fixture(scope="session")
def impatient() -> Iterator[Gateway]:
    """Return such a gateway that waits 2 s for an answer, and 3 s for a body."""
    with gateway_directory() as directory, served() as upstreams:
        limits = {"request_timeout_s": 2.0, "receive_timeout_s": 3.0}
        with running_gateway(directory, fates(upstreams), upstreams, **limits) as gateway:
            yield gateway


@dataclass(frozen=True)
class Asked:
    """A gateway that asks for keys, and a key of each of its consumers."""

    gateway: Gateway
    keys: dict[str, str]
    consumers: tuple[Consumer, ...]


@pytest.fixture(scope="session")
def asked() -> Iterator[Asked]:
    """Return a gateway with one consumer for all models, one for `echo`, and one that has none of them."""
    keys = {name: make_key() for name in ("all", "rag/echo", "none")}
    grants = {"all": ("*",), "rag/echo": ("echo",), "none": ("not-there",)}
    consumers = tuple(Consumer(name, (digest_of(key),), grants[name]) for name, key in keys.items())
    with gateway_directory() as directory, served() as upstreams:
        models = tuple(replace(model, model=model.name) for model in fates(upstreams))
        with running_gateway(directory, models, upstreams, consumers) as gateway:
            yield Asked(gateway, keys, consumers)


@pytest.fixture
def keyed_gateway() -> Iterator[Callable[..., AbstractContextManager[Gateway]]]:
    """Return a context manager that runs a gateway with these consumers, and a page."""
    with served() as upstreams:

        @contextmanager
        def run(*consumers: Consumer, page: dict | None = None) -> Iterator[Gateway]:
            with (
                gateway_directory() as directory,
                running_gateway(directory, fates(upstreams), upstreams, consumers, page) as gateway,
            ):
                yield gateway

        yield run


@dataclass(frozen=True)
class Replicas:
    """Two gateways before the same models, which tell each other what consumers use."""

    gateways: tuple[Gateway, Gateway]
    counts: tuple[int, int]
    """The ports where they are asked."""


@pytest.fixture
def gateway_replicas() -> Iterator[Callable[..., AbstractContextManager[Replicas]]]:
    """Return a context manager that runs two gateways with these consumers."""
    with served() as upstreams:

        @contextmanager
        def run(*consumers: Consumer, **limits: Any) -> Iterator[Replicas]:
            counts = (free_port(), free_port())
            peers = tuple(option for port in counts for option in ("--peer", f"127.0.0.1:{port}"))
            with ExitStack() as stack:
                gateways = [
                    stack.enter_context(
                        running_gateway(
                            stack.enter_context(gateway_directory()),
                            fates(upstreams),
                            upstreams,
                            consumers,
                            agent_options=("--counts-listen", f"127.0.0.1:{port}", *peers),
                            **limits,
                        )
                    )
                    for port in counts
                ]
                yield Replicas((gateways[0], gateways[1]), counts)

        yield run


@pytest.fixture(scope="session")
def traced_gateway() -> Iterator[Callable[..., AbstractContextManager[Gateway]]]:
    """Return a context manager that runs a gateway whose spans go where it is told; consumers need keys."""
    with served() as upstreams:

        @contextmanager
        def run(tracing: Tracing, *consumers: Consumer) -> Iterator[Gateway]:
            with (
                gateway_directory() as directory,
                running_gateway(
                    directory, fates(upstreams), upstreams, consumers or None, tracing=tracing
                ) as gateway,
            ):
                yield gateway

        yield run


@pytest.fixture(scope="session")
def gateway_before() -> Callable[..., AbstractContextManager[Gateway]]:
    """Return a context manager that runs a gateway before models, each a name and its replica's port."""

    @contextmanager
    def run(ports: dict[str, int], **limits: Any) -> Iterator[Gateway]:
        models = tuple(fate(name, Upstream(port)) for name, port in ports.items())
        with gateway_directory() as directory, running_gateway(directory, models, {}, **limits) as gateway:
            yield gateway

    return run


@pytest.fixture(scope="session")
def gateway_of() -> Callable[..., AbstractContextManager[Gateway]]:
    """Return a context manager that runs a gateway of these models; with consumers it asks for keys."""

    @contextmanager
    def run(
        *models: ServedModel, consumers: tuple[Consumer, ...] | None = None, **limits: Any
    ) -> Iterator[Gateway]:
        with (
            gateway_directory() as directory,
            running_gateway(directory, models, {}, consumers, **limits) as it,
        ):
            yield it

    return run


@pytest.fixture
def replicas() -> Iterator[dict[str, Upstream]]:
    """Run the model servers' stand-ins for one test, with a port where nobody listens."""
    with served() as upstreams:
        yield {**upstreams, "nobody": Upstream(free_port())}


@pytest.fixture(scope="session")
def http2_caller(gateway: Gateway) -> Iterator[Caller]:
    """Return a caller whose requests reach the gateway as HTTP/2: another Envoy before it translates."""
    with gateway_directory() as directory:
        port = free_port()
        with envoy(directory, translator(port, gateway.caller.port)):
            caller = Caller(port)
            wait_until_healthy(caller)
            yield caller


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def caller(request: pytest.FixtureRequest) -> Caller:
    """Return a caller of the gateway, once for each protocol."""
    if request.param == "HTTP/2":
        return request.getfixturevalue("http2_caller")
    return request.getfixturevalue("gateway").caller


@pytest.fixture
def gateway_parts() -> Iterator[tuple[BootstrapSettings, Callable, Callable]]:
    """Return settings, and two context managers that run the agent with the model `echo`, and Envoy.

    The agent may have more models, which all are the same server.
    """
    with gateway_directory() as directory, served() as upstreams:
        settings = make_settings(directory)

        def run_agent(*more: str) -> AbstractContextManager[None]:
            return running_agent(directory, tuple(fate(name, upstreams["echo"]) for name in ("echo", *more)))

        @contextmanager
        def run_envoy(more_lua: str = "") -> Iterator[Caller]:
            config = bootstrap(settings)
            http = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
            lua = next(f for f in http["typed_config"]["http_filters"] if f["name"] == "lua")["typed_config"]
            lua["default_source_code"]["inline_string"] += more_lua
            with envoy(directory, config, arguments(settings, directory / "envoy.json")):
                yield Caller(settings.listen_port)

        yield settings, run_agent, run_envoy


def fates(upstreams: dict[str, Upstream]) -> tuple[ServedModel, ...]:
    """Return the models, each named for what happens to its requests."""
    closed = Upstream(free_port())
    return (
        fate("echo", upstreams["echo"], hosts=("echo.test", "xn--echo-1.test")),
        fate("BAAI/echo:v2@prod", upstreams["echo"]),
        fate("v1", upstreams["echo"]),
        fate("metered", upstreams["metered"], hosts=("metered.test",)),
        fate("idle", hosts=("idle.test",)),
        fate("refused", closed, hosts=("refused.test",)),
        fate("half-refused", closed, upstreams["echo"]),
        fate("killer", upstreams["killer-1"], upstreams["killer-2"]),
        fate("busy", upstreams["busy-1"], upstreams["busy-2"]),
        fate("slow", upstreams["slow"], hosts=("slow.test",)),
    )


def fate(name: str, *upstreams: Upstream, hosts: tuple[str, ...] = ()) -> ServedModel:
    return ServedModel(
        name=name,
        model="test",
        state=ModelState.READY if upstreams else ModelState.IDLE,
        message="Ready." if upstreams else "Scaled to zero.",
        endpoints=tuple(Endpoint("127.0.0.1", upstream.port) for upstream in upstreams),
        hosts=hosts,
    )


def make_settings(directory: Path, *, auth: bool = False, **limits: Any) -> BootstrapSettings:
    made = BootstrapSettings(
        listen_address="127.0.0.1",
        listen_port=free_port(),
        socket_dir=directory,
        request_timeout_s=REQUEST_TIMEOUT_S,
        receive_timeout_s=RECEIVE_TIMEOUT_S,
        concurrency=1,
        auth=auth,
        access_log=directory / "access.log",
        metrics=("127.0.0.1", free_port()) if auth else None,
    )
    return replace(made, **limits)


@contextmanager
def running_gateway(
    directory: Path,
    models: tuple[ServedModel, ...],
    upstreams: dict[str, Upstream],
    consumers: tuple[Consumer, ...] | None = None,
    page: dict | None = None,
    agent_options: tuple[str, ...] = (),
    **limits: Any,
) -> Iterator[Gateway]:
    """Run a gateway; where there are consumers, and be it none, it asks for keys."""
    settings = make_settings(directory, auth=consumers is not None, **limits)
    config = bootstrap(settings)
    if page is not None:
        http = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        host = http["route_config"]["virtual_hosts"][0]
        host["routes"] = without_key([page, *host["routes"]])
    command_line = arguments(settings, directory / "envoy.json")
    with (
        running_agent(directory, models, consumers or (), agent_options) as agent,
        envoy(directory, config, command_line),
    ):
        caller = Caller(settings.listen_port)
        wait_until_healthy(caller)
        yield Gateway(caller, upstreams, settings, agent, models)


@contextmanager
def running_agent(
    directory: Path,
    models: tuple[ServedModel, ...],
    consumers: tuple[Consumer, ...] = (),
    more: tuple[str, ...] = (),
) -> Iterator[subprocess.Popen]:
    state_file.write(directory / "state.json", View(models, consumers))
    with agent_process(directory, more) as agent:
        yield agent


@contextmanager
def agent_process(directory: Path, more: tuple[str, ...] = ()) -> Iterator[subprocess.Popen]:
    command = (sys.executable, "-m", "rerank_gateway", "agent")
    options = ("--state-file", str(directory / "state.json"), "--socket-dir", str(directory))
    with process([*command, *options, *more], directory / "agent.log") as agent:
        yield agent


@contextmanager
def envoy(directory: Path, config: dict, command_line: list[str] | None = None) -> Iterator[subprocess.Popen]:
    file = directory / "envoy.json"
    file.write_text(json.dumps(config))
    options = command_line or ["--config-path", str(file), "--disable-hot-restart", "--concurrency", "1"]
    with process([str(find()), *options, "--log-level", "warning"], directory / "envoy.log") as running:
        yield running


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as running:
        try:
            yield running
        finally:
            running.kill()


@contextmanager
def gateway_directory() -> Iterator[Path]:
    """Yield a directory with a short path, as unix sockets need it."""
    directory = Path(tempfile.mkdtemp(prefix="gw", dir=os.environ.get("XDG_RUNTIME_DIR")))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def wait_until_healthy(caller: Caller) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if caller.ask("GET", "/healthz").status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"no gateway answers on port {caller.port}")
        time.sleep(0.02)


def translator(port: int, gateway_port: int) -> dict:
    """Return an Envoy that passes every request on as HTTP/2."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    filters = "type.googleapis.com/envoy.extensions.filters"

    def address(number: int) -> dict:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "translator",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateway", "timeout": "0s"}}],
                }
            ]
        },
    }
    cluster = {
        "name": "gateway",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "gateway",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(gateway_port)}}]}],
        },
    }
    listener = {
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def served() -> Iterator[dict[str, Upstream]]:
    """Run the model servers' stand-ins: they speak HTTP and rank nothing."""
    behaviours: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
        "echo": echo,
        "metered": metered,
        "first": metered,
        "second": metered,
        "third": metered,
        "busy-1": busy,
        "busy-2": busy,
        "slow": sleep_long,
        "killer-1": hang_up,
        "killer-2": hang_up,
    }
    servers = []
    upstreams = {}
    try:
        for name, behaviour in behaviours.items():
            upstream = Upstream(0)
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler(upstream, behaviour))
            upstream.port = server.server_port
            servers.append(server)
            upstreams[name] = upstream
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield upstreams
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def handler(upstream: Upstream, behave: Callable) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = PATIENCE_S
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            try:
                body = read_body(self)
                upstream.seen.append(Seen(self.command, self.path, self.headers, len(body)))
                behave(self, body)
            except ConnectionError:
                self.close_connection = True  # the gateway gave the request up

        def log_message(self, *_: object) -> None:
            pass

    Handler.do_GET = Handler.do_POST
    return Handler


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("transfer-encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("content-length", 0)))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Headers = ()) -> None:
    request.send_response(status)
    for name, value in (*headers, ("content-length", str(len(body)))):
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def echo(request: BaseHTTPRequestHandler, body: bytes) -> None:
    received = {
        "path": request.path,
        "headers": request.headers.items(),
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    answer = json.dumps(received).encode()
    send(
        request,
        200,
        answer,
        (("x-own", "kept"), ("x-rerank-cluster", "m/private"), ("X-Rerank-Model", "private")),
    )


def metered(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """Answer as a server does that ran as many tokens as the body says."""
    asked = json.loads(body)
    cost = (("x-rerank-tokens", str(asked["tokens"])), ("x-rerank-documents", str(len(asked["documents"]))))
    send(request, 200, b"{}", (("content-type", "application/json"), *cost))


def busy(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send(request, 503, b"busy, in my own words", (("content-type", "text/plain"), ("retry-after", "7")))


def sleep_long(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.rfile.read(1)  # until the gateway, or its caller, gives up
    request.close_connection = True


def hang_up(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.close_connection = True


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits until a condition holds; a refused connection counts as not yet."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if holds():
                    return
            except (OSError, httpx.TransportError):
                pass
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    return wait

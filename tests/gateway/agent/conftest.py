"""A real Envoy, the real agent as a process, and small real replicas, for the tests beside this file."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rerank_api.status import ModelState
from rerank_gateway import envoy_binary, state_file
from rerank_gateway.agent import Sockets, run
from rerank_gateway.bootstrap import BootstrapSettings, arguments, bootstrap
from rerank_gateway.models import Endpoint, ServedModel, View
from rerank_gateway.state_file import StateFileSource
from tests.support.replicas import Replica

PATIENCE = 120.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def served(name: str, *ports: int, created: int = 1, **fields: object) -> ServedModel:
    """A ready model with a replica on each loopback port."""
    values: dict[str, object] = {
        "name": name,
        "model": name.rpartition("/")[2],
        "state": ModelState.READY,
        "message": "ready",
        "endpoints": tuple(Endpoint("127.0.0.1", port) for port in ports),
        "created": created,
    }
    return ServedModel(**(values | fields))


@pytest.fixture(name="served")
def _served() -> Callable[..., ServedModel]:
    return served


async def until(condition: Callable[[], Awaitable[object]], what: str) -> object:
    """Wait until the condition holds and return its value; a dead end fails with what was awaited."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := await condition():
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE:g} s in vain for: {what}")


@pytest.fixture(name="until")
def _until() -> Callable[..., Awaitable[object]]:
    return until


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def replica() -> AsyncIterator[Callable[[str | Replica], Awaitable[Replica]]]:
    """Start replicas, by name or as they were made."""
    started: list[Replica] = []

    async def start(name: str | Replica) -> Replica:
        made = name if isinstance(name, Replica) else Replica(name)
        await made.start()
        started.append(made)
        return made

    yield start
    for each in started:
        await each.stop()


@dataclass
class Process:
    """A child process whose output goes to a file."""

    arguments: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.child = await asyncio.create_subprocess_exec(
                *self.arguments, stdout=output, stderr=output, env=os.environ | self.environment
            )

    async def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal, if it still runs, and return the exit code."""
        assert self.child is not None
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(how)
        return await self.child.wait()

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture
async def process(socket_dir: Path) -> AsyncIterator[Callable[..., Process]]:
    """Make processes of `python -m rerank_gateway`, not started yet, each with a log of its own."""
    made: list[Process] = []

    def make(*arguments: str) -> Process:
        log = socket_dir / f"{arguments[0]}-{len(made)}.log"
        made.append(Process([sys.executable, "-m", "rerank_gateway", *arguments], log))
        return made[-1]

    yield make
    for each in made:
        if each.child is not None:
            await each.end()


@dataclass
class AgentProcess(Process):
    """The agent as its own process, following a state file."""

    state: Path = Path()

    def publish(self, *models: ServedModel) -> None:
        state_file.write(self.state, View(models))


@pytest.fixture
async def agent_process(socket_dir: Path) -> AsyncIterator[AgentProcess]:
    """The agent's process, not started yet."""
    state = socket_dir / "state.json"
    command = [sys.executable, "-m", "rerank_gateway", "agent"]
    options = ["--state-file", str(state), "--socket-dir", str(socket_dir)]
    made = AgentProcess([*command, *options], socket_dir / "agent.log", state=state)
    yield made
    if made.child is not None:
        await made.end()


class Agent:
    """The agent in this process, following a state file: it starts in no time."""

    def __init__(self, socket_dir: Path) -> None:
        self._socket_dir = socket_dir
        self._state = socket_dir / "state.json"
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def publish(self, *models: ServedModel) -> None:
        state_file.write(self._state, View(models))

    async def start(self) -> None:
        source, sockets = StateFileSource(self._state), Sockets.inside(self._socket_dir)
        self._running = asyncio.create_task(run(source, sockets, self._stop))

    async def end(self) -> None:
        self._stop.set()
        if self._running is not None:
            await self._running


@pytest.fixture
async def agent(socket_dir: Path) -> AsyncIterator[Agent]:
    """The agent, not started yet."""
    made = Agent(socket_dir)
    yield made
    await made.end()


@dataclass
class Envoy(Process):
    """A real Envoy that takes its cluster names from the header `x-cluster`."""

    admin: Path = Path()
    url: str = ""

    async def start(self) -> None:
        await super().start()
        self.url = await until(self._listening, f"Envoy to listen; it said: {self.said()}")

    async def _listening(self) -> str | None:
        try:
            if (await self.ask("/ready")).status_code != 200:
                return None
            listeners = (await self.ask("/listeners?format=json")).json()["listener_statuses"]
        except (httpx.TransportError, KeyError):
            return None
        address = listeners[0]["local_address"]["socket_address"]
        return f"http://{address['address']}:{address['port_value']}"

    async def ask(self, path: str) -> httpx.Response:
        """Ask Envoy's administration."""
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=False, uds=str(self.admin)), timeout=PATIENCE
        ) as client:
            return await client.get(f"http://envoy{path}")

    async def stat(self, name: str) -> int:
        text = (await self.ask(f"/stats?filter=^{name}$")).text
        return int(text.rpartition(": ")[2] or 0)

    async def get(self, model: str, path: str = "/") -> httpx.Response:
        async with httpx.AsyncClient(verify=False) as client:
            return await client.get(self.url + path, headers={"x-cluster": f"m/{model}"}, timeout=PATIENCE)

    async def answers(self, model: str, who: str) -> None:
        """Wait until requests for the model are answered by the replica of that name."""
        headers = {"x-cluster": f"m/{model}"}
        async with httpx.AsyncClient(verify=False, headers=headers, timeout=PATIENCE) as client:

            async def answered() -> bool:
                response = await client.get(self.url)
                return (response.status_code, response.text) == (200, who)

            await until(answered, f"{who} to answer for {model}")

    async def lacks(self, model: str) -> None:
        """Wait until the model is unknown."""

        async def unknown() -> bool:
            return (await self.get(model)).status_code == 404

        await until(unknown, f"{model} to be gone")


@pytest.fixture
async def envoy(socket_dir: Path) -> AsyncIterator[Envoy]:
    """Envoy, not started yet. It waits for the agent before it listens."""
    config = socket_dir / "envoy.json"
    config.write_text(json.dumps(_bootstrap(socket_dir)))
    command = [str(envoy_binary.find()), "--config-path", str(config), "--disable-hot-restart"]
    options = ["--concurrency", "1", "--log-level", "warning"]
    made = Envoy([*command, *options], socket_dir / "envoy.log", admin=socket_dir / "admin.sock")
    yield made
    if made.child is not None:
        await made.end()


@pytest.fixture
def product_envoy(envoy: Envoy, socket_dir: Path) -> Callable[..., Envoy]:
    """Return a function that gives that Envoy the product's bootstrap, on a port that the system picks."""

    def configure(**settings: Any) -> Envoy:
        chosen = BootstrapSettings("127.0.0.1", 1, socket_dir, **settings)
        config = bootstrap(chosen)
        config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = 0
        file = socket_dir / "gateway.json"
        file.write_text(json.dumps(config))
        envoy.arguments = [str(envoy_binary.find()), *arguments(chosen, file), "--log-level", "warning"]
        return envoy

    return configure


@dataclass
class Load:
    """What four clients saw while they asked without a pause."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)

    async def goes_on(self) -> None:
        """Wait until so many more answers are there that they cannot have been under way before."""
        before = self.answers

        async def more() -> bool:
            return self.answers >= before + 20

        await until(more, "20 more answers")


@pytest.fixture
def load() -> Callable[[Envoy, str], contextlib.AbstractAsyncContextManager[Load]]:
    """Run four clients on one model for as long as the context lasts."""

    @contextlib.asynccontextmanager
    async def running(envoy: Envoy, model: str) -> AsyncIterator[Load]:
        load, over = Load(), asyncio.Event()

        async def client() -> None:
            headers = {"x-cluster": f"m/{model}"}
            async with httpx.AsyncClient(verify=False, headers=headers, timeout=PATIENCE) as http:
                while not over.is_set():
                    try:
                        response = await http.get(envoy.url)
                    except httpx.TransportError as error:
                        load.failures.append(repr(error))
                    else:
                        load.answers += 1
                        if response.status_code != 200:
                            load.failures.append(f"{response.status_code} {response.text}")
                    await asyncio.sleep(0.002)  # leaves the processor to Envoy and the agent

        async with asyncio.TaskGroup() as clients:
            for _ in range(4):
                clients.create_task(client())
            try:
                yield load
            finally:
                over.set()
        print(f"{load.answers} answered, {len(load.failures)} failed")

    return running


def _bootstrap(socket_dir: Path) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions"
    route = {
        "match": {"prefix": "/"},
        "route": {
            "cluster_header": "x-cluster",
            "cluster_not_found_response_code": "NOT_FOUND",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
                "retry_host_predicate": [
                    {
                        "name": "previous",
                        "typed_config": {
                            "@type": f"{types}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 5,
            },
        },
    }
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}}
        ],
    }
    backoff = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.2s"}}
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "ads", "retry_policy": backoff}}],
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(socket_dir / "admin.sock")}}},
        "dynamic_resources": {
            "ads_config": ads,
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "ads",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {
                        "cluster_name": "ads",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {"pipe": {"path": str(socket_dir / "ads.sock")}}
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                }
            ],
            "listeners": [
                {
                    "name": "in",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
        },
    }

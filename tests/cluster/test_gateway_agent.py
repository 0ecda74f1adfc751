"""Agent and Envoy before a real API server: from an object to an answer, and while the server is away."""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.cluster.apiserver import ApiServer
from tests.cluster.apiserver_objects import (
    AGENT,
    AGENT_RULES,
    SLICES,
    add,
    allow,
    clear,
    endpoint_slice,
    remove,
)
from tests.support.ports import free_port

pytestmark = pytest.mark.anyio

BODY = {"query": "q", "documents": ["d"]}
PATIENCE_S = 600.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the custom resources and the agent's user."""
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    server.tokens |= {AGENT: "agents"}
    try:
        server.start()
        server.install()
        allow(server, "agents", AGENT_RULES)
        yield server
    finally:
        server.end()


@pytest.fixture
def server(api_server: ApiServer) -> ApiServer:
    """The API server, running, without any model or slice."""
    api_server.start()
    clear(api_server)
    return api_server


@pytest.fixture
async def replica() -> AsyncIterator[tuple[str, int]]:
    """The address and port of a server that answers everything with `ranked`.

    EndpointSlices may not hold loopback addresses, so it listens on another of this machine's.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nranked")
                await writer.drain()
        writer.close()

    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback's, which an EndpointSlice cannot hold")
    listening = await asyncio.start_server(answer, address, 0)
    yield address, listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


def own_address() -> str | None:
    """Return an address of this machine that others could reach it by; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


@dataclass
class Gateway:
    """Both processes of one gateway."""

    kubeconfig: Path
    directory: Path
    port: int = field(default_factory=free_port)
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Start `agent` or `envoy`."""
        options = {
            "agent": ("--kubernetes", "--kubeconfig", str(self.kubeconfig)),
            "envoy": ("--listen", f"127.0.0.1:{self.port}", "--concurrency", "1"),
        }[name]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rerank_gateway", name, "--socket-dir", str(self.directory)),
                *options,
                stdout=log,
                stderr=log,
            )

    async def kill(self, name: str) -> None:
        """End it without a word."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def waits(self) -> bool:
        """Say whether Envoy runs, and the agent has asked an API server in vain."""
        logged = self.directory / "agent.log"
        asked = logged.exists() and "cannot follow" in logged.read_text(encoding="utf-8")
        return asked and (self.directory / "admin.sock").exists()

    async def rerank(self, model: str | None, host: str = "gateway.test") -> tuple[int, str]:
        """Ask for a ranking; return the status, and the body or the error's code. 0 where nobody answers."""
        body = BODY if model is None else BODY | {"model": model}
        return await self._ask("POST", "/v1/rerank", json=body, headers={"host": host})

    async def listed(self) -> tuple[int, str]:
        return await self._ask("GET", "/v1/models")

    async def _ask(self, method: str, path: str, **more: object) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(verify=False, base_url=url, timeout=PATIENCE_S) as client:
            try:
                answer = await client.request(method, path, **more)
            except httpx.ConnectError:
                return 0, "nobody answers"
        if answer.is_success:
            return answer.status_code, answer.text
        return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
async def gateway(server: ApiServer) -> AsyncIterator[Gateway]:
    """A gateway that follows the API server; nothing of it runs yet."""
    with tempfile.TemporaryDirectory(prefix="gw-") as directory:
        made = Gateway(server.kubeconfig(AGENT), Path(directory))
        yield made
        for name in tuple(made.running):
            await made.kill(name)


async def until(condition: Callable[[], Awaitable[object]], wanted: object) -> float:
    """Wait until the condition gives what is wanted; return for how many seconds."""
    began = time.monotonic()
    while (found := await condition()) != wanted:
        assert time.monotonic() < began + PATIENCE_S, f"waited {PATIENCE_S:g} s for {wanted}, found {found}"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_an_object_becomes_an_answer_and_one_that_is_gone_none(server, gateway, replica):
    address, port = replica
    await gateway.start("agent")
    await gateway.start("envoy")
    await until(gateway.listed, (200, '{"object":"list","data":[]}'))

    names, host = ["BAAI/bge", "bge"], {"host": "bge.example.com"}
    add(server, "bge", address, port=port, names=names, ingress=host)
    took = await until(lambda: gateway.rerank("BAAI/bge"), (200, "ranked"))
    print(f"\na new model answers {took * 1000:.0f} ms after it was created")
    await until(lambda: gateway.rerank("bge"), (200, "ranked"))
    await until(lambda: gateway.rerank(None, "bge.example.com:80"), (200, "ranked"))
    assert await gateway.rerank(None) == (400, "missing_model")
    assert await gateway.rerank("other") == (404, "model_not_found")

    slices = f"{SLICES.format('rag')}/bge-1"
    server.ask("PUT", slices, endpoint_slice("bge", port=port)).raise_for_status()
    await until(lambda: gateway.rerank("bge"), (503, "model_not_ready"))
    await until(lambda: gateway.rerank(None, "bge.example.com"), (503, "model_not_ready"))
    server.ask("PUT", slices, endpoint_slice("bge", address, port=port)).raise_for_status()
    await until(lambda: gateway.rerank("bge"), (200, "ranked"))

    remove(server, "bge")
    await until(lambda: gateway.rerank("bge"), (404, "model_not_found"))
    await until(lambda: gateway.rerank(None, "bge.example.com"), (400, "missing_model"))


async def test_requests_go_on_while_the_api_server_is_away_even_if_the_agent_dies_meanwhile(
    server, gateway, replica
):
    address, port = replica
    add(server, "bge", address, port=port)
    await gateway.start("agent")
    await gateway.start("envoy")
    await until(lambda: gateway.rerank("bge"), (200, "ranked"))

    answers = []
    over = asyncio.Event()

    async def client() -> None:
        while not over.is_set():
            answers.append(await gateway.rerank("bge"))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as clients:
        clients.create_task(client())
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        await asyncio.sleep(1)
        await gateway.kill("agent")
        await gateway.start("agent")
        await until(gateway.listed, (503, "gateway_starting"))
        await asyncio.sleep(3)
        assert await gateway.listed() == (503, "gateway_starting")
        await asyncio.to_thread(server.start)
        add(server, "new", address, port=port)
        took = await until(lambda: gateway.rerank("new"), (200, "ranked"))
        print(f"\na model that came with the API server's return answers after {took:.1f} s")
        over.set()
    assert len(answers) > 20
    assert set(answers) == {(200, "ranked")}


async def test_a_gateway_that_starts_without_an_api_server_takes_no_request_until_it_knows_the_models(
    server, gateway, replica
):
    address, port = replica
    add(server, "bge", address, port=port)
    await asyncio.to_thread(server.stop)
    await gateway.start("envoy")
    await gateway.start("agent")
    await until(gateway.waits, True)
    await asyncio.sleep(1)
    assert await gateway.rerank("bge") == (0, "nobody answers")
    await asyncio.to_thread(server.start)
    seen = []

    async def answered() -> tuple[int, str]:
        seen.append(await gateway.rerank("bge"))
        return seen[-1]

    await until(answered, (200, "ranked"))
    assert set(seen) <= {(0, "nobody answers"), (200, "ranked")}

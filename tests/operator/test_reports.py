"""What servers say of themselves, asked over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from rerank_api.status import ServerState
from rerank_operator import reports
from rerank_operator.observed import Container, Pod
from rerank_operator.reports import Reports

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> Answer:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + body)

    return answer


async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()  # until whoever asked has given up


async def for_ever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a byte now and then, which no pause between two of them would betray."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


LOADING = http(b'{"state": "loading", "message": "Loading content-1"}')
READY = http(b'{"state": "ready", "message": "Ready", "verification": null}')


class Server:
    """A server of a pod that answers whatever it is told to."""

    def __init__(self) -> None:
        self.answer: Answer = LOADING
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode())
            await self.answer(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(host: str, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Server, Reports]]:
    """Run a server where pods of that address have theirs, and somebody who asks it."""
    server = Server()
    listening = await asyncio.start_server(server.serve, host, 0)
    patch.setattr(reports, "PORT", listening.sockets[0].getsockname()[1])
    patch.setattr(reports, "ANSWER_S", 0.3)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            yield server, Reports(client)
    finally:
        listening.close()


def pod(uid: str = "a", *, address: str | None = "127.0.0.1", **fields: Any) -> Pod:
    return Pod(**{"name": uid, "uid": uid, "current": True, "phase": "Running", "address": address, **fields})


def told(by: Reports, uid: str = "a") -> ServerState | None:
    report = by.known([uid]).get(uid)
    return None if report is None else report.state


def test_a_server_is_asked_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (server, asking):
            await asking.refresh([pod()])
            assert server.asked == ["GET /status HTTP/1.1"]
            assert told(asking) is ServerState.LOADING
            assert asking.known(["a"])["a"].message == "Loading content-1"

    asyncio.run(story())


def test_an_ipv6_address_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")

    async def story() -> None:
        async with serving("::1", monkeypatch) as (_, asking):
            await asking.refresh([pod(address="::1")])
            assert told(asking) is ServerState.LOADING

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(b"{}"), id="JSON of another shape"),
        pytest.param(http(b'{"state": "dancing", "message": ""}'), id="a state that does not exist"),
        pytest.param(http(b"<html>"), id="no JSON"),
        pytest.param(http(b"\xff\xfe{"), id="no text"),
        pytest.param(http(b""), id="nothing"),
        pytest.param(http(b'{"state": "ready", "message": ""}', "500 Oh No"), id="an error"),
        pytest.param(http(b"", "302 Found\r\nlocation: http://127.0.0.1:9/"), id="sent elsewhere"),
        pytest.param(http(b"{", length=100), id="half of an answer"),
        pytest.param(never, id="silence"),
        pytest.param(for_ever, id="an answer without end"),
        pytest.param(hang_up, id="a connection that breaks"),
    ],
)
def test_an_answer_that_is_none_changes_nothing_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (server, asking), asyncio.timeout(10):
            server.answer = answer
            await asking.refresh([pod()])
            assert told(asking) is None
            server.answer = LOADING
            await asking.refresh([pod()])
            server.answer = answer
            await asking.refresh([pod()])
            assert told(asking) is ServerState.LOADING

    asyncio.run(story())


def test_a_pod_that_nobody_reaches_changes_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (_, asking):
            await asking.refresh([pod("gone", address="127.0.0.77"), pod("a")])
            assert told(asking) is ServerState.LOADING
            assert told(asking, "gone") is None

    asyncio.run(story())


@pytest.mark.parametrize(
    ("seen", "answer", "asked"),
    [
        pytest.param(pod(), READY, 2, id="until its pod is ready"),
        pytest.param(pod(ready=True), LOADING, 2, id="until it says that it is ready"),
        pytest.param(pod(ready=True), READY, 1, id="no more once both say so"),
        pytest.param(pod(address=None), READY, 0, id="not without an address"),
        pytest.param(pod(phase="Pending"), READY, 0, id="not before it runs"),
        pytest.param(
            pod(container=Container(waiting="CrashLoopBackOff")), READY, 0, id="not while its container waits"
        ),
    ],
)
def test_a_server_is_asked_while_it_can_tell_something_new(
    monkeypatch: pytest.MonkeyPatch, seen: Pod, answer: Answer, asked: int
) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (server, asking):
            server.answer = answer
            await asking.refresh([seen])
            await asking.refresh([seen])
            assert len(server.asked) == asked

    asyncio.run(story())


def test_a_container_that_starts_again_has_a_story_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (_, asking):
            await asking.refresh([pod()])
            await asking.refresh([pod(container=Container(waiting="CrashLoopBackOff"))])
            assert told(asking) is None

    asyncio.run(story())


def test_what_pods_said_that_exist_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving("127.0.0.1", monkeypatch) as (_, asking):
            await asking.refresh([pod("a"), pod("b")])
            asking.forget_others(["b", "c"])
            assert told(asking, "a") is None
            assert told(asking, "b") is ServerState.LOADING

    asyncio.run(story())

"""What servers say of themselves, asked over real HTTP, with pauses that take no time."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from rerank_api.status import ServerState, ServerStatus
from rerank_operator import reports
from rerank_operator.keys import Key
from rerank_operator.observed import Container, Pod
from rerank_operator.reports import FORGOTTEN_AFTER, LONGEST_ANSWER, Reports, pause_after
from tests.operator.given import KEY

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


LOADING_BODY = b'{"state": "loading", "message": "Loading content-1"}'
LOADING = http(LOADING_BODY)
READY = http(b'{"state": "ready", "message": "Ready", "verification": null}')
OTHER = Key("search", "other")
A_WHILE = 0.1
"""Seconds in which whoever is asked at all is asked many times."""


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


@dataclass
class Scene:
    """A server where pods of an address have theirs, and somebody who asks it."""

    server: Server
    asking: Reports
    news: list[Key]
    """Of which models there was something new, in order."""

    def told(self, of: Pod) -> ServerState | None:
        report = self.asking.known([of]).get(of.life)
        return None if report is None else report.state

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not happened():  # noqa: ASYNC110  # what happens here is told by nobody
                await asyncio.sleep(0.001)

    async def until_told(self, state: ServerState | None, of: Pod) -> None:
        await self.until(lambda: self.told(of) is state)

    async def until_asked(self, times: int) -> None:
        """Wait for more questions."""
        wanted = len(self.server.asked) + times
        await self.until(lambda: len(self.server.asked) >= wanted)

    async def is_asked(self) -> bool:
        """Say whether more than what was on its way already is asked within a while."""
        before = len(self.server.asked)
        await asyncio.sleep(A_WHILE)
        return len(self.server.asked) > before + 1


@asynccontextmanager
async def scene(patch: pytest.MonkeyPatch, host: str = "127.0.0.1") -> AsyncIterator[Scene]:
    """Set a scene in which nobody waits long."""
    server = Server()
    listening = await asyncio.start_server(server.serve, host, 0)
    patch.setattr(reports, "PORT", listening.sockets[0].getsockname()[1])
    patch.setattr(reports, "ANSWER_S", 60.0)
    patch.setattr(reports, "PAUSE_S", 0.001)
    patch.setattr(reports, "PAUSE_OF_A_FAILURE_S", 0.002)
    patch.setattr(reports, "LONGEST_PAUSE_S", 0.004)
    news: list[Key] = []
    async with httpx.AsyncClient(trust_env=False) as client:
        asking = Reports(client, news.append)
        try:
            yield Scene(server, asking, news)
        finally:
            asking.stop()
            listening.close()


def pod(uid: str = "a", *, address: str | None = "127.0.0.1", restarts: int = 0, **fields: Any) -> Pod:
    given = {"name": uid, "uid": uid, "current": True, "phase": "Running", "address": address}
    return Pod(**{**given, "container": Container(restarts=restarts), **fields})


A = pod()
FAILS = ServerStatus(state=ServerState.FAILED, message="x", failure="It fails.")


@pytest.mark.parametrize(
    ("report", "silent", "pause"),
    [
        pytest.param(ServerStatus(state=ServerState.LOADING, message="x"), 0, 1.0, id="one that goes on"),
        pytest.param(FAILS, 0, 5.0, id="one that fails"),
        pytest.param(None, 1, 1.0, id="one that is silent, soon after the first time"),
        pytest.param(None, 2, 2.0, id="then twice as long"),
        pytest.param(None, 6, 32.0, id="and so on"),
        pytest.param(None, 7, 60.0, id="up to a minute"),
        pytest.param(None, 10_000, 60.0, id="for ever"),
    ],
)
def test_a_server_is_asked_again_the_later_the_less_it_tells(
    report: ServerStatus | None, silent: int, pause: float
) -> None:
    assert pause_after(report, silent) == pause


def test_a_server_is_asked_how_far_it_is_and_its_model_told_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.asking.follow(KEY, [A])
            assert it.told(A) is None, "nobody waits for the answer"
            await it.until_told(ServerState.LOADING, A)
            assert it.asking.known([A])[A.life].message == "Loading content-1"
            await it.until_asked(3)
            assert set(it.server.asked) == {"GET /status HTTP/1.1"}
            assert it.news == [KEY], "the same again is no news"
            it.server.answer = READY
            await it.until_told(ServerState.READY, A)
            assert it.news == [KEY, KEY]

    asyncio.run(story())


def test_a_pod_that_is_followed_again_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.server.answer = never
            it.asking.follow(KEY, [A])
            await it.until(lambda: len(it.server.asked) == 1)
            for _ in range(5):
                it.asking.follow(KEY, [A])
                await asyncio.sleep(A_WHILE / 5)
            assert len(it.server.asked) == 1

    asyncio.run(story())


def test_a_silent_server_is_asked_at_once_when_its_pod_becomes_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            monkeypatch.setattr(reports, "PAUSE_S", 3600.0)
            monkeypatch.setattr(reports, "LONGEST_PAUSE_S", 3600.0)
            it.server.answer = hang_up
            it.asking.follow(KEY, [A])
            await it.until(lambda: len(it.server.asked) == 1)
            it.server.answer = READY
            it.asking.follow(KEY, [replace(A, ready=True)])
            await it.until_told(ServerState.READY, A)
            it.asking.follow(KEY, [replace(A, ready=True)])
            assert len(it.server.asked) == 2

    asyncio.run(story())


def test_an_ipv6_address_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")

    async def story() -> None:
        async with scene(monkeypatch, "::1") as it:
            it.asking.follow(KEY, [pod(address="::1")])
            await it.until_told(ServerState.LOADING, A)

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
        pytest.param(http(LOADING_BODY.ljust(LONGEST_ANSWER + 1)), id="a byte more than is read"),
        pytest.param(
            http(gzip.compress(LOADING_BODY), "200 OK\r\ncontent-encoding: gzip"),
            id="packed, so that nobody knows how much it is",
        ),
        pytest.param(never, id="silence"),
        pytest.param(for_ever, id="an answer without end"),
        pytest.param(hang_up, id="a connection that breaks"),
    ],
)
def test_an_answer_that_is_none_changes_nothing_until_it_is_one_of_many(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            monkeypatch.setattr(reports, "ANSWER_S", 0.2 if answer in {never, for_ever} else 60.0)
            it.server.answer = answer
            it.asking.follow(KEY, [A])
            await it.until_asked(FORGOTTEN_AFTER + 1)
            assert (it.told(A), it.news) == (None, [])
            it.server.answer = LOADING
            await it.until_told(ServerState.LOADING, A)
            it.server.answer = answer
            before = len(it.server.asked)
            await it.until_told(None, A)
            assert len(it.server.asked) - before >= FORGOTTEN_AFTER
            assert it.news == [KEY, KEY]

    asyncio.run(story())


def test_an_answer_of_the_greatest_length_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.server.answer = http(LOADING_BODY.ljust(LONGEST_ANSWER))
            it.asking.follow(KEY, [A])
            await it.until_told(ServerState.LOADING, A)

    asyncio.run(story())


def test_a_pod_that_does_not_answer_holds_no_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            silent = Server()
            silent.answer = never
            at_its_port = await asyncio.start_server(silent.serve, "127.0.0.2", reports.PORT)
            it.asking.follow(KEY, [pod("silent", address="127.0.0.2"), pod("gone", address="127.0.0.77"), A])
            await it.until_told(ServerState.LOADING, A)
            await it.until(lambda: len(silent.asked) == 1)
            at_its_port.close()

    asyncio.run(story())


def test_no_more_pods_are_asked_at_once_than_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "AT_ONCE", 2)

    async def story() -> None:
        async with scene(monkeypatch) as it:
            enough = asyncio.Event()

            async def at_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await enough.wait()
                await LOADING(reader, writer)

            it.server.answer = at_last
            pods = [pod(f"pod {number}") for number in range(5)]
            it.asking.follow(KEY, pods)
            await it.until(lambda: len(it.server.asked) == 2)
            await asyncio.sleep(A_WHILE)
            assert len(it.server.asked) == 2
            enough.set()
            await it.until(lambda: len(it.asking.known(pods)) == 5)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("seen", "answer", "says", "goes_on"),
    [
        pytest.param(pod(), READY, ServerState.READY, True, id="until its pod is ready"),
        pytest.param(
            pod(ready=True), LOADING, ServerState.LOADING, True, id="until it says that it is ready"
        ),
        pytest.param(pod(ready=True), READY, ServerState.READY, False, id="no more once both say so"),
        pytest.param(pod(address=None), READY, None, False, id="not without an address"),
        pytest.param(pod(phase="Pending"), READY, None, False, id="not before it runs"),
        pytest.param(
            pod(container=Container(waiting="CrashLoopBackOff")),
            READY,
            None,
            False,
            id="not while its container waits",
        ),
        pytest.param(
            pod(container=Container(is_over=True)), READY, None, False, id="not once its container has ended"
        ),
    ],
)
def test_a_server_is_asked_while_it_can_tell_something_new(
    monkeypatch: pytest.MonkeyPatch, seen: Pod, answer: Answer, says: ServerState | None, goes_on: bool
) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.server.answer = answer
            it.asking.follow(KEY, [seen])
            await it.until_told(says, seen)
            it.asking.follow(KEY, [seen])
            if goes_on:
                await it.until_asked(3)
            else:
                assert not await it.is_asked()
            assert bool(it.server.asked) is (says is not None)

    asyncio.run(story())


def test_a_server_that_is_started_again_unseen_has_a_story_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.server.answer = READY
            it.asking.follow(KEY, [A])
            await it.until_told(ServerState.READY, A)
            again = pod(restarts=1)
            assert it.told(again) is None
            it.server.answer = LOADING
            it.asking.follow(KEY, [again])
            await it.until_told(ServerState.LOADING, again)
            await it.until_asked(3)
            assert it.told(A) is ServerState.READY, "nobody asks the earlier run any more"

    asyncio.run(story())


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda asking: asking.follow(KEY, []), id="its model has it no more"),
        pytest.param(lambda asking: asking.forget_others(["b"]), id="it exists no more"),
        pytest.param(lambda asking: asking.stop(), id="this operator leads no more"),
    ],
)
def test_a_pod_is_asked_no_more_once(monkeypatch: pytest.MonkeyPatch, end: Callable[[Reports], None]) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.asking.follow(KEY, [A])
            await it.until_asked(2)
            end(it.asking)
            assert not await it.is_asked()
            it.asking.follow(KEY, [A])
            await it.until_asked(2)

    asyncio.run(story())


def test_pods_of_other_models_are_asked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            it.asking.follow(OTHER, [pod("b")])
            it.asking.follow(KEY, [A])
            it.asking.follow(KEY, [])
            await it.until_asked(5)

    asyncio.run(story())


def test_what_pods_said_that_exist_no_more_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with scene(monkeypatch) as it:
            b = pod("b")
            it.asking.follow(KEY, [A, b])
            await it.until(lambda: len(it.asking.known([A, b])) == 2)
            it.asking.forget_others(["b", "c"])
            assert (it.told(A), it.told(b)) == (None, ServerState.LOADING)

    asyncio.run(story())

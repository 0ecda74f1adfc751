"""Replicas that ask each other over HTTP: one that is away, one that talks nonsense, one that is itself."""

import asyncio
import contextlib
import logging
import socket

import httpx
import pytest
import uvicorn

from rerank_gateway import exchange, snapshot
from rerank_gateway.__main__ import main
from rerank_gateway.budgets import Kind
from rerank_gateway.exchange import FixedPeers, read, written
from rerank_gateway.meter import Meter
from rerank_gateway.metering import Use
from rerank_gateway.models import Consumer, Endpoint, View
from rerank_gateway.publication import Publication
from rerank_gateway.tallies import Report, Used
from tests.gateway.agent.conftest import PATIENCE

pytestmark = pytest.mark.anyio


def counting(limit=600):
    meter = Meter(Publication())
    meter.publish(snapshot.build(View(consumers=(Consumer("app", (), ("*",), None, limit),))))
    return meter


@contextlib.asynccontextmanager
async def answering(app, listener):
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Endpoint(*listener.getsockname())
    finally:
        server.should_exit = True
        await serving


@contextlib.asynccontextmanager
async def following(*endpoints, counter):
    task = asyncio.create_task(exchange.follow(FixedPeers(endpoints), counter))
    try:
        yield
    finally:
        assert not task.done(), task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_what_is_written_is_read():
    told = Report("x", 1.5, 7, True, {"app": Used(1, 2)}, {Kind.TOKENS: {"app": -3.5}})
    assert read(written(told)) == told


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"agent": NaN}'])
def test_what_is_no_report_is_refused(content):
    with pytest.raises(ValueError):
        read(content)


@pytest.mark.parametrize("revision", ["9" * 5_000, "²", "-1", "x"])
async def test_who_asks_from_nowhere_is_a_stranger(revision):
    meter = counting()
    app = httpx.ASGITransport(exchange.app(meter))
    async with httpx.AsyncClient(transport=app, base_url="http://peer") as client:
        agent = read((await client.get("/counts")).content).agent
        answer = await client.get("/counts", params={"agent": agent, "revision": revision})
    assert read(answer.content).whole


async def test_a_replica_that_is_away_or_talks_nonsense_is_told_once_and_heard_again(until, caplog):
    caplog.set_level(logging.INFO, "rerank_gateway.exchange")
    mine, other, nonsense = counting(), counting(), [True]
    app = exchange.app(other)

    async def moody(scope, receive, send):
        if nonsense:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
        else:
            await app(scope, receive, send)

    def said(words):
        return sum(words in record.getMessage() for record in caplog.records)

    async def about(words):
        return said(words)

    with socket.create_server(("127.0.0.1", 0)) as closed, socket.create_server(("127.0.0.1", 0)) as listener:
        away = Endpoint(*closed.getsockname())
        closed.close()
        async with (
            answering(moody, listener) as there,
            answering(exchange.app(mine), socket.create_server(("127.0.0.1", 0))) as itself,
            following(away, there, itself, counter=mine),
        ):
            await until(lambda: about(f":{away.port} does not say"), "the one that is away")
            await until(lambda: about(f":{there.port} does not say"), "the nonsense")
            nonsense.clear()
            await until(lambda: about(f":{there.port} says again"), "sense")
            other.take([Use("app", "m", 200, 1, 700)])

            async def owes():
                return mine.debts

            await until(owes, "what was used elsewhere to be owed here")
            async with httpx.AsyncClient(verify=False, trust_env=False, timeout=PATIENCE) as client:
                own = (await client.get(f"http://127.0.0.1:{itself.port}/counts")).json()
                assert own["used"] == {}, "what others have counted is not told on"
                gone = await client.get(f"http://127.0.0.1:{itself.port}/metrics")
                assert gone.status_code == 404
    assert said(f":{away.port} does not say") == said(f":{there.port} does not say") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--counts-listen", "127.0.0.1:9"], "--counts-listen goes with", id="nobody to ask"),
        pytest.param(["--peer", "127.0.0.1:9"], "--counts-listen goes with", id="not asked itself"),
        pytest.param(["--peers-of", "a/b"], "--peers-of goes with --kubernetes", id="no cluster"),
        pytest.param(["--peers-of", "a"], "'a' is not NAMESPACE/SERVICE", id="no namespace"),
        pytest.param(["--peer", "localhost:9"], "is not an IP address", id="a name"),
    ],
)
def test_arguments_that_make_no_sense_together_are_refused(tmp_path, capsys, arguments, words):
    with pytest.raises(SystemExit):
        main(["agent", "--state-file", str(tmp_path / "s"), "--socket-dir", str(tmp_path), *arguments])
    assert words in capsys.readouterr().err

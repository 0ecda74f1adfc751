"""Replicas of one gateway ask each other, over HTTP, what consumers have used: the edge around `tallies`.

Nobody is told anything unasked, and asked are only the addresses that the peers' source names: so nobody else
can charge a consumer. What is told are consumers' names and numbers.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import httpx
import orjson
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rerank_gateway.models import Endpoint
from rerank_gateway.tallies import Learned, Peer, Peers, Place, Report

COUNTS_PATH: Final = "/counts"

EVERY_S: Final = 0.25
"""How long a replica waits before it asks another one again."""

_LONGEST_REVISION: Final = 20
"""Digits; what is longer is nobody's, and is answered as a stranger is."""
_EACH_HAS_A_CONNECTION: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None)
_ANSWER_S: Final = 1.0
_REPORT = TypeAdapter(Report)

log = logging.getLogger(__name__)


class PeerSource(Protocol):
    """Tells where the replicas of this gateway are asked; this one may be among them."""

    def peers(self) -> AsyncGenerator[frozenset[Endpoint], None]:
        """Yield all of them, anew whenever they change; ends only by being closed or cancelled."""
        ...


class Counter(Protocol):
    """Counts what consumers use: the agent's meter."""

    def report(self, heard: Place | None) -> Report:
        """Say what was counted here."""
        ...

    def learn(self, learned: Learned) -> None:
        """Take over what was counted elsewhere."""
        ...

    def is_itself(self, report: Report) -> bool:
        """Say whether a report is its own."""
        ...


@dataclass(frozen=True)
class Exchange:
    """Where one agent is asked, and whom it asks."""

    listen: tuple[str, int]
    source: PeerSource


@dataclass(frozen=True)
class FixedPeers:
    """Replicas whose addresses are known from the start."""

    endpoints: tuple[Endpoint, ...]

    async def peers(self) -> AsyncGenerator[frozenset[Endpoint], None]:
        """Yield them, once."""
        yield frozenset(self.endpoints)
        await asyncio.Event().wait()


def app(counter: Counter) -> Starlette:
    """Return what other replicas ask: `GET /counts`, with `agent` and `revision` of what they have heard."""

    async def counts(request: Request) -> Response:
        agent, revision = (request.query_params.get(name, "") for name in ("agent", "revision"))
        is_number = revision.isascii() and revision.isdecimal() and len(revision) <= _LONGEST_REVISION
        heard = Place(agent, int(revision)) if agent and is_number else None
        return Response(written(counter.report(heard)), media_type="application/json")

    return Starlette(routes=[Route(COUNTS_PATH, counts)])


async def follow(source: PeerSource, counter: Counter, clock: Callable[[], float] = time.monotonic) -> None:
    """Ask every other replica again and again, until cancelled. `clock` gives seconds."""
    peers = Peers()
    asking: dict[Endpoint, asyncio.Task[None]] = {}
    # Proxies of the environment are for what is outside of the cluster.
    async with (
        httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False, limits=_EACH_HAS_A_CONNECTION) as client,
        asyncio.TaskGroup() as group,
        contextlib.aclosing(source.peers()) as told,
    ):
        async for endpoints in told:
            for gone in asking.keys() - endpoints:
                asking.pop(gone).cancel()
            peers.keep([_peer(endpoint) for endpoint in endpoints])
            for new in endpoints - asking.keys():
                asking[new] = group.create_task(_ask_on(client, _peer(new), peers, counter, clock))


async def _ask_on(
    client: httpx.AsyncClient, peer: Peer, peers: Peers, counter: Counter, clock: Callable[[], float]
) -> None:
    """Ask one replica until cancelled, or until it turns out to be this one."""
    silent = False
    while True:
        heard = peers.heard(peer, clock())
        query = {} if heard is None else {"agent": heard.agent, "revision": str(heard.revision)}
        try:
            answer = await client.get(f"http://{peer}{COUNTS_PATH}", params=query)
            report = read(answer.raise_for_status().content)
        except (httpx.HTTPError, ValueError) as error:
            if not silent:
                log.warning("%s does not say what consumers use; its part counts for itself: %r", peer, error)
            silent = True
        else:
            if counter.is_itself(report):
                return
            if silent:
                log.info("%s says again what consumers use", peer)
            silent = False
            counter.learn(peers.take(peer, report, clock()))
        await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.0))  # noqa: S311  # spreads load


def written(report: Report) -> bytes:
    """Write a report as JSON."""
    return orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS)


def read(content: bytes) -> Report:
    """Read a report. Raises ValueError."""
    return _REPORT.validate_python(orjson.loads(content))  # orjson takes no number beyond a double


def _peer(endpoint: Endpoint) -> Peer:
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return Peer(f"{host}:{endpoint.port}")

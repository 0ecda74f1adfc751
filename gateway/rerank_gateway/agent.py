"""The agent's life: follow the source, serve Envoy and the listing, end when told or when a part fails."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from rerank_gateway import exchange, garbage, listing, metrics, release, snapshot
from rerank_gateway.access_logs import AccessLogs
from rerank_gateway.activator import KEEP_ALIVE_S, Activator
from rerank_gateway.ads import AdsServer
from rerank_gateway.errors import SourceEndedError
from rerank_gateway.exchange import Exchange
from rerank_gateway.expiry import Expiry
from rerank_gateway.hold import DEFAULT_BOUNDS, Bounds
from rerank_gateway.meter import Meter
from rerank_gateway.publication import Publication
from rerank_gateway.sockets import ADMIN, ADS, HOLD, HTTP, listening, listening_on
from rerank_gateway.source import Source

_PEER_CONNECTIONS = 2_048
"""Of other replicas, which are at most a thousand; more are answered 503."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sockets:
    """Where one agent listens."""

    ads: Path
    http: Path
    hold: Path
    """The activator."""

    @property
    def admin(self) -> Path:
        """Where Envoy itself listens, in the same directory."""
        return self.hold.with_name(ADMIN)

    @classmethod
    def inside(cls, directory: Path) -> "Sockets":
        """Name the sockets as Envoy's bootstrap expects them; the directory is made where there is none."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(ads=directory / ADS, http=directory / HTTP, hold=directory / HOLD)


async def run(
    source: Source,
    sockets: Sockets,
    stop: asyncio.Event,
    bounds: Bounds = DEFAULT_BOUNDS,
    others: Exchange | None = None,
) -> None:
    """Serve until `stop` is set. `bounds` is how much may wait for each model at zero.

    With `others`, what consumers use is counted together with other replicas of this gateway.
    Raises SocketError if a socket cannot be listened on, and an ExceptionGroup when a part fails: an agent
    that lost one would go on with a stale world.
    """
    publication = Publication()
    meter = Meter(publication)
    ads = AdsServer(publication)
    access_logs = AccessLogs(meter.take)
    activator = Activator(publication, ads.is_taken, release.key(sockets.hold.parent), bounds)
    expiry = Expiry()
    pages = (metrics.route(meter.ledger, expiry), listing.demand_route(activator.demand))
    http = _HttpServer(_config(listing.app(publication, ads.is_routed, *pages)))
    hold = _HttpServer(_config(activator, timeout_keep_alive=KEEP_ALIVE_S))
    with contextlib.ExitStack() as stack:
        http_socket = stack.enter_context(listening(sockets.http))
        hold_socket = stack.enter_context(listening(sockets.hold))
        servers = {http: http_socket, hold: hold_socket}
        if others is not None:
            counts = _HttpServer(_config(exchange.app(meter), limit_concurrency=_PEER_CONNECTIONS))
            servers[counts] = stack.enter_context(listening_on(others.listen))
        try:
            await ads.start(sockets.ads, access_logs.service())
            log.info("serving on %s, %s and %s", sockets.ads, sockets.http, sockets.hold)
            async with asyncio.TaskGroup() as parts:
                following = [
                    parts.create_task(follow(source, meter.publish, sockets.hold)),
                    parts.create_task(activator.follow()),
                    parts.create_task(meter.forgive()),
                    parts.create_task(expiry.follow(sockets.admin)),
                ]
                if others is not None:
                    following.append(parts.create_task(exchange.follow(others.source, meter)))
                serving = [
                    parts.create_task(server.serve(sockets=[socket])) for server, socket in servers.items()
                ]
                await stop.wait()
                activator.end()
                for task in following:
                    task.cancel()
                for server in servers:
                    server.should_exit = True
                await asyncio.gather(*serving)
        finally:
            access_logs.end()
            await ads.stop()
            sockets.ads.unlink(missing_ok=True)


def _config(
    app: ASGIApp, timeout_keep_alive: int = 5, limit_concurrency: int | None = None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",  # the same wherever it runs
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=timeout_keep_alive,
        limit_concurrency=limit_concurrency,
    )


async def follow(
    source: Source, publish: Callable[[snapshot.Snapshot], None], activator: Path | None = None
) -> None:
    """Publish each view that the source tells. Raises SourceEndedError if it stops telling."""
    current: snapshot.Snapshot | None = None
    async with contextlib.aclosing(source.views()) as views:
        async for view in views:
            following = snapshot.build(view, current, activator)
            _tell(current, following)
            publish(following)
            if current is None:
                garbage.spare_what_stays()
            current = following
    raise SourceEndedError("the source of models ended")


def _tell(old: snapshot.Snapshot | None, new: snapshot.Snapshot) -> None:
    """Log what an operator would want to find later."""
    before = old.models if old is not None else {}
    if before.keys() != new.models.keys():
        added, removed = len(new.models.keys() - before.keys()), len(before.keys() - new.models.keys())
        log.info("serving %d names: %d added, %d removed", len(new.models), added, removed)
    known = frozenset() if old is None else frozenset(old.contests)
    for contest in new.contests:
        if contest not in known:
            log.warning(
                "the %s %r is claimed by %s as well: %s, %s, keeps it",
                contest.what,
                contest.name,
                ", ".join(contest.losers),
                contest.winner,
                "the first by name" if contest.what == "key" else "the oldest",
            )


class _HttpServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the process it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

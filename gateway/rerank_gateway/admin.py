"""What is asked of a running Envoy on the unix socket of its administration: whether it lives, how long its
certificate counts, and to drain.

The paths: https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/admin
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import httpx

from rerank_gateway.listener import HTTP_STATS

QUIET_S = 2.0
"""Seconds without a request after which nobody sends any more."""

_ASK_S = 0.1
_COUNTS = {"filter": rf"^http\.{HTTP_STATS}\.downstream_rq_(active|completed)$"}


class Quiet:
    """For how long no request was under way or finished. Envoy counts no health check among the latter.

    Of the time between two counts, `SEEN_S` count at the most: where the whole machine paused, who sends has
    paused too, and is not done.
    """

    SEEN_S: Final = 0.5

    def __init__(self) -> None:
        self._quiet_s = 0.0
        self._at: float | None = None
        self._completed = 0

    def take(self, counts: Mapping[str, int], now: float) -> float:
        """Return the seconds of quiet, having counted `active` and `completed` at `now`, in seconds."""
        if self._at is None or counts["active"] > 0 or counts["completed"] != self._completed:
            self._quiet_s = 0.0
        else:
            self._quiet_s += min(now - self._at, self.SEEN_S)
        self._at, self._completed = now, counts["completed"]
        return self._quiet_s


async def lives(socket: Path) -> bool:
    """Say whether a process listens on the socket; a killed one leaves its file behind."""
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def certificate_ends(socket: Path) -> float | None:
    """Return when the certificate that callers see ends, in seconds since 1970: the first of several.

    None where no TLS is spoken, or where Envoy does not answer.
    """
    transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)  # reading CAs holds the loop up
    try:
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            told = (await client.get("http://envoy/certs")).raise_for_status().json()
        ends = [one["expiration_time"] for each in told["certificates"] for one in each["cert_chain"]]
        return min((datetime.fromisoformat(end).timestamp() for end in ends), default=None)
    except (httpx.HTTPError, ValueError, KeyError):
        return None


async def drain(socket: Path, limit_s: float, *, notice_s: float = 0.0) -> bool:
    """Have Envoy finish what it has begun; say whether it did within `limit_s`. One that is gone has.

    The order loses no request. `/healthcheck/fail` has `/healthz` answer 503 and closes each kept-alive
    connection with its next answer, so that no caller sends into a connection that is closing. For
    `notice_s` seconds, and until nobody has sent anything for a while, requests are still taken: load
    balancers hear late that they should go elsewhere. Only then is the listening socket closed, and what is
    still under way is waited for. Nothing connects any more when Envoy is ended after that.

    Without `notice_s` the socket is closed at once: where nobody stands in front, waiting helps nobody.
    """
    try:
        async with asyncio.timeout(limit_s), _asking(socket) as ask:
            await ask("/healthcheck/fail")
            if notice_s > 0:
                await asyncio.sleep(notice_s)
                await _until_quiet(ask)
            await ask("/drain_listeners")
            await _until_idle(ask)
    except httpx.ConnectError:
        return True
    except TimeoutError:
        return False
    return True


class _Ask:
    """Asks until there is an answer: only a socket that nobody listens on ends it, with `ConnectError`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, path: str, query: dict[str, str] | None = None) -> str:
        while True:
            try:
                return (await self._client.post(path, params=query)).text
            except httpx.ConnectError:
                raise
            except httpx.TransportError:  # too slow, or it went away just now: then connecting fails
                await asyncio.sleep(_ASK_S)


@contextlib.asynccontextmanager
async def _asking(socket: Path) -> AsyncIterator[_Ask]:
    transport = httpx.AsyncHTTPTransport(uds=str(socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=5.0) as client:
        yield _Ask(client)


async def _until_quiet(ask: _Ask) -> None:
    """Wait until nobody has sent anything for `QUIET_S`."""
    quiet = Quiet()
    while True:
        counts = await _counts(ask)
        if quiet.take(counts, asyncio.get_running_loop().time()) >= QUIET_S:
            return
        await asyncio.sleep(_ASK_S)


async def _until_idle(ask: _Ask) -> None:
    while True:
        if (await _counts(ask))["active"] == 0:
            return
        await asyncio.sleep(_ASK_S)


async def _counts(ask: _Ask) -> dict[str, int]:
    """Return how many requests of callers are `active` and how many were `completed`."""
    counts = {"active": 0, "completed": 0}
    for line in (await ask("/stats", _COUNTS)).splitlines():
        name, _, count = line.rpartition(": ")
        counts[name.rpartition("_")[2]] = int(count)
    return counts

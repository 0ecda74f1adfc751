"""The activator: where Envoy sends requests for models at zero. It holds them until a replica can answer.

It takes a request's body, keeps nothing of it, and answers once a replica is there: with a header on which
Envoy sends its own copy of the request to that replica. Who waits and for how long is decided in `hold`.
Why: docs/decisions/0019-from-zero.md.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from rerank_api.error_shapes import Shaped, shape_at
from rerank_api.errors import ErrorCode
from rerank_api.faces import MODEL_HEADER, MODELS_PATH
from rerank_gateway.bounds import RETRY_AFTER_S
from rerank_gateway.clusters import host_cluster, host_of, name_cluster
from rerank_gateway.hold import (
    Bounds,
    Held,
    Hold,
    Refusal,
    Release,
    Standing,
    Verdict,
    Wait,
    decide,
    standing,
)
from rerank_gateway.publication import Publication
from rerank_gateway.release import ATTEMPT_HEADER, RELEASE_HEADER, RELEASE_STATUS

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S: Final = 75
"""Seconds that an idle connection is kept for: longer than Envoy keeps it, which so sends no request into one
that closes."""


@dataclass(frozen=True)
class _Asked:
    """What counts of a request."""

    path: str
    name: str
    """What it asks for: the public name, else the host."""
    cluster: str
    attempt: int
    size: int
    """Bytes of its body, as far as they are announced."""


class Activator:
    """An ASGI application; `follow` runs beside it.

    `is_taken` says of a cluster whether every Envoy has acknowledged the endpoints that it has now.
    """

    def __init__(
        self,
        publication: Publication,
        is_taken: Callable[[str], bool],
        release_key: str,
        bounds: Bounds,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hold = Hold(bounds)
        self._publication = publication
        self._is_taken = is_taken
        self._release_key = release_key
        self._clock = clock
        self._ending = False
        self._parked: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    async def follow(self) -> None:
        """Look at who waits whenever something new is published or acknowledged."""
        with self._publication.listening() as news:
            while True:
                await news.wait()
                news.clear()
                self._look()

    def end(self) -> None:
        """Refuse everybody who waits, and who comes from now on."""
        self._ending = True
        self._look()

    def demand(self) -> dict[str, object]:
        """Return how many wait for which model, and how long, ready for JSON."""
        waiting = self.hold.demand(self._clock())
        return {
            "models": {
                model: {"held": each.held, "oldest_s": round(each.oldest_s, 3)}
                for model, each in waiting.items()
            }
        }

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Hold one request, and answer it unless its caller hangs up."""
        if scope["type"] != "http":
            return
        asked = _asked(scope)
        verdict = await self._decided(asked, receive)
        if verdict is not None:
            await self._answer(asked, verdict, send)

    async def _decided(self, asked: _Asked, receive: "Receive") -> Release | Refusal | None:
        """Return what became of a request; None where its caller has hung up."""
        snapshot = self._publication.snapshot
        model = None if snapshot is None else snapshot.served_by(asked.cluster)
        held = None
        if model is not None:
            held = self.hold.enter(model.wakes, asked.size, self._clock(), asked.attempt)
        try:
            # To its end even where it is refused: an answer in its middle may be lost together with the rest.
            fits = await self._taken_in(held, receive)
            if fits is None:
                return None
            if held is not None and fits:
                return await self._parked_until_decided(
                    asked.cluster, lambda: self._verdict(held, asked.cluster), receive
                )
        finally:
            if held is not None:
                self.hold.leave(held)
        if snapshot is None:
            return Refusal.RESTARTING
        return Refusal.GONE if model is None else Refusal.FULL

    async def _taken_in(self, held: Held | None, receive: "Receive") -> bool | None:
        """Read a body and keep nothing of it; say whether it fits, None where the caller has hung up."""
        fits, size, more = True, 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            fits = fits and (held is None or self.hold.grow(held, size))
        return fits

    async def _parked_until_decided(
        self, cluster: str, verdict: Callable[[], Verdict], receive: "Receive"
    ) -> Release | Refusal | None:
        hung_up = asyncio.ensure_future(receive())  # behind the body nothing else can come
        try:
            while isinstance(now := verdict(), Wait):
                woken = asyncio.get_running_loop().create_future()
                self._parked[cluster].add(woken)
                try:
                    timeout = max(0.0, now.until - self._clock())
                    await asyncio.wait({hung_up, woken}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._unpark(cluster, woken)
                if hung_up.done():
                    return None
            return now
        finally:
            hung_up.cancel()

    def _unpark(self, cluster: str, woken: "asyncio.Future[None]") -> None:
        woken.cancel()
        self._parked[cluster].discard(woken)
        if not self._parked[cluster]:
            del self._parked[cluster]

    def _look(self) -> None:
        """Wake who waits for a model that does not sleep any more: one look a model, not one a request."""
        for cluster, parked in self._parked.items():
            if self._ending or self._standing(cluster) is not Standing.ASLEEP:
                for woken in parked:
                    if not woken.done():
                        woken.set_result(None)

    def _verdict(self, held: Held, cluster: str) -> Verdict:
        return decide(held, self._standing(cluster), self._clock(), self.hold.bounds, ending=self._ending)

    def _standing(self, cluster: str) -> Standing:
        snapshot = self._publication.snapshot
        model = None if snapshot is None else snapshot.served_by(cluster)
        return standing(model, taken=model is not None and bool(model.endpoints) and self._is_taken(cluster))

    async def _answer(self, asked: _Asked, verdict: Release | Refusal, send: "Send") -> None:
        released = isinstance(verdict, Release)
        refusal = Refusal.NO_REPLICA if isinstance(verdict, Release) else verdict
        shaped = _shaped(asked, refusal, self.hold.bounds)
        body = orjson.dumps(shaped.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if refusal is not Refusal.GONE:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
        if released:
            headers.append((RELEASE_HEADER.encode(), self._release_key.encode()))
        status = RELEASE_STATUS if released else shaped.status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _asked(scope: "Scope") -> _Asked:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    named, host = headers.get(MODEL_HEADER), headers.get("host", "")
    return _Asked(
        path=scope["path"],
        name=host if named is None else named,
        cluster=host_cluster(host_of(host)) if named is None else name_cluster(named),
        attempt=int(headers.get(ATTEMPT_HEADER, "1")),
        size=int(headers.get("content-length", "0")),
    )


def _shaped(asked: _Asked, refusal: Refusal, bounds: Bounds) -> Shaped:
    model = f"The model `{asked.name}`"
    sentences = {
        Refusal.FULL: (
            f"{model} has no replica yet, and as many requests wait for it as may "
            f"({bounds.requests} requests, {bounds.bytes} bytes): try again in a moment."
        ),
        Refusal.LATE: f"{model} had no ready replica within {bounds.seconds:g} s: try again.",
        Refusal.GONE: f"There is no model `{asked.name}` here: GET {MODELS_PATH} lists the names.",
        Refusal.NO_REPLICA: f"{model} has no ready replica: try again in a moment.",
        Refusal.RESTARTING: f"{model} has no replica yet, and the gateway restarts: try again in a moment.",
    }
    code = ErrorCode.MODEL_NOT_FOUND if refusal is Refusal.GONE else ErrorCode.MODEL_NOT_READY
    param = "model" if refusal is Refusal.GONE else None
    return shape_at(asked.path)(code, sentences[refusal], param)

"""The HTTP side of a server: faces, probes, status, metrics. It answers from the first moment on."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol, TypeVar

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import MODEL_HEADER
from rerank_api.status import ServerState
from rerank_server.answers import add_error_answers, json_response
from rerank_server.body import read_json
from rerank_server.errors import ClosedError, InputError, ServerError
from rerank_server.faces import jina
from rerank_server.lifecycle import Lifecycle
from rerank_server.metrics import Metrics
from rerank_server.ranking import Ranking, RankRequest

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RETRY_AFTER_S = 2
LONGEST_ECHO = 253
"""Characters of a caller's text that an error repeats: as many as a public name may have."""
CLIENT_CLOSED_REQUEST = 499
"""nginx's number for a caller that hung up; it is only ever counted, nobody is left to receive it."""


class Face(Protocol):
    """One dialect: where it is served, and how it is read and written."""

    PATHS: tuple[str, ...]

    def read(self, body: object) -> RankRequest: ...
    def write(self, request: RankRequest, ranking: Ranking) -> dict[str, object]: ...


class ClientGoneError(Exception):
    """The caller hung up before its answer was there."""


def create_app(lifecycle: Lifecycle, metrics: Metrics) -> FastAPI:
    """Build the application around one model's lifecycle, which it starts and ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        bring_up = asyncio.create_task(lifecycle.run())
        yield
        bring_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await bring_up
        lifecycle.close()

    metrics.follow(lambda: lifecycle.state, lambda: lifecycle.queued_tokens)
    app = FastAPI(title="Rerank server", lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_answers(app)
    _add_operations(app, lifecycle, metrics)
    _add_face(app, lifecycle, metrics, "jina", jina)
    return app


def _add_operations(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics) -> None:
    @app.get("/livez", summary="200 while the process can answer at all")
    async def livez() -> Response:
        return Response("alive\n", media_type="text/plain")

    @app.get("/readyz", summary="200 when this server takes traffic")
    async def readyz() -> Response:
        ready = lifecycle.state is ServerState.READY
        return Response(f"{lifecycle.state.value}\n", 200 if ready else 503, media_type="text/plain")

    @app.get("/status", summary="How far this server is, in words and numbers")
    async def status() -> Response:
        return json_response(lifecycle.status().model_dump(mode="json", by_alias=True))

    @app.get("/metrics", summary="Prometheus metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_face(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics, name: str, face: Face) -> None:
    async def rerank(http: Request) -> Response:
        started = time.perf_counter()
        status = 500
        try:
            request = face.read(await read_json(http, lifecycle.settings.max_body_bytes))
            if routed_by := http.headers.get(MODEL_HEADER):
                request = dataclasses.replace(request, model=routed_by)
            ranking = await _unless_gone(http, rank(lifecycle, request))
            metrics.ranked(name, len(request.documents), ranking.tokens)
            response = json_response(face.write(request, ranking))
            status = response.status_code
        except ApiError as error:
            status = error.status
            raise
        except (ClientGoneError, ClientDisconnect):
            status = CLIENT_CLOSED_REQUEST
            return Response(status_code=status)
        finally:
            metrics.answered(name, status, time.perf_counter() - started)
        return response

    for path in face.PATHS:
        app.add_api_route(path, rerank, methods=["POST"], summary=f"Rank documents ({name})")


async def rank(lifecycle: Lifecycle, request: RankRequest) -> Ranking:
    """Score one request; raises `ApiError` where it cannot be."""
    names = lifecycle.manifest.public_names
    model = request.model or names[0]
    if model not in names:
        raise ApiError(
            ErrorCode.MODEL_NOT_FOUND,
            f"The model `{model[:LONGEST_ECHO]}` is not served here: this server answers to "
            f"{', '.join(names)}.",
            "model",
        )
    reranker = lifecycle.reranker
    if reranker is None:
        status = lifecycle.status()
        raise ApiError(
            ErrorCode.MODEL_NOT_READY,
            f"The model `{model}` is {status.state.value}: {status.message}",
            retry_after=RETRY_AFTER_S,
        )
    try:
        scores = await reranker.score(
            request.query,
            request.documents,
            truncate=request.truncate,
            max_document_tokens=request.max_document_tokens,
        )
    except InputError as error:
        raise ApiError(ErrorCode.INVALID_VALUE, str(error), error.param) from error
    except ClosedError as error:
        lifecycle.model_stopped()
        raise ApiError(ErrorCode.REPLICA_FAILED, str(error), retry_after=RETRY_AFTER_S) from error
    except ServerError as error:
        log.exception("a request failed")
        raise ApiError(ErrorCode.INTERNAL, str(error)) from error
    return Ranking(model, scores.values, scores.order, scores.tokens)


async def _unless_gone(http: Request, work: Awaitable[Result]) -> Result:
    """Await `work`, but cancel it as soon as the caller hangs up, so that its rows leave the queue."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(http))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass

"""Every face on its paths: read the body, rank, write the answer, count it."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from rerank_api.errors import ApiError
from rerank_api.faces import API_HEADER, DOCUMENTS_HEADER, MODEL_HEADER, TOKENS_HEADER
from rerank_server.answers import face_response, refusal_response
from rerank_server.body import Bodies, Held, read_json
from rerank_server.faces.dialects import BY_PATH, chosen_face, told_by_shape
from rerank_server.faces.interface import Asked
from rerank_server.lifecycle import Lifecycle
from rerank_server.metrics import Metrics
from rerank_server.ranking import Ranking
from rerank_server.serving import (
    Admitted,
    ClientGoneError,
    Work,
    admit,
    deadline_of,
    in_time,
    outcome,
    rank,
)

CLIENT_CLOSED_REQUEST = 499
"""nginx's number for a caller that hung up; it is only ever counted, nobody is left to receive it."""

QUERIES_AT_ONCE = 64
"""Of one request that is in: more would gain nothing, and be as many turns on the tokenizer's thread."""


def add_faces(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics) -> None:
    """Serve every face."""
    bodies = Bodies(lifecycle.settings.max_body_bytes)
    for path in BY_PATH:
        _add_path(app, lifecycle, metrics, bodies, path)


def _add_path(app: FastAPI, lifecycle: Lifecycle, metrics: Metrics, bodies: Bodies, path: str) -> None:
    async def rerank(http: Request) -> Response:
        started = time.perf_counter()
        http.state.face = BY_PATH[path]
        status = 500
        try:
            with bodies.hold() as held:
                response = await _answer(http, lifecycle, metrics, held, started)
            status = response.status_code
            return response
        finally:
            metrics.answered(http.state.face.name, status, time.perf_counter() - started)

    app.add_route(path, rerank, methods=["POST"], include_in_schema=False)


async def _answer(
    http: Request, lifecycle: Lifecycle, metrics: Metrics, held: Held, started: float
) -> Response:
    """Answer in the words of the face that is asked; `http.state.face` says which, as far as is known."""
    try:
        path, header = http.scope["path"], http.headers.get(API_HEADER)
        http.state.face = face = chosen_face(path, header)
        deadline = deadline_of(http, lifecycle.settings.request_timeout_s)
        body = await read_json(http, held, deadline)
        http.state.face = face = told_by_shape(path, header, face, body)
        asked = face.read(body)
        pairs = sum(len(request.documents) for request in asked.requests)
        work = Work()
        try:
            rankings = await in_time(
                http, _rank_all(lifecycle, asked, http.headers.get(MODEL_HEADER), work), deadline
            )
        except (ApiError, ClientGoneError) as error:
            metrics.ranked(face.name, outcome(error), pairs, work.tokens)
            raise
        metrics.ranked(face.name, "ok", pairs, work.tokens)
        answer = face_response(asked.write(rankings, time.perf_counter() - started))
        return _with_cost(answer, rankings, pairs)
    except ApiError as error:
        return refusal_response(http.state.face, error)
    except (ClientGoneError, ClientDisconnect):
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def _with_cost(response: Response, rankings: Sequence[Ranking], documents: int) -> Response:
    """Tell the gateway what an answer cost."""
    response.headers[TOKENS_HEADER] = str(sum(ranking.tokens for ranking in rankings))
    response.headers[DOCUMENTS_HEADER] = str(documents)
    return response


async def _rank_all(
    lifecycle: Lifecycle, asked: Asked, routed_by: str | None, work: Work
) -> Sequence[Ranking]:
    """Let a request in whole, then rank its queries, many at a time; the first that fails ends the others."""
    queries = asked.requests
    if routed_by:
        queries = tuple(dataclasses.replace(query, model=routed_by) for query in queries)
    turns = asyncio.Semaphore(QUERIES_AT_ONCE)

    async def in_turn(number: int, query: Admitted) -> Ranking:
        async with turns:
            return await _rank_one(lifecycle, asked, number, query)

    with admit(lifecycle, queries) as admitted:
        work.entry = admitted[0].share.entry
        if len(admitted) == 1:
            return [await _rank_one(lifecycle, asked, 0, admitted[0])]
        ranking = [asyncio.ensure_future(in_turn(number, query)) for number, query in enumerate(admitted)]
        try:
            return await asyncio.gather(*ranking)
        finally:
            for each in ranking:
                each.cancel()


async def _rank_one(lifecycle: Lifecycle, asked: Asked, number: int, query: Admitted) -> Ranking:
    """Rank one query; an error names the field as the caller wrote it."""
    try:
        return await rank(lifecycle, query)
    except ApiError as error:
        if error.param is None:
            raise
        blamed = asked.blame(number, error.param)
        message = error.message.replace(f"`{error.param}`", f"`{blamed}`")
        raise dataclasses.replace(error, message=message, param=blamed) from error

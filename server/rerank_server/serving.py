"""One request from a face to its scores: whose model it is, how long it may take, who still waits for it."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from fastapi import Request

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.status import ServerState
from rerank_server.batching import SHUTTING_DOWN
from rerank_server.deadlines import HEADER, time_allowed
from rerank_server.errors import ClosedError, InputError, OverloadedError, ServerError
from rerank_server.lifecycle import Lifecycle
from rerank_server.observation import note_request, note_tokens
from rerank_server.ranking import Ranking, RankRequest

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RETRY_AFTER_S = 2
LONGEST_ECHO = 253
"""Characters of a caller's text that an error repeats: as many as a public name may have."""


class ClientGoneError(Exception):
    """The caller hung up before its answer was there."""


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
    note_request(model, len(request.documents))
    reranker = lifecycle.reranker
    if lifecycle.state is ServerState.DRAINING:
        raise ApiError(ErrorCode.MODEL_NOT_READY, SHUTTING_DOWN, retry_after=RETRY_AFTER_S)
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
            max_row_tokens=request.max_row_tokens,
            activation=request.activation,
            instruction=request.instruction,
        )
    except InputError as error:
        raise ApiError(ErrorCode.INVALID_VALUE, str(error), error.param) from error
    except OverloadedError as error:
        raise ApiError(ErrorCode.OVERLOADED, str(error), retry_after=error.refusal.retry_after) from error
    except ClosedError as error:
        lifecycle.model_stopped()
        raise ApiError(ErrorCode.REPLICA_FAILED, str(error), retry_after=RETRY_AFTER_S) from error
    except ServerError as error:
        log.exception("a request failed")
        raise ApiError(ErrorCode.INTERNAL, str(error)) from error
    note_tokens(scores.tokens)
    ranking = Ranking(model, scores.values, scores.order, scores.tokens)
    if scores.report is None:
        return ranking
    return replace(
        ranking,
        tokenize_seconds=scores.report.tokenize_seconds,
        queue_seconds=scores.report.queue_seconds,
        compute_seconds=scores.report.compute_seconds,
    )


async def in_time(http: Request, work: Awaitable[Result], *, longest: float) -> Result:
    """Await `work`, but cancel it as soon as the caller hangs up or its time is over: it leaves the queue.

    The time is what `X-Request-Timeout` asks for, never more than `longest`, in seconds. Raises `ApiError`
    where it is over, or the header cannot be read.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(http))
    try:
        seconds = _time_allowed(http, longest)
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED, timeout=seconds)
        if working.done():
            return working.result()
        if gone.done():
            raise ClientGoneError
        raise ApiError(
            ErrorCode.TIMEOUT,
            f"The request was not answered within {seconds:g} s: send fewer documents at once, try again "
            "when the server is less busy, or allow more time with the header X-Request-Timeout (at most "
            f"{longest:g} s here).",
        )
    finally:
        working.cancel()
        gone.cancel()


def outcome(error: ApiError | ClientGoneError) -> str:
    """Say in a word, for metrics, what became of a request that was not answered with scores."""
    if isinstance(error, ClientGoneError):
        return "gone"
    match error.code:
        case ErrorCode.OVERLOADED:
            return "rejected"
        case ErrorCode.TIMEOUT:
            return "timeout"
        case ErrorCode.INTERNAL:
            return "failed"
        case ErrorCode.MODEL_NOT_READY | ErrorCode.REPLICA_FAILED:
            return "unavailable"
    return "invalid"


def _time_allowed(http: Request, longest: float) -> float:
    try:
        return time_allowed(http.headers.get(HEADER), longest)
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error


async def _disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass

"""One request from a face to its scores: whose model it is, how long it may take, who still waits for it."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from rerank_api.errors import ApiError, ErrorCode
from rerank_server.errors import ClosedError, InputError, ServerError
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
            activation=request.activation,
            instruction=request.instruction,
        )
    except InputError as error:
        raise ApiError(ErrorCode.INVALID_VALUE, str(error), error.param) from error
    except ClosedError as error:
        lifecycle.model_stopped()
        raise ApiError(ErrorCode.REPLICA_FAILED, str(error), retry_after=RETRY_AFTER_S) from error
    except ServerError as error:
        log.exception("a request failed")
        raise ApiError(ErrorCode.INTERNAL, str(error)) from error
    note_tokens(scores.tokens)
    return Ranking(model, scores.values, scores.order, scores.tokens)


async def unless_gone(http: Request, work: Awaitable[Result]) -> Result:
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

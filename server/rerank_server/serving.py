"""One request from a face to its scores: whose model it is, how long it may take, who still waits for it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi import Request

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.status import ServerState
from rerank_server.batching import SHUTTING_DOWN
from rerank_server.deadlines import HEADER, Deadline
from rerank_server.errors import ClosedError, InputError, OverloadedError, ServerError
from rerank_server.ledger import Entry, Share
from rerank_server.lifecycle import Lifecycle
from rerank_server.observation import note_request, note_tokens
from rerank_server.ranking import Ranking, RankRequest
from rerank_server.reranker import Reranker

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RETRY_AFTER_S = 2
MODEL_REPLACED = "The model that was to answer this request is being loaded anew: send it again."
LONGEST_ECHO = 253
"""Characters of a caller's text that an error repeats: as many as a public name may have."""


class ClientGoneError(Exception):
    """The caller hung up before its answer was there."""


@dataclass(frozen=True)
class Admitted:
    """A query that was let in, and the model that answers it: whatever comes later, it keeps both."""

    query: RankRequest
    model: str
    reranker: Reranker
    share: Share


@dataclass
class Work:
    """What has been done for a request, whatever becomes of it."""

    entry: Entry | None = None
    """None until it is let in."""

    @property
    def tokens(self) -> int:
        """Return how many token ids its texts have, as far as they are tokenized."""
        return self.entry.tokenized if self.entry else 0


@contextlib.contextmanager
def admit(lifecycle: Lifecycle, queries: Sequence[RankRequest]) -> Iterator[list[Admitted]]:
    """Let a request with all of its queries in until the block ends, before any of them is begun.

    Raises `ApiError` where it may not.
    """
    names = lifecycle.manifest.public_names
    models = [_model_of(query, names) for query in queries]
    for query, model in zip(queries, models, strict=True):
        note_request(model, len(query.documents))
    reranker = lifecycle.reranker
    if lifecycle.state is ServerState.DRAINING or reranker is None:
        raise _not_ready(lifecycle, models[0])
    with contextlib.ExitStack() as stack:
        try:
            shares = stack.enter_context(
                reranker.admit([(query.query, query.documents) for query in queries])
            )
        except OverloadedError as error:
            raise ApiError(ErrorCode.OVERLOADED, str(error), retry_after=error.refusal.retry_after) from error
        except ClosedError as error:
            raise _closed(lifecycle, reranker, error) from error
        yield [
            Admitted(query, model, reranker, share)
            for query, model, share in zip(queries, models, shares, strict=True)
        ]


async def rank(lifecycle: Lifecycle, admitted: Admitted) -> Ranking:
    """Score one query; raises `ApiError` where it cannot be."""
    query, reranker = admitted.query, admitted.reranker
    try:
        scores = await reranker.score(
            query.query,
            query.documents,
            share=admitted.share,
            truncate=query.truncate,
            max_document_tokens=query.max_document_tokens,
            max_row_tokens=query.max_row_tokens,
            activation=query.activation,
            instruction=query.instruction,
        )
    except InputError as error:
        raise ApiError(ErrorCode.INVALID_VALUE, str(error), error.param) from error
    except ClosedError as error:
        raise _closed(lifecycle, reranker, error) from error
    except ServerError as error:
        log.exception("a request failed")
        raise ApiError(ErrorCode.INTERNAL, str(error)) from error
    note_tokens(scores.tokens)
    ranking = Ranking(admitted.model, scores.values, scores.order, scores.tokens)
    if scores.report is None:
        return ranking
    return replace(
        ranking,
        tokenize_seconds=scores.report.tokenize_seconds,
        queue_seconds=scores.report.queue_seconds,
        compute_seconds=scores.report.compute_seconds,
    )


def _model_of(query: RankRequest, names: Sequence[str]) -> str:
    model = query.model or names[0]
    if model in names:
        return model
    raise ApiError(
        ErrorCode.MODEL_NOT_FOUND,
        f"The model `{model[:LONGEST_ECHO]}` is not served here: this server answers to {', '.join(names)}.",
        "model",
    )


def _not_ready(lifecycle: Lifecycle, model: str) -> ApiError:
    status = lifecycle.status()
    message = f"The model `{model}` is {status.state.value}: {status.message}"
    if status.state is ServerState.DRAINING:
        message = SHUTTING_DOWN
    return ApiError(ErrorCode.MODEL_NOT_READY, message, retry_after=RETRY_AFTER_S)


def _closed(lifecycle: Lifecycle, reranker: Reranker, error: ClosedError) -> ApiError:
    """Tell a model that was closed, as the server ends or its scores are wrong, from workers that ended."""
    if not reranker.closed:
        lifecycle.model_stopped()
        return ApiError(ErrorCode.REPLICA_FAILED, str(error), retry_after=RETRY_AFTER_S)
    draining = lifecycle.state is ServerState.DRAINING
    message = SHUTTING_DOWN if draining else MODEL_REPLACED
    return ApiError(ErrorCode.MODEL_NOT_READY, message, retry_after=RETRY_AFTER_S)


def deadline_of(http: Request, longest: float) -> Deadline:
    """Return when a request whose headers have just come must be answered.

    That is what `X-Request-Timeout` asks for, never more than `longest`, in seconds. Raises `ApiError` where
    the header cannot be read.
    """
    try:
        return Deadline.of(http.headers.get(HEADER), longest, time.monotonic())
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error


async def in_time(http: Request, work: Awaitable[Result], deadline: Deadline) -> Result:
    """Await `work`, but cancel it as soon as the caller hangs up or its time is over: it leaves the queue.

    Raises `ClientGoneError`, or `ApiError` where the time is over.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(http))
    try:
        await asyncio.wait(
            (working, gone), return_when=asyncio.FIRST_COMPLETED, timeout=deadline.left(time.monotonic())
        )
        if working.done():
            return working.result()
        if gone.done():
            raise ClientGoneError
        remedy = "send fewer documents at once, try again when the server is less busy"
        raise ApiError(ErrorCode.TIMEOUT, deadline.missed("The request was not answered", remedy))
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


async def _disconnect(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass

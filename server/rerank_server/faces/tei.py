"""text-embeddings-inference's `POST /rerank`: `texts` in, a bare list out, counts and times in headers.

A body with `texts` says by itself that it is of this dialect (llama.cpp answers it in this shape too, and
takes `top_n` with it). Differences that are meant: only texts are cut, never the query; without `truncate`
the manifest decides; `truncation_direction` Left is taken where every text fits whole, so that it changes
nothing.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from rerank_api import error_shapes
from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import TEI_PATHS
from rerank_server.faces.fields import MAX_DOCUMENTS, FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face, renamed
from rerank_server.faces.validation import parse_request
from rerank_server.families.interface import Truncate
from rerank_server.ranking import Ranking, RankRequest


class TeiRequest(RequestBody):
    """What is asked in the dialect of text-embeddings-inference."""

    model: str | None = None
    """The public name; not in the original, where a server has one model only."""
    query: FilledText
    texts: Annotated[list[str], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    truncate: bool | None = None
    """False: a pair that is longer than the model takes is an error; without it the manifest decides."""
    truncation_direction: Literal["Right", "Left", "right", "left"] = "Right"
    """Left is refused where a text would have to be cut."""
    raw_scores: bool = False
    """True: the model's own scores; else between 0 and 1."""
    return_text: bool = False
    top_n: TopN = None
    """Keep that many of the best; llama.cpp's, not in the original."""


class TeiRank(TypedDict):
    """One ranked text; `text` is absent where not wanted."""

    index: int
    text: NotRequired[str]
    score: float


class TeiError(TypedDict):
    """An error in the shape of text-embeddings-inference."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class EmptyBatchError(ApiError):
    """No text to rank: a 400 of its own kind here, and no wrong value."""


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    if isinstance(body, dict) and body.get("texts") == []:
        raise EmptyBatchError(ErrorCode.INVALID_VALUE, "`texts` is empty: give at least one.", "texts")
    request = parse_request(TeiRequest, body)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.texts),
        top_n=request.top_n,
        return_documents=request.return_text,
        truncate=_truncate(request),
        activation="none" if request.raw_scores else "sigmoid",
    )
    return Asked((asked,), partial(_write, asked), renamed(documents="texts"))


def _truncate(request: TeiRequest) -> Truncate | None:
    if request.truncation_direction.lower() == "left" or request.truncate is False:
        return "error"
    return "document" if request.truncate else None


def _write(request: RankRequest, rankings: Sequence[Ranking], seconds: float) -> Answer:
    (ranking,) = rankings
    response: list[TeiRank] = [
        {"index": index, "text": request.documents[index], "score": score}
        if request.return_documents
        else {"index": index, "score": score}
        for index, score in ranking.best(request.top_n)
    ]
    return Answer(response, headers=_headers(request, ranking, seconds))


def _headers(request: RankRequest, ranking: Ranking, seconds: float) -> dict[str, str]:
    """Count what was computed, and tell times in whole milliseconds, as far as they are known."""
    characters = sum(map(len, request.documents)) + len(request.query) * len(request.documents)
    times = {
        "x-compute-time": seconds,
        "x-total-time": seconds,
        "x-tokenization-time": ranking.tokenize_seconds,
        "x-queue-time": ranking.queue_seconds,
        "x-inference-time": ranking.compute_seconds,
    }
    return {
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(ranking.tokens),
        **{name: str(int(time * 1000)) for name, time in times.items() if time is not None},
    }


def refuse(error: ApiError) -> Answer:
    """Write `TeiError`; an empty batch is a 400 of its own kind."""
    if isinstance(error, EmptyBatchError):
        empty: TeiError = {"error": error.message, "error_type": "Empty"}
        return Answer(empty, 400)
    shaped = error_shapes.tei(error.code, error.message)
    return Answer(shaped.body, shaped.status)


TEI = Face(
    name="tei",
    title="text-embeddings-inference",
    paths=TEI_PATHS,
    request=TeiRequest,
    response=list[TeiRank],
    error=TeiError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1 unless `raw_scores`. Only texts are cut, never the query.",
    example={"query": "What is a panda?", "texts": ["hi", "it is a bear"], "raw_scores": False},
)

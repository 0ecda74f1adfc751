"""Voyage's rerank API: `POST /v1/rerank` below `/voyage`. `top_k`, and documents echoed as strings."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from rerank_api import error_shapes
from rerank_api.errors import ApiError
from rerank_api.faces import VOYAGE_PATHS
from rerank_server.faces.fields import FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest

MAX_DOCUMENTS = 1_000


class VoyageRequest(RequestBody):
    """What is asked in Voyage's dialect."""

    model: str | None = None
    """The public name; it may be left out where a header, the path or the host has chosen."""
    query: FilledText
    documents: Annotated[list[FilledText], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    top_k: TopN = None
    """Keep that many of the best; all without it."""
    return_documents: bool = False
    truncation: bool = True
    """False: a pair that is longer than the model takes is an error instead of being cut."""


class VoyageResult(TypedDict):
    """One ranked document; `document` is absent where not wanted."""

    index: int
    relevance_score: float
    document: NotRequired[str]


class VoyageUsage(TypedDict):
    """Every token id that the model ran, special tokens included."""

    total_tokens: int


class VoyageResponse(TypedDict):
    """The answer in Voyage's dialect, best document first."""

    object: Literal["list"]
    data: list[VoyageResult]
    model: str
    usage: VoyageUsage


class VoyageError(TypedDict):
    """An error in Voyage's shape."""

    detail: str


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(VoyageRequest, body)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_k,
        return_documents=request.return_documents,
        truncate="document" if request.truncation else "error",
        activation="sigmoid",
    )
    return Asked((asked,), partial(_write, asked))


def _write(request: RankRequest, rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    data: list[VoyageResult] = []
    for index, score in ranking.best(request.top_n):
        result: VoyageResult = {"index": index, "relevance_score": score}
        if request.return_documents:
            result["document"] = request.documents[index]
        data.append(result)
    response: VoyageResponse = {
        "object": "list",
        "data": data,
        "model": ranking.model,
        "usage": {"total_tokens": ranking.tokens},
    }
    return Answer(response)


def refuse(error: ApiError) -> Answer:
    """Write `VoyageError`."""
    shaped = error_shapes.voyage(error.code, error.message)
    return Answer(shaped.body, shaped.status)


VOYAGE = Face(
    name="voyage",
    title="Voyage",
    paths=VOYAGE_PATHS,
    request=VoyageRequest,
    response=VoyageResponse,
    error=VoyageError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1. Only documents are cut, never the query.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "top_k": 1},
)

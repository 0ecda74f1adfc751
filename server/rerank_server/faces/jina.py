"""Jina's rerank API, as GPUStack serves it: `POST /v1/rerank`, the native face.

Differences that are meant: scores are the model's own (raw logits or cosines) unless the manifest's
`scoring.activation` says otherwise, and `model` may be left out where a header or the path has chosen.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, NotRequired

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from rerank_api.errors import ApiError
from rerank_api.faces import JINA_PATHS
from rerank_server.faces.fields import MAX_DOCUMENTS, DocumentText, FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face, renamed
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest


def _no_embeddings(wanted: bool) -> bool:
    if wanted:
        raise PydanticCustomError("embeddings", "is true: this model returns scores only")
    return wanted


class JinaRequest(RequestBody):
    """What is asked in Jina's dialect."""

    model: str | None = None
    """The public name; it may be left out where a header, the path or the host has chosen."""
    query: FilledText
    documents: Annotated[list[DocumentText], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    """Strings, or objects with a `text`."""
    top_n: TopN = None
    """Keep that many of the best; all without it."""
    return_documents: bool = True
    truncation: bool | None = None
    """False: a pair that is longer than the model takes is an error instead of being cut."""
    max_doc_length: Annotated[int | None, Field(ge=1)] = None
    """Tokens that are kept of each document, at most."""
    return_embeddings: Annotated[bool, AfterValidator(_no_embeddings)] = False
    """Only false: this server returns scores."""


class JinaDocument(TypedDict):
    """An echoed document."""

    text: str


class JinaResult(TypedDict):
    """One ranked document; `index` is its place in the request. `document` is absent where not wanted."""

    index: int
    relevance_score: float
    document: NotRequired[JinaDocument]


class Usage(TypedDict):
    """Every token id that the model ran, special tokens included; both numbers are the same."""

    prompt_tokens: int
    total_tokens: int


class JinaResponse(TypedDict):
    """The answer in Jina's dialect, best document first."""

    model: str
    object: Literal["list"]
    results: list[JinaResult]
    usage: Usage


class ErrorDetail(TypedDict):
    """What went wrong: branch on `code`; `param` is the field to blame, where one is."""

    message: str
    type: str
    code: str
    param: str | None


class JinaError(TypedDict):
    """The one error body of gateway and servers."""

    error: ErrorDetail


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(JinaRequest, body)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_n,
        return_documents=request.return_documents,
        truncate={None: None, True: "document", False: "error"}[request.truncation],
        max_document_tokens=request.max_doc_length,
    )
    return Asked((asked,), partial(_write, asked), renamed(max_document_tokens="max_doc_length"))


def _write(request: RankRequest, rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    response: JinaResponse = {
        "model": ranking.model,
        "object": "list",
        "results": _results(request, ranking.best(request.top_n)),
        "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
    }
    return Answer(response)


def _results(request: RankRequest, best: Sequence[tuple[int, float]]) -> list[JinaResult]:
    if not request.return_documents:
        return [{"index": index, "relevance_score": score} for index, score in best]
    return [
        {"index": index, "relevance_score": score, "document": {"text": request.documents[index]}}
        for index, score in best
    ]


def refuse(error: ApiError) -> Answer:
    """Write an error as gateway and servers do by default."""
    return Answer(error.body(), error.status)


JINA = Face(
    name="jina",
    title="Jina, GPUStack",
    paths=JINA_PATHS,
    request=JinaRequest,
    response=JinaResponse,
    error=JinaError,
    read=read,
    refuse=refuse,
    notes="Scores are the model's own unless the manifest's `scoring.activation` says otherwise.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "top_n": 1},
)

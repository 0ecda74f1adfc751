"""Jina's rerank API, as GPUStack serves it: `POST /v1/rerank`, the native face.

Differences that are meant: scores are the model's own (raw logits or cosines) unless the manifest's
`scoring.activation` says otherwise, and `model` may be left out where a header or the path has chosen.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from rerank_api.faces import JINA_PATHS
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest

PATHS: tuple[str, ...] = JINA_PATHS

MAX_DOCUMENTS = 10_000
"""Of one request: what the largest public APIs take."""


class TextDocument(BaseModel):
    """A document as an object."""

    text: str


def _text_of(document: object) -> object:
    """Unwrap `{"text": ...}`; say what a document may be where it is neither that nor a string."""
    if isinstance(document, str):
        return document
    if isinstance(document, dict):
        if isinstance(document.get("text"), str):
            return document["text"]
        if "image" in document:
            raise PydanticCustomError("image", "holds an image: this model ranks text only")
    raise PydanticCustomError("document", 'must be a string or an object such as {"text": "..."}')


def _no_embeddings(wanted: bool) -> bool:
    if wanted:
        raise PydanticCustomError("embeddings", "is true: this model returns scores only")
    return wanted


class RerankRequest(BaseModel):
    """The request body. Fields that are not named here are ignored, as Jina does."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = None
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[
            Annotated[
                str,
                BeforeValidator(_text_of, json_schema_input_type=str | TextDocument),
                Field(min_length=1),
            ]
        ],
        Field(min_length=1, max_length=MAX_DOCUMENTS),
        FailFast(),
    ]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool = True
    truncation: bool | None = None
    """False: a pair that is longer than the model takes is an error instead of being cut."""
    max_doc_length: Annotated[int | None, Field(ge=1)] = None
    """Tokens that are kept of each document, at most."""
    return_embeddings: Annotated[bool, AfterValidator(_no_embeddings)] = False


class Document(BaseModel):
    """An echoed document."""

    text: str


class Result(BaseModel):
    """One ranked document; `index` is its place in the request."""

    index: int
    relevance_score: float
    document: Document | None = None


class Usage(BaseModel):
    """Every token id that the model ran, special tokens included; both numbers are the same."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """The response body; `document` is absent, not null, where documents were not asked for."""

    model: str
    object: Literal["list"]
    results: list[Result]
    usage: Usage


def read(body: object) -> RankRequest:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(RerankRequest, body)
    return RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_n,
        return_documents=request.return_documents,
        truncate={None: None, True: "document", False: "error"}[request.truncation],
        max_document_tokens=request.max_doc_length,
    )


def write(request: RankRequest, ranking: Ranking) -> dict[str, object]:
    """Translate a ranking into the response body, best document first."""
    return {
        "model": ranking.model,
        "object": "list",
        "results": _results(request, ranking.best(request.top_n)),
        "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
    }


def _results(request: RankRequest, best: Sequence[tuple[int, float]]) -> list[dict[str, object]]:
    if not request.return_documents:
        return [{"index": index, "relevance_score": score} for index, score in best]
    return [
        {"index": index, "relevance_score": score, "document": {"text": request.documents[index]}}
        for index, score in best
    ]

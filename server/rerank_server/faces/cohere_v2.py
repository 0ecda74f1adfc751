"""Cohere's second rerank API: `POST /v2/rerank`. Strings only, never echoed, cut without a word."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from rerank_api.faces import COHERE_V2_PATHS
from rerank_server.faces.cohere import MAX_CHUNKS, CohereError, CohereMeta, meta, new_id, refuse
from rerank_server.faces.fields import FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face, renamed
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest


class CohereV2Request(RequestBody):
    """What is asked in the dialect of Cohere v2."""

    model: str | None = None
    """The public name; it may be left out where a header, the path or the host has chosen."""
    query: FilledText
    documents: Annotated[list[FilledText], Field(min_length=1, max_length=MAX_CHUNKS, fail_fast=True)]
    top_n: TopN = None
    max_tokens_per_doc: Annotated[int | None, Field(ge=1)] = 4096
    """Tokens that are kept of each document, at most."""
    priority: Annotated[int | None, Field(ge=0, le=999)] = None
    """Taken and not acted on: small requests go before large ones by themselves."""


class CohereV2Result(TypedDict):
    """One ranked document; `index` is its place in the request."""

    index: int
    relevance_score: float


class CohereV2Response(TypedDict):
    """The answer in the dialect of Cohere v2, best document first."""

    id: str
    results: list[CohereV2Result]
    meta: CohereMeta


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(CohereV2Request, body)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_n,
        return_documents=False,
        truncate="document",
        max_document_tokens=request.max_tokens_per_doc,
        activation="sigmoid",
    )
    return Asked((asked,), partial(_write, asked), renamed(max_document_tokens="max_tokens_per_doc"))


def _write(request: RankRequest, rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    response: CohereV2Response = {
        "id": new_id(),
        "results": [
            {"index": index, "relevance_score": score} for index, score in ranking.best(request.top_n)
        ],
        "meta": meta("2", rankings),
    }
    return Answer(response)


COHERE_V2 = Face(
    name="cohere",
    title="Cohere v2",
    paths=COHERE_V2_PATHS,
    request=CohereV2Request,
    response=CohereV2Response,
    error=CohereError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1; documents are not returned.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "top_n": 1},
)

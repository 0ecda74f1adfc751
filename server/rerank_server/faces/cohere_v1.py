"""Cohere's first rerank API: `POST /v1/rerank` below `/cohere`.

Documents may be objects, of which `rank_fields` are ranked, one after the other. Long documents are cut, not
split into chunks: `max_chunks_per_doc` above 1 is taken where every document fits whole, so that chunks would
change nothing, and refused where one does not.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, NotRequired

import orjson
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import COHERE_V1_PATHS
from rerank_server.faces.cohere import MAX_CHUNKS, CohereError, CohereMeta, meta, new_id, refuse
from rerank_server.faces.fields import FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest

CHUNKS_BY_DEFAULT = 10


def _string_or_object(document: object) -> object:
    if isinstance(document, dict) or (isinstance(document, str) and document):
        return document
    if document == "":
        raise PydanticCustomError("document", "is empty: give it text")
    raise PydanticCustomError("document", 'must be a string or an object such as {"text": "..."}')


class CohereV1Request(RequestBody):
    """What is asked in the dialect of Cohere v1."""

    model: str | None = None
    """The public name; it may be left out where a header, the path or the host has chosen."""
    query: FilledText
    documents: Annotated[
        list[
            Annotated[
                Any,
                BeforeValidator(_string_or_object, json_schema_input_type=FilledText | dict[str, Any]),
            ]
        ],
        Field(min_length=1, max_length=MAX_CHUNKS, fail_fast=True),
    ]
    """Strings or objects; of an object `rank_fields` are ranked, or its `text`."""
    top_n: TopN = None
    rank_fields: Annotated[list[str] | None, Field(min_length=1)] = None
    """The keys of objects that are ranked, in this order."""
    return_documents: bool = False
    max_chunks_per_doc: Annotated[int | None, Field(ge=1)] = None
    """Documents times this may be 10,000 at most (10 without it). Documents are cut, never split: above 1, a
    document that does not fit whole is refused."""


class CohereV1Result(TypedDict):
    """One ranked document; `document` is absent where not wanted, and holds an object's own fields."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any]]


class CohereV1Response(TypedDict):
    """The answer in the dialect of Cohere v1, best document first."""

    id: str
    results: list[CohereV1Result]
    meta: CohereMeta


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(CohereV1Request, body)
    _require_chunks(request)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(
            document if isinstance(document, str) else text_of(document, request.rank_fields, index)
            for index, document in enumerate(request.documents)
        ),
        top_n=request.top_n,
        return_documents=request.return_documents,
        truncate="error" if (request.max_chunks_per_doc or 1) > 1 else "document",
        activation="sigmoid",
    )
    return Asked((asked,), partial(_write, asked, request.documents))


def _require_chunks(request: CohereV1Request) -> None:
    chunks = request.max_chunks_per_doc or CHUNKS_BY_DEFAULT
    if len(request.documents) * chunks > MAX_CHUNKS:
        raise ApiError(
            ErrorCode.INVALID_VALUE,
            f"{len(request.documents)} `documents` times {chunks} `max_chunks_per_doc` are more than "
            f"{MAX_CHUNKS}: send fewer documents, or set `max_chunks_per_doc` to 1.",
            "max_chunks_per_doc",
        )


def text_of(document: dict[str, Any], rank_fields: list[str] | None, index: int) -> str:
    """Return what is ranked of an object: its fields' values, a line each, or raise `ApiError`."""
    wanted = rank_fields or ["text"]
    values = [document[name] for name in wanted if document.get(name) is not None]
    text = "\n".join(value if isinstance(value, str) else orjson.dumps(value).decode() for value in values)
    if not text:
        raise ApiError(
            ErrorCode.INVALID_VALUE,
            f"`documents[{index}]` has nothing in {', '.join(f'`{name}`' for name in wanted[:8])}: give it "
            "text there, or name other `rank_fields`.",
            f"documents[{index}]",
        )
    return text


def _write(request: RankRequest, documents: Sequence[Any], rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    results: list[CohereV1Result] = []
    for index, score in ranking.best(request.top_n):
        result: CohereV1Result = {"index": index, "relevance_score": score}
        if request.return_documents:
            document = documents[index]
            result["document"] = {"text": document} if isinstance(document, str) else document
        results.append(result)
    response: CohereV1Response = {"id": new_id(), "results": results, "meta": meta("1", rankings)}
    return Answer(response)


COHERE_V1 = Face(
    name="cohere",
    title="Cohere v1",
    paths=COHERE_V1_PATHS,
    request=CohereV1Request,
    response=CohereV1Response,
    error=CohereError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1. Documents are cut, never split into chunks.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "return_documents": True},
)

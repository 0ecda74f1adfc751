"""Infinity's `POST /rerank`, below `/infinity`. A document that is not wanted is null, not absent."""

import re
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from rerank_api.errors import KINDS, ApiError, ErrorCode
from rerank_api.faces import INFINITY_PATHS
from rerank_server.faces.fields import FilledText, RequestBody, TopN
from rerank_server.faces.interface import Answer, Asked, Face
from rerank_server.faces.jina import Usage
from rerank_server.faces.validation import parse_request
from rerank_server.ranking import Ranking, RankRequest

MAX_DOCUMENTS = 2048
NOT_SPECIFIED = "default/not-specified"
"""What Infinity's clients send as the model where the caller named none."""


class InfinityRequest(RequestBody):
    """What is asked in Infinity's dialect."""

    model: str | None = None
    """The public name; `default/not-specified` is as good as none."""
    query: FilledText
    documents: Annotated[list[str], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    return_documents: bool = False
    raw_scores: bool = False
    """True: the model's own scores; else between 0 and 1."""
    top_n: TopN = None
    """Keep that many of the best; all without it."""


class InfinityResult(TypedDict):
    """One ranked document; `document` is null where not wanted."""

    relevance_score: float
    index: int
    document: str | None


class InfinityResponse(TypedDict):
    """The answer in Infinity's dialect, best document first."""

    object: Literal["rerank"]
    results: list[InfinityResult]
    model: str
    usage: Usage
    id: str
    created: int


class InfinityErrorDetail(TypedDict):
    """What went wrong; `code` is the status."""

    message: str
    type: str
    param: str | None
    code: int


class InfinityError(TypedDict):
    """An error in Infinity's shape."""

    error: InfinityErrorDetail


class InfinityProblem(TypedDict):
    """What is wrong with a body, and where in it."""

    type: str
    loc: list[str | int]
    msg: str


class InfinityInvalid(TypedDict):
    """An answer to a body that is not as it must be, in FastAPI's shape, which is Infinity's."""

    detail: list[InfinityProblem]


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(InfinityRequest, body)
    asked = RankRequest(
        model=None if request.model == NOT_SPECIFIED else request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_n,
        return_documents=request.return_documents,
        activation="none" if request.raw_scores else "sigmoid",
    )
    return Asked((asked,), partial(_write, asked))


def _write(request: RankRequest, rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    response: InfinityResponse = {
        "object": "rerank",
        "results": [
            {
                "relevance_score": score,
                "index": index,
                "document": request.documents[index] if request.return_documents else None,
            }
            for index, score in ranking.best(request.top_n)
        ],
        "model": ranking.model,
        "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
        "id": f"infinity-{uuid.uuid4()}",
        "created": int(time.time()),
    }
    return Answer(response)


def refuse(error: ApiError) -> Answer:
    """Write FastAPI's list of problems for a wrong body, and OpenAI's shape for everything else."""
    if error.code in {ErrorCode.INVALID_JSON, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_VALUE}:
        kind = "json_invalid" if error.code is ErrorCode.INVALID_JSON else "value_error"
        invalid: InfinityInvalid = {
            "detail": [{"type": kind, "loc": ["body", *location(error.param or "")], "msg": error.message}]
        }
        return Answer(invalid, 422)
    if error.code in {ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED}:
        return Answer({"detail": error.message}, error.status)
    status = 400 if error.code is ErrorCode.MODEL_NOT_FOUND else error.status
    body: InfinityError = {
        "error": {
            "message": error.message,
            "type": KINDS[error.code].type.value,
            "param": error.param,
            "code": status,
        }
    }
    return Answer(body, status)


def location(param: str) -> list[str | int]:
    """Split the path of a field into its steps: `documents[3]` -> `["documents", 3]`."""
    return [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", param)]


INFINITY = Face(
    name="infinity",
    title="Infinity",
    paths=INFINITY_PATHS,
    request=InfinityRequest,
    response=InfinityResponse,
    error=InfinityError | InfinityInvalid,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1 unless `raw_scores`.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "return_documents": True},
)

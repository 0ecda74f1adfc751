"""vLLM's score endpoints: one text with one, one with many, or many with as many, in the request's order.

Pairs of the same first text are one query to the core; several queries are ranked together, all or none.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

from typing_extensions import TypedDict

from rerank_api.errors import ApiError, ErrorCode
from rerank_api.faces import VLLM_SCORE_PATHS
from rerank_server.faces.fields import OneOrMany
from rerank_server.faces.interface import Answer, Asked, Face
from rerank_server.faces.jina import Usage
from rerank_server.faces.validation import parse_request
from rerank_server.faces.vllm import CORE_WORDS, VllmError, VllmOptions, new_id, refuse
from rerank_server.ranking import Ranking, RankRequest

NAMES = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))
"""What the two sides may be called."""
MAX_QUERIES = 1_000
"""Different queries of one request."""


class VllmScoreRequest(VllmOptions):
    """What is asked in the dialect of vLLM's score: both sides, by one of four pairs of names."""

    queries: OneOrMany | None = None
    documents: OneOrMany | None = None
    items: OneOrMany | None = None
    text_1: OneOrMany | None = None
    text_2: OneOrMany | None = None
    data_1: OneOrMany | None = None
    data_2: OneOrMany | None = None


class VllmScore(TypedDict):
    """The score of one pair; `index` is its place in the request."""

    index: int
    object: Literal["score"]
    score: float


class VllmScoreResponse(TypedDict):
    """The answer in the dialect of vLLM's score, in the order of the request."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScore]
    usage: Usage


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(VllmScoreRequest, body)
    first, second = _names(request)
    queries: list[str] = getattr(request, first)
    documents: list[str] = getattr(request, second)
    _require_matching(first, queries, second, documents)
    places = _places(queries, len(documents))
    requests = tuple(
        RankRequest(
            model=request.model,
            query=query,
            documents=tuple(documents[index] for index in indices),
            truncate=request.truncate,
            max_document_tokens=request.max_tokens_per_doc or None,
            max_row_tokens=request.max_row_tokens,
            activation=request.scale,
            instruction=request.instruction,
        )
        for query, indices in places.items()
    )

    def blame(number: int, param: str) -> str:
        indices = list(places.values())[number]
        name, bracket, rest = param.partition("[")
        if name == "documents" and bracket:
            return f"{second}[{indices[int(rest.rstrip(']'))]}]"
        if name == "query":
            return f"{first}[{indices[0]}]" if len(queries) > 1 else first
        return CORE_WORDS.get(name, param)

    return Asked(requests, partial(_write, tuple(places.values())), blame)


def _names(request: VllmScoreRequest) -> tuple[str, str]:
    """Return what the two sides are called in this request."""
    for first, second in NAMES:
        if getattr(request, first) is not None and getattr(request, second) is not None:
            return first, second
    pairs = ", ".join(f"`{first}` and `{second}`" for first, second in NAMES)
    raise ApiError(ErrorCode.INVALID_REQUEST, f"The request needs two sides, as one of these: {pairs}.")


def _require_matching(first: str, queries: list[str], second: str, documents: list[str]) -> None:
    if len(queries) not in {1, len(documents)}:
        raise ApiError(
            ErrorCode.INVALID_VALUE,
            f"`{first}` holds {len(queries)} and `{second}` {len(documents)}: give one of the former, or as "
            "many of both.",
            first,
        )
    for index, query in enumerate(queries):
        if not query:
            raise ApiError(
                ErrorCode.INVALID_VALUE, f"`{first}[{index}]` is empty: give it text.", f"{first}[{index}]"
            )


def _places(queries: list[str], documents: int) -> dict[str, list[int]]:
    """Return the indices of the pairs of each different query."""
    if len(queries) == 1:
        return {queries[0]: list(range(documents))}
    places: dict[str, list[int]] = {}
    for index, query in enumerate(queries):
        places.setdefault(query, []).append(index)
    if len(places) > MAX_QUERIES:
        raise ApiError(
            ErrorCode.INVALID_VALUE,
            f"The request holds {len(places)} different queries: at most {MAX_QUERIES} fit into one.",
        )
    return places


def _write(places: Sequence[Sequence[int]], rankings: Sequence[Ranking], _: float) -> Answer:
    scores = {
        index: score
        for indices, ranking in zip(places, rankings, strict=True)
        for index, score in zip(indices, ranking.scores, strict=True)
    }
    tokens = sum(ranking.tokens for ranking in rankings)
    response: VllmScoreResponse = {
        "id": new_id("score"),
        "object": "list",
        "created": int(time.time()),
        "model": rankings[0].model,
        "data": [{"index": index, "object": "score", "score": scores[index]} for index in range(len(scores))],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Answer(response)


VLLM_SCORE = Face(
    name="vllm",
    title="vLLM score",
    paths=VLLM_SCORE_PATHS,
    request=VllmScoreRequest,
    response=VllmScoreResponse,
    error=VllmError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1 unless `use_activation` is false. Only documents are cut.",
    example={"text_1": "What is a panda?", "text_2": ["hi", "it is a bear"]},
)

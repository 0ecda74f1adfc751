"""What Cohere's two versions share: errors, `meta`, the scale of scores."""

import uuid
from collections.abc import Sequence
from typing import NotRequired

from typing_extensions import TypedDict

from rerank_api import error_shapes
from rerank_api.errors import ApiError
from rerank_server.faces.interface import Answer
from rerank_server.ranking import Ranking

MAX_CHUNKS = 10_000
"""Documents of one request, or documents times `max_chunks_per_doc`."""
DOCUMENTS_PER_SEARCH_UNIT = 100
"""Cohere's definition: a query with up to 100 documents is one search unit."""


class CohereApiVersion(TypedDict):
    """Which of the two APIs has answered."""

    version: str
    is_experimental: bool


class CohereUnits(TypedDict):
    """A search unit is a query with up to 100 documents."""

    search_units: int


class CohereTokens(TypedDict):
    """Every token id that the model ran, special tokens included."""

    input_tokens: int


class CohereMeta(TypedDict):
    """How much was done."""

    api_version: CohereApiVersion
    billed_units: CohereUnits
    tokens: CohereTokens


class CohereError(TypedDict):
    """An error in Cohere's shape."""

    message: str
    id: NotRequired[str]


def meta(version: str, rankings: Sequence[Ranking]) -> CohereMeta:
    """Count what was done."""
    units = sum(-(-len(ranking.scores) // DOCUMENTS_PER_SEARCH_UNIT) for ranking in rankings)
    return {
        "api_version": {"version": version, "is_experimental": False},
        "billed_units": {"search_units": units},
        "tokens": {"input_tokens": sum(ranking.tokens for ranking in rankings)},
    }


def new_id() -> str:
    """Name one answer."""
    return str(uuid.uuid4())


def refuse(error: ApiError) -> Answer:
    """Write `CohereError`."""
    shaped = error_shapes.cohere(error.code, error.message)
    return Answer(shaped.body, shaped.status)

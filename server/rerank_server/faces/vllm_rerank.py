"""vLLM's rerank endpoints. Documents are always returned, with `multi_modal` null beside the text."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from rerank_api.faces import VLLM_RERANK_PATHS
from rerank_server.faces.fields import FilledText, OneOrMany
from rerank_server.faces.interface import Answer, Asked, Face, renamed
from rerank_server.faces.jina import Usage
from rerank_server.faces.validation import parse_request
from rerank_server.faces.vllm import CORE_WORDS, VllmError, VllmOptions, new_id, refuse
from rerank_server.ranking import Ranking, RankRequest


class VllmRerankRequest(VllmOptions):
    """What is asked in the dialect of vLLM's rerank."""

    query: FilledText
    documents: OneOrMany
    """A text, or a list of texts."""
    top_n: Annotated[int | None, Field(ge=0)] = 0
    """Keep that many of the best; 0 keeps all."""


class VllmDocument(TypedDict):
    """An echoed document."""

    text: str
    multi_modal: None


class VllmRerankResult(TypedDict):
    """One ranked document; `index` is its place in the request."""

    index: int
    document: VllmDocument
    relevance_score: float


class VllmRerankResponse(TypedDict):
    """The answer in the dialect of vLLM's rerank, best document first."""

    id: str
    model: str
    usage: Usage
    results: list[VllmRerankResult]


def read(body: object) -> Asked:
    """Translate a request body, or raise `ApiError`."""
    request = parse_request(VllmRerankRequest, body)
    asked = RankRequest(
        model=request.model,
        query=request.query,
        documents=tuple(request.documents),
        top_n=request.top_n or None,
        truncate=request.truncate,
        max_document_tokens=request.max_tokens_per_doc or None,
        max_row_tokens=request.max_row_tokens,
        activation=request.scale,
        instruction=request.instruction,
    )
    blame = renamed(**CORE_WORDS)
    return Asked((asked,), partial(_write, asked), blame)


def _write(request: RankRequest, rankings: Sequence[Ranking], _: float) -> Answer:
    (ranking,) = rankings
    response: VllmRerankResponse = {
        "id": new_id("rerank"),
        "model": ranking.model,
        "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
        "results": [
            {
                "index": index,
                "document": {"text": request.documents[index], "multi_modal": None},
                "relevance_score": score,
            }
            for index, score in ranking.best(request.top_n)
        ],
    }
    return Answer(response)


VLLM_RERANK = Face(
    name="vllm",
    title="vLLM rerank",
    paths=VLLM_RERANK_PATHS,
    request=VllmRerankRequest,
    response=VllmRerankResponse,
    error=VllmError,
    read=read,
    refuse=refuse,
    notes="Scores are between 0 and 1 unless `use_activation` is false. Only documents are cut.",
    example={"query": "What is a panda?", "documents": ["hi", "it is a bear"], "top_n": 1},
)

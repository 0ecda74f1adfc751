"""Cohere's two APIs, as its client sends and reads them, over a real server with a real model."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

QUERY = "What is a panda?"
PANDA = "The giant panda is a bear species endemic to China."
DOCUMENTS = ["hi", "it is a bear", PANDA]


class Strict(BaseModel):
    """A copy of a client's type: what it does not know is a mistake of ours."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ApiVersion(Strict):
    """cohere.ApiMetaApiVersion."""

    version: str
    is_deprecated: bool | None = None
    is_experimental: bool | None = None


class BilledUnits(Strict):
    """cohere.ApiMetaBilledUnits."""

    images: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    search_units: float | None = None
    classifications: float | None = None


class Tokens(Strict):
    """cohere.ApiMetaTokens."""

    input_tokens: float | None = None
    output_tokens: float | None = None


class Meta(Strict):
    """cohere.ApiMeta."""

    api_version: ApiVersion | None = None
    billed_units: BilledUnits | None = None
    tokens: Tokens | None = None
    warnings: list[str] | None = None


class ResultV2(Strict):
    """cohere.V2RerankResponseResultsItem."""

    index: int
    relevance_score: float


class ResponseV2(Strict):
    """cohere.V2RerankResponse."""

    id: str | None = None
    results: list[ResultV2]
    meta: Meta | None = None


class ResultV1(Strict):
    """cohere.RerankResponseResultsItem."""

    document: dict[str, Any] | None = None
    index: int
    relevance_score: float


class ResponseV1(Strict):
    """cohere.RerankResponse."""

    id: str | None = None
    results: list[ResultV1]
    meta: Meta | None = None


@pytest.mark.parametrize("path", ["/v2/rerank", "/cohere/v2/rerank"])
def test_v2_answers_as_the_client_reads_it(minilm: Any, path: str) -> None:
    body = {"model": "all-minilm-l6-v2", "query": QUERY, "documents": DOCUMENTS, "top_n": 2, "priority": 0}
    status, answer = minilm.post(path, body)
    assert status == 200, answer
    response = ResponseV2.model_validate(answer)
    assert [result.index for result in response.results] == [2, 1]
    assert all(0 <= result.relevance_score <= 1 for result in response.results)
    assert response.meta is not None
    assert response.meta.api_version == ApiVersion(version="2", is_experimental=False)
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert answer["meta"]["tokens"]["input_tokens"] > 0
    assert response.id


@pytest.mark.parametrize(
    ("documents", "units"), [pytest.param(100, 1, id="100"), pytest.param(101, 2, id="101")]
)
def test_a_search_unit_is_a_query_with_up_to_a_hundred_documents(
    minilm: Any, documents: int, units: int
) -> None:
    _, answer = minilm.post("/v2/rerank", {"query": "q", "documents": ["x"] * documents})
    assert answer["meta"]["billed_units"]["search_units"] == units


def test_v2_cuts_documents_to_max_tokens_per_doc_without_a_word(minilm: Any) -> None:
    def tokens(**options: int) -> int:
        status, answer = minilm.post("/v2/rerank", {"query": "q", "documents": ["bear " * 50], **options})
        assert status == 200, answer
        return int(answer["meta"]["tokens"]["input_tokens"])

    assert tokens() - tokens(max_tokens_per_doc=7) == 50 - 7


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/cohere/v1/rerank", {}, id="on its own path"),
        pytest.param("/v1/rerank", {"Rerank-API": "cohere"}, id="on the shared path, by the header"),
    ],
)
def test_v1_answers_as_the_client_reads_it(minilm: Any, path: str, headers: dict[str, str]) -> None:
    body = {"model": "all-minilm-l6-v2", "query": QUERY, "documents": DOCUMENTS, "return_documents": True}
    status, answer = minilm.post(path, body, **headers)
    assert status == 200, answer
    response = ResponseV1.model_validate(answer)
    assert [(result.index, result.document) for result in response.results] == [
        (index, {"text": DOCUMENTS[index]}) for index in (2, 1, 0)
    ]
    assert all(0 <= result.relevance_score <= 1 for result in response.results)
    assert answer["meta"]["api_version"] == {"version": "1", "is_experimental": False}


def test_v1_leaves_documents_out_by_default(minilm: Any) -> None:
    _, answer = minilm.post("/cohere/v1/rerank", {"query": QUERY, "documents": DOCUMENTS})
    assert [sorted(result) for result in answer["results"]] == [["index", "relevance_score"]] * 3


def test_v1_ranks_the_named_fields_of_objects_and_returns_the_objects_whole(minilm: Any) -> None:
    objects = [{"title": "Bears", "body": PANDA, "id": 7}, {"title": "Greeting", "body": "hi", "id": 8}]
    _, by_fields = minilm.post(
        "/cohere/v1/rerank",
        {
            "query": QUERY,
            "documents": objects,
            "rank_fields": ["title", "body", "nothing"],
            "return_documents": True,
        },
    )
    _, by_text = minilm.post(
        "/cohere/v1/rerank", {"query": QUERY, "documents": [f"Bears\n{PANDA}", "Greeting\nhi"]}
    )
    scores = [result["relevance_score"] for result in by_fields["results"]]
    assert scores == pytest.approx([result["relevance_score"] for result in by_text["results"]], abs=1e-6)
    assert [result["document"] for result in by_fields["results"]] == objects


def test_v1_ranks_the_text_of_objects_without_rank_fields(minilm: Any) -> None:
    _, objects = minilm.post("/cohere/v1/rerank", {"query": "q", "documents": [{"text": "a", "n": 1}, "b"]})
    _, strings = minilm.post("/cohere/v1/rerank", {"query": "q", "documents": ["a", "b"]})
    assert objects["results"] == strings["results"]


LONG = "bear " * 600


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"documents": [LONG]}, 200, id="cut without a word"),
        pytest.param({"documents": [LONG], "max_chunks_per_doc": 1}, 200, id="one chunk is what is ranked"),
        pytest.param({"documents": ["x"], "max_chunks_per_doc": 10}, 200, id="chunks that change nothing"),
        pytest.param({"documents": [LONG], "max_chunks_per_doc": 10}, 400, id="chunks that would matter"),
    ],
)
def test_v1_never_ranks_chunks_in_silence(minilm: Any, fields: dict[str, Any], status: int) -> None:
    answered, answer = minilm.post("/cohere/v1/rerank", {"query": "q", **fields})
    assert answered == status, answer
    if status == 400:
        assert "documents[0]" in answer["message"]


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        pytest.param("/v2/rerank", {}, "`documents` is required", id="v2, no documents"),
        pytest.param("/v2/rerank", {"documents": []}, "`documents` is empty", id="v2, none"),
        pytest.param("/v2/rerank", {"documents": [{"text": "a"}]}, "must be a string", id="v2, an object"),
        pytest.param("/v2/rerank", {"documents": ["a", ""]}, "`documents[1]` is empty", id="v2, empty"),
        pytest.param("/v2/rerank", {"documents": ["a"], "top_n": True}, "a boolean", id="v2, top_n true"),
        pytest.param("/v2/rerank", {"documents": ["a"], "priority": 1000}, "at most 999", id="v2, priority"),
        pytest.param("/v2/rerank", {"documents": ["a"] * 10_001}, "at most 10000", id="v2, too many"),
        pytest.param("/v2/rerank", {"documents": ["a"], "max_tokens_per_doc": 0}, "at least 1", id="v2, 0"),
        pytest.param("/cohere/v1/rerank", {"documents": [5]}, "a string or an object", id="v1, a number"),
        pytest.param("/cohere/v1/rerank", {"documents": ["a", ""]}, "is empty", id="v1, empty"),
        pytest.param(
            "/cohere/v1/rerank", {"documents": [{"title": "t"}]}, "nothing in `text`", id="v1, no text"
        ),
        pytest.param(
            "/cohere/v1/rerank",
            {"documents": [{"text": "t"}], "rank_fields": ["title"]},
            "nothing in `title`",
            id="v1, no such field",
        ),
        pytest.param(
            "/cohere/v1/rerank", {"documents": ["a"] * 1001}, "1001 `documents` times 10", id="v1, chunks"
        ),
        pytest.param(
            "/cohere/v1/rerank", {"documents": ["a"], "rank_fields": []}, "`rank_fields`", id="v1, no field"
        ),
    ],
)
def test_what_is_wrong_is_a_400_with_a_message(
    minilm: Any, path: str, fields: dict[str, Any], says: str
) -> None:
    status, answer = minilm.post(path, {"query": "q", **fields})
    assert (status, list(answer)) == (400, ["message"]), answer
    assert says in answer["message"]

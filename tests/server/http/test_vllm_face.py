"""vLLM's rerank and score endpoints, as clients send and read them, over a real server with a real model."""

from typing import Any

import pytest

QUERY = "What is a panda?"
DOCUMENTS = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]
LONG = "bear " * 600


@pytest.mark.parametrize("path", ["/vllm/rerank", "/vllm/v1/rerank", "/vllm/v2/rerank"])
def test_rerank_always_returns_documents(minilm: Any, path: str) -> None:
    status, answer = minilm.post(
        path, {"model": "all-minilm-l6-v2", "query": QUERY, "documents": DOCUMENTS, "top_n": 0}
    )
    assert status == 200, answer
    assert list(answer) == ["id", "model", "usage", "results"]
    assert answer["id"].startswith("rerank-")
    assert [(result["index"], result["document"]) for result in answer["results"]] == [
        (index, {"text": DOCUMENTS[index], "multi_modal": None}) for index in (2, 1, 0)
    ]
    assert all(0 <= result["relevance_score"] <= 1 for result in answer["results"])
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_rerank_takes_a_single_document_and_top_n(minilm: Any) -> None:
    _, single = minilm.post("/vllm/rerank", {"query": QUERY, "documents": DOCUMENTS[2]})
    _, best = minilm.post("/vllm/rerank", {"query": QUERY, "documents": DOCUMENTS, "top_n": 1})
    assert len(single["results"]) == len(best["results"]) == 1
    assert single["results"][0]["relevance_score"] == pytest.approx(
        best["results"][0]["relevance_score"], abs=1e-6
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"use_activation": False}, id="use_activation"),
        pytest.param({"activation": False}, id="old"),
    ],
)
def test_scores_are_raw_where_activation_is_not_wanted(minilm: Any, options: dict[str, bool]) -> None:
    _, answer = minilm.post("/vllm/rerank", {"query": QUERY, "documents": DOCUMENTS, **options})
    _, own = minilm.rerank(query=QUERY, documents=DOCUMENTS)
    assert [r["relevance_score"] for r in answer["results"]] == [r["relevance_score"] for r in own["results"]]


@pytest.mark.parametrize("path", ["/score", "/v1/score", "/vllm/score", "/vllm/v1/score"])
def test_one_text_is_scored_with_many_in_their_order(minilm: Any, path: str) -> None:
    status, answer = minilm.post(path, {"text_1": QUERY, "text_2": DOCUMENTS, "use_activation": False})
    assert status == 200, answer
    assert list(answer) == ["id", "object", "created", "model", "data", "usage"]
    assert [(item["index"], item["object"]) for item in answer["data"]] == [(i, "score") for i in range(3)]
    _, own = minilm.rerank(query=QUERY, documents=DOCUMENTS)
    by_index = {r["index"]: r["relevance_score"] for r in own["results"]}
    assert [item["score"] for item in answer["data"]] == [by_index[index] for index in range(3)]
    assert answer["usage"] == own["usage"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2")],
)
def test_many_are_scored_with_as_many_by_any_pair_of_names(minilm: Any, first: str, second: str) -> None:
    queries = [QUERY, "Who says hello?", QUERY]
    status, answer = minilm.post("/score", {first: queries, second: DOCUMENTS})
    assert status == 200, answer
    alone = [
        minilm.post("/score", {first: query, second: document})[1]
        for query, document in zip(queries, DOCUMENTS, strict=True)
    ]
    assert [item["score"] for item in answer["data"]] == pytest.approx(
        [each["data"][0]["score"] for each in alone], abs=1e-5
    )
    assert len(answer["data"]) == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "says"),
    [
        pytest.param("/vllm/rerank", {"documents": ["a"]}, 400, "query", "is required", id="no query"),
        pytest.param(
            "/vllm/rerank", {"query": "q", "documents": []}, 400, "documents", "is empty", id="no documents"
        ),
        pytest.param(
            "/vllm/rerank", {"query": "q", "documents": 5}, 400, "documents", "a list of strings", id="number"
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": {"content": []}},
            400,
            "documents",
            "content parts",
            id="content parts",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a", 5]},
            400,
            "documents[1]",
            "must be a string",
            id="a number among documents",
        ),
        pytest.param(
            "/vllm/rerank", {"query": "q", "documents": [LONG]}, 400, "documents[0]", "tokens", id="too long"
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a"], "truncate_prompt_tokens": 0},
            400,
            "truncate_prompt_tokens",
            "keeps nothing",
            id="cut to nothing",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": [LONG], "truncate_prompt_tokens": 2},
            400,
            "truncate_prompt_tokens",
            "`truncate_prompt_tokens` is 2, and query and special tokens are 2",
            id="no token is left to a document",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a"], "truncate_prompt_tokens": -2},
            400,
            "truncate_prompt_tokens",
            "at least -1",
            id="cut below -1",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a"], "max_tokens_per_query": 5},
            400,
            "max_tokens_per_query",
            "never cut",
            id="cut of the query",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a"], "instruction": "Find bears."},
            400,
            "instruction",
            "take none",
            id="an instruction to a model that takes none",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": [LONG], "truncate_prompt_tokens": -1, "truncation_side": "left"},
            400,
            "documents[0]",
            "tokens",
            id="cut at the left",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a", LONG], "truncate_prompt_tokens": 10, "truncation_side": "left"},
            400,
            "documents[1]",
            "and the request allows 10 together: shorten it to 8",
            id="cut at the left to less than the model takes",
        ),
        pytest.param(
            "/vllm/rerank",
            {"query": "q", "documents": ["a"], "model": "other"},
            404,
            "model",
            "`other`",
            id="other model",
        ),
        pytest.param("/score", {"text_1": "a"}, 400, None, "two sides", id="one side"),
        pytest.param("/score", {"text_1": "a", "items": ["b"]}, 400, None, "`text_1` and", id="mixed names"),
        pytest.param(
            "/score",
            {"text_1": ["a", "b"], "text_2": ["c"]},
            400,
            "text_1",
            "as many of both",
            id="two with one",
        ),
        pytest.param(
            "/score",
            {"text_1": ["a", ""], "text_2": ["c", "d"]},
            400,
            "text_1[1]",
            "is empty",
            id="an empty query",
        ),
        pytest.param(
            "/score",
            {"queries": ["a", "b", "a"], "items": ["c", "d", LONG]},
            400,
            "items[2]",
            "`items[2]` has",
            id="a text too long",
        ),
        pytest.param(
            "/score",
            {"text_1": ["a", LONG], "text_2": ["b", "c"]},
            400,
            "text_1[1]",
            "`text_1[1]` has 600 tokens",
            id="a query too long among others",
        ),
        pytest.param(
            "/score", {"text_1": LONG, "text_2": "b"}, 400, "text_1", "`text_1` has", id="a query too long"
        ),
        pytest.param(
            "/score",
            {"text_1": [str(number) for number in range(1001)], "text_2": ["x"] * 1001},
            400,
            None,
            "1001 different queries",
            id="too many queries",
        ),
    ],
)
def test_what_is_wrong_is_an_error_with_the_status_as_its_code(
    minilm: Any, path: str, body: dict[str, Any], status: int, param: str | None, says: str
) -> None:
    answered, answer = minilm.post(path, body)
    assert answered == status, answer
    assert list(answer["error"]) == ["message", "type", "param", "code"]
    assert answer["error"]["type"] == {400: "BadRequestError", 404: "NotFoundError"}[status]
    assert (answer["error"]["code"], answer["error"]["param"]) == (status, param), answer
    assert says in answer["error"]["message"]


def test_documents_are_cut_where_asked_for(minilm: Any) -> None:
    def tokens(**options: int) -> int:
        status, answer = minilm.post("/score", {"text_1": "q", "text_2": LONG, **options})
        assert status == 200, answer
        return int(answer["usage"]["total_tokens"])

    assert tokens(truncate_prompt_tokens=10_000) == tokens(truncate_prompt_tokens=-1)
    assert tokens(truncate_prompt_tokens=10) == 10 + tokens(max_tokens_per_doc=1) - 3
    assert (
        tokens(truncate_prompt_tokens=-1) == minilm.status()["maxLength"] + tokens(max_tokens_per_doc=1) - 3
    )

"""text-embeddings-inference's API, as its clients send and read it, over a real server with a real model."""

import json
from typing import Any

import pytest

QUERY = "What is a panda?"
TEXTS = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/tei/rerank", {}, id="on its own path"),
        pytest.param("/rerank", {}, id="by its texts"),
        pytest.param("/v1/rerank", {}, id="by its texts, as llama.cpp answers them"),
        pytest.param("/rerank", {"Rerank-API": "TEI"}, id="by the header"),
    ],
)
def test_it_answers_with_a_bare_list(minilm: Any, path: str, headers: dict[str, str]) -> None:
    status, answer = minilm.post(path, {"query": QUERY, "texts": TEXTS}, **headers)
    assert status == 200, answer
    assert [(list(rank), rank["index"]) for rank in answer] == [
        (["index", "score"], index) for index in (2, 1, 0)
    ]
    assert all(0 <= rank["score"] <= 1 for rank in answer)


def test_texts_come_back_and_scores_are_raw_where_wanted(minilm: Any) -> None:
    body = {"query": QUERY, "texts": TEXTS, "return_text": True, "raw_scores": True, "top_n": 2}
    _, answer = minilm.post("/tei/rerank", body)
    assert [(list(rank), rank["text"]) for rank in answer] == [
        (["index", "text", "score"], TEXTS[index]) for index in (2, 1)
    ]
    _, own = minilm.rerank(query=QUERY, documents=TEXTS)
    assert [rank["score"] for rank in answer] == [r["relevance_score"] for r in own["results"][:2]]


def test_headers_say_what_was_computed(minilm: Any) -> None:
    body = {"query": QUERY, "texts": TEXTS}
    _, headers, _ = minilm.full("POST", "/tei/rerank", json.dumps(body).encode())
    _, own = minilm.rerank(query=QUERY, documents=TEXTS)
    assert int(headers["x-compute-tokens"]) == own["usage"]["total_tokens"]
    assert int(headers["x-compute-characters"]) == 3 * len(QUERY) + sum(map(len, TEXTS))
    parts = ("x-tokenization-time", "x-queue-time", "x-inference-time")
    assert sum(int(headers[part]) for part in parts) <= int(headers["x-total-time"]) < 60_000


LONG = "bear " * 600


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"texts": [LONG]}, 200, id="the manifest lets documents be cut"),
        pytest.param({"texts": [LONG], "truncate": True}, 200, id="to be cut"),
        pytest.param({"texts": [LONG], "truncate": False}, 422, id="not to be cut"),
        pytest.param({"texts": ["x"], "truncation_direction": "Left"}, 200, id="left, nothing to cut"),
        pytest.param({"texts": [LONG], "truncate": True, "truncation_direction": "Left"}, 422, id="left"),
        pytest.param({"texts": ["", "x"]}, 200, id="an empty text"),
    ],
)
def test_texts_are_cut_at_the_right_or_not_at_all(minilm: Any, fields: dict[str, Any], status: int) -> None:
    answered, answer = minilm.post("/tei/rerank", {"query": "q", **fields})
    assert answered == status, answer
    if status == 422:
        assert answer["error_type"] == "Validation"
        assert "`texts[0]` has" in answer["error"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "says"),
    [
        pytest.param({"query": "q", "texts": []}, 400, "Empty", "`texts` is empty", id="empty batch"),
        pytest.param({"texts": ["a"]}, 422, "Validation", "`query` is required", id="no query"),
        pytest.param({"query": "q"}, 422, "Validation", "`texts` is required", id="no texts"),
        pytest.param(
            {"query": "q", "texts": ["a"] * 10_001}, 422, "Validation", "at most 10000", id="too large"
        ),
        pytest.param({"query": "q", "texts": [None]}, 422, "Validation", "`texts[0]` is null", id="null"),
        pytest.param(
            {"query": "q", "texts": ["a"], "truncation_direction": "Up"},
            422,
            "Validation",
            "'Right'",
            id="direction",
        ),
        pytest.param(
            {"query": "q", "texts": ["a"], "model": "other"}, 404, "Validation", "`other`", id="other model"
        ),
        pytest.param([1], 400, "Validation", "a list", id="a list"),
    ],
)
def test_what_is_wrong_has_an_error_and_its_type(
    minilm: Any, body: object, status: int, kind: str, says: str
) -> None:
    answered, answer = minilm.post("/tei/rerank", body)
    assert (answered, list(answer), answer["error_type"]) == (status, ["error", "error_type"], kind)
    assert says in answer["error"]

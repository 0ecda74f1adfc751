"""Voyage's API, as its client sends and reads it, over a real server with a real model."""

from typing import Any

import pytest

QUERY = "What is a panda?"
DOCUMENTS = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]


def test_it_answers_as_the_client_reads_it(minilm: Any) -> None:
    body = {
        "model": "all-minilm-l6-v2",
        "query": QUERY,
        "documents": DOCUMENTS,
        "top_k": None,
        "truncation": True,
    }
    status, answer = minilm.post("/voyage/v1/rerank", body)
    assert status == 200, answer
    assert list(answer) == ["object", "data", "model", "usage"]
    assert (answer["object"], answer["model"]) == ("list", "all-minilm-l6-v2")
    assert [(sorted(item), item["index"]) for item in answer["data"]] == [
        (["index", "relevance_score"], index) for index in (2, 1, 0)
    ]
    assert all(0 <= item["relevance_score"] <= 1 for item in answer["data"])
    assert list(answer["usage"]) == ["total_tokens"]


def test_documents_come_back_as_strings_where_wanted(minilm: Any) -> None:
    _, answer = minilm.post(
        "/voyage/v1/rerank",
        {"query": QUERY, "documents": DOCUMENTS, "top_k": 1, "return_documents": True},
    )
    assert [item["document"] for item in answer["data"]] == [DOCUMENTS[2]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({}, "`documents` is required", id="no documents"),
        pytest.param({"documents": ["a"] * 1001}, "at most 1000", id="too many"),
        pytest.param({"documents": ["a", ""]}, "`documents[1]` is empty", id="empty document"),
        pytest.param({"documents": [{"text": "a"}]}, "must be a string", id="an object"),
        pytest.param({"documents": ["a"], "model": "other"}, "`other`", id="other model"),
        pytest.param({"documents": ["a"], "top_k": 0}, "`top_k` is 0", id="top_k 0"),
        pytest.param({"documents": ["a"], "truncation": None}, "true or false", id="truncation null"),
        pytest.param(
            {"documents": ["bear " * 600], "truncation": False},
            "documents[0]",
            id="too long and not to be cut",
        ),
    ],
)
def test_what_is_wrong_is_a_400_with_a_detail(minilm: Any, fields: dict[str, Any], says: str) -> None:
    status, answer = minilm.post("/voyage/v1/rerank", {"query": "q", **fields})
    assert (status, list(answer)) == (400, ["detail"]), answer
    assert says in answer["detail"]

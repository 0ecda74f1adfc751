"""Infinity's API, as its client sends and reads it, over a real server with a real model."""

from typing import Any

import pytest

QUERY = "What is a panda?"
DOCUMENTS = ["hi", "it is a bear", "The giant panda is a bear species endemic to China."]


def test_it_answers_as_the_client_reads_it(minilm: Any) -> None:
    body = {
        "model": "default/not-specified",
        "query": QUERY,
        "documents": DOCUMENTS,
        "return_documents": False,
        "raw_scores": False,
        "top_n": None,
    }
    status, answer = minilm.post("/infinity/rerank", body)
    assert status == 200, answer
    assert list(answer) == ["object", "results", "model", "usage", "id", "created"]
    assert (answer["object"], answer["model"]) == ("rerank", "all-minilm-l6-v2")
    assert [(result["index"], result["document"]) for result in answer["results"]] == [
        (2, None),
        (1, None),
        (0, None),
    ]
    assert all(0 <= result["relevance_score"] <= 1 for result in answer["results"])
    assert sorted(answer["usage"]) == ["prompt_tokens", "total_tokens"]
    assert answer["id"].startswith("infinity-")


def test_documents_are_strings_and_scores_raw_where_wanted(minilm: Any) -> None:
    _, answer = minilm.post(
        "/infinity/rerank",
        {"query": QUERY, "documents": DOCUMENTS, "return_documents": True, "raw_scores": True, "top_n": 1},
    )
    _, own = minilm.rerank(query=QUERY, documents=DOCUMENTS, top_n=1)
    (result,) = answer["results"]
    assert result["document"] == DOCUMENTS[2]
    assert result["relevance_score"] == own["results"][0]["relevance_score"]


@pytest.mark.parametrize(
    ("fields", "location", "says"),
    [
        pytest.param({}, ["body", "documents"], "is required", id="no documents"),
        pytest.param({"documents": []}, ["body", "documents"], "is empty", id="none"),
        pytest.param({"documents": ["a"] * 2049}, ["body", "documents"], "at most 2048", id="too many"),
        pytest.param({"documents": ["a", 1]}, ["body", "documents", 1], "a string", id="a number"),
        pytest.param({"documents": ["a"], "top_n": 0}, ["body", "top_n"], "at least 1", id="top_n 0"),
        pytest.param({"documents": ["a"], "raw_scores": 1}, ["body", "raw_scores"], "true or", id="number"),
    ],
)
def test_what_is_wrong_is_a_422_with_places(
    minilm: Any, fields: dict[str, Any], location: list[str | int], says: str
) -> None:
    status, answer = minilm.post("/infinity/rerank", {"query": "q", **fields})
    assert (status, list(answer)) == (422, ["detail"]), answer
    (problem,) = answer["detail"]
    assert (list(problem), problem["loc"]) == (["type", "loc", "msg"], location)
    assert says in problem["msg"]


def test_another_model_is_a_400_in_openais_shape(minilm: Any) -> None:
    status, answer = minilm.post("/infinity/rerank", {"query": "q", "documents": ["a"], "model": "other"})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, 400, "model")

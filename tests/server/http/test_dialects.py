"""Which face a request is for, and in whose shape its path's own errors are."""

import json
from typing import Any

import pytest

from rerank_api.errors import ApiError
from rerank_api.faces import FACE_PATHS
from rerank_server.faces.dialects import BY_PATH, chosen_face, face_at, told_by_shape

TEXTS = {"query": "q", "texts": ["a"]}
DOCUMENTS = {"query": "q", "documents": ["a"]}


@pytest.mark.parametrize(
    ("path", "header", "body", "title"),
    [
        pytest.param("/v1/rerank", None, DOCUMENTS, "Jina, GPUStack", id="the default"),
        pytest.param("/v1/rerank", None, TEXTS, "text-embeddings-inference", id="texts"),
        pytest.param("/rerank", None, {**TEXTS, **DOCUMENTS}, "Jina, GPUStack", id="texts beside documents"),
        pytest.param("/rerank", None, [1], "Jina, GPUStack", id="no object"),
        pytest.param("/rerank", "jina", TEXTS, "Jina, GPUStack", id="the header before the shape"),
        pytest.param("/jina/v1/rerank", None, TEXTS, "Jina, GPUStack", id="the path before the shape"),
        pytest.param("/rerank", "cohere", DOCUMENTS, "Cohere v1", id="cohere below v1"),
        pytest.param("/v1/rerank", " Voyage ", DOCUMENTS, "Voyage", id="in any case, with spaces"),
        pytest.param("/v1/rerank", "vllm", DOCUMENTS, "vLLM rerank", id="vllm"),
        pytest.param("/rerank", "infinity", DOCUMENTS, "Infinity", id="infinity"),
        pytest.param("/v2/rerank", None, TEXTS, "Cohere v2", id="v2 is cohere's, whatever the shape"),
        pytest.param("/v2/rerank", "vllm", DOCUMENTS, "vLLM rerank", id="vllm's v2"),
        pytest.param("/score", "vllm", {}, "vLLM score", id="score"),
        pytest.param("/cohere/v1/rerank", "tei", TEXTS, "Cohere v1", id="the path before the header"),
    ],
)
def test_path_then_header_then_shape_choose(path: str, header: str | None, body: object, title: str) -> None:
    assert told_by_shape(path, header, chosen_face(path, header), body).title == title


@pytest.mark.parametrize(
    ("path", "header"),
    [("/v1/rerank", "openai"), ("/v1/rerank", ""), ("/v2/rerank", "tei"), ("/score", "cohere")],
)
def test_a_header_that_names_no_face_of_the_path_is_refused(minilm: Any, path: str, header: str) -> None:
    with pytest.raises(ApiError, match=f"rerank-api is none of those that {path} answers"):
        chosen_face(path, header)
    status, answer = minilm.post(path, DOCUMENTS, **{"Rerank-API": header})
    assert status == 400
    assert "rerank-api" in json.dumps(answer)


def test_every_path_that_the_gateway_lets_through_has_a_face() -> None:
    assert sorted(BY_PATH) == sorted(FACE_PATHS)
    assert len(set(FACE_PATHS)) == len(FACE_PATHS)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/rerank", "jina"),
        ("/nowhere", "jina"),
        ("/", "jina"),
        ("/cohere", "cohere"),
        ("/cohere/v9/rerank", "cohere"),
        ("/v2/rerank", "cohere"),
        ("/voyage/x", "voyage"),
        ("/tei/info", "tei"),
        ("/vllm/x", "vllm"),
        ("/score", "vllm"),
        ("/infinity/x", "infinity"),
        ("/coherent", "jina"),
    ],
)
def test_a_path_has_a_shape_even_where_there_is_nothing(path: str, name: str) -> None:
    assert face_at(path).name == name


SHAPES = {
    "jina": ["error"],
    "cohere": ["message"],
    "voyage": ["detail"],
    "tei": ["error", "error_type"],
    "vllm": ["error"],
    "infinity": ["error"],
}


@pytest.mark.parametrize("path", sorted(FACE_PATHS))
def test_another_method_is_refused_in_the_shape_of_the_face(minilm: Any, path: str) -> None:
    status, headers, answer = minilm.full("GET", path)
    face = face_at(path)
    expected = ["detail"] if face.name == "infinity" else SHAPES[face.name]
    assert list(answer) == expected
    assert status == 405
    assert headers["allow"] == "POST"


@pytest.mark.parametrize("prefix", ["cohere", "voyage", "tei", "vllm", "infinity", "jina"])
def test_an_unknown_path_is_refused_in_the_shape_of_its_prefix(minilm: Any, prefix: str) -> None:
    status, answer = minilm.post(f"/{prefix}/v9/nothing", {})
    assert status == 404
    assert list(answer) == (["detail"] if prefix == "infinity" else SHAPES[prefix])


@pytest.mark.parametrize("path", sorted(FACE_PATHS))
def test_a_body_over_the_limit_is_a_413_in_the_shape_of_the_face(minilm: Any, path: str) -> None:
    status, answer = minilm.request("POST", path, b" " * (10 * 1024 * 1024 + 1))
    assert (status, list(answer)) == (413, SHAPES[face_at(path).name])


@pytest.mark.parametrize("path", sorted(FACE_PATHS))
def test_a_compressed_body_is_a_415_in_the_shape_of_the_face(minilm: Any, path: str) -> None:
    status, headers, answer = minilm.full("POST", path, b"{}", content_encoding="gzip")
    assert (status, headers["accept-encoding"]) == (415, "identity")
    assert list(answer) == SHAPES[face_at(path).name]
    assert "send it uncompressed" in json.dumps(answer)

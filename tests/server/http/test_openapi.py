"""The OpenAPI document holds: what is generated from it is answered as it says, and its page stands alone."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from rerank_api.faces import FACE_PATHS
from rerank_server.faces.dialects import FACES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 20


@pytest.fixture(scope="session")
def document(minilm: Any) -> dict[str, Any]:
    """The document as the server gives it."""
    status, answer = minilm.request("GET", "/openapi.json")
    assert status == 200
    return dict(answer)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("path", FACE_PATHS)
def test_what_is_generated_is_answered_as_the_document_says(
    minilm: Any, document: dict[str, Any], path: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{minilm.port}", timeout=60)
        case.validate_response(response, checks=CHECKS)
        seen.add(response.status_code)

    ask()
    assert seen
    assert (200 in seen) or mode is GenerationMode.NEGATIVE


@pytest.mark.parametrize("face", FACES, ids=[face.title for face in FACES])
def test_the_examples_are_answered(minilm: Any, face: Any) -> None:
    for path in face.paths:
        status, answer = minilm.post(path, face.example)
        assert status == 200, answer
        TypeAdapter(face.response).validate_python(answer, strict=True)


def test_every_field_that_is_not_plain_is_explained(document: dict[str, Any]) -> None:
    plain = {"query", "documents", "texts", "model", "return_documents", "return_text", "top_n"}
    sides = {"queries", "items", "text_1", "text_2", "data_1", "data_2"}
    silent = {
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        if name.endswith("Request")
        for field, about in schema["properties"].items()
        if "description" not in about and field not in plain | sides
    }
    assert not silent


def test_the_page_shows_every_path_and_loads_nothing(minilm: Any) -> None:
    status, headers, page = minilm.full("GET", "/docs")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    for path in FACE_PATHS:
        assert f"POST {path}<" in page
    assert not re.findall(r"<script|<link|<img|@import|url\(|src=", page)
    assert set(re.findall(r'href="([^"#]*)', page)) <= {"", "openapi.json"}


@pytest.mark.parametrize("path", ["/v1/models", "/vllm/v1/models", "/infinity/models"])
def test_the_model_is_listed_under_all_of_its_names(minilm: Any, path: str) -> None:
    _, answer = minilm.request("GET", path)
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == [
        "all-minilm-l6-v2",
        "sentence-transformers/all-MiniLM-L6-v2",
    ]
    for model in answer["data"]:
        assert minilm.request("GET", f"{path}/{model['id']}") == (200, model)
        assert model["max_model_len"] == 256
        assert (model["family"], model["score_scale"]) == ("embedding", "cosine")
        assert model["capabilities"] == ["rerank"]
        assert model["owned_by"] == ("infinity" if "infinity" in path else "all-minilm-l6-v2")
    assert minilm.request("GET", f"{path}/other")[0] == (400 if "infinity" in path else 404)

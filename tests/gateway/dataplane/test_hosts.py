"""A host of a model's own: where a request names no model, the host decides."""

from typing import Any

import pytest

NAMELESS = b'{"query":"q","documents":["d"]}'


@pytest.mark.parametrize(
    "host", ["echo.test", "echo.test:8443", "ECHO.Test", "Echo.TEST:80", "xn--echo-1.test"]
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank?a=b"])
def test_a_request_that_names_no_model_reaches_the_one_of_its_host(caller: Any, host: str, path: str) -> None:
    for body in (NAMELESS, b"{}", b' {"Model": "idle", "documents": [{"model": "idle"}]}\n'):
        reply = caller.post(path, body, host=host)
        assert reply.status == 200, reply.body
        received = {name.lower(): value for name, value in reply.json["headers"]}
        assert (reply.json["path"], reply.json["length"]) == (path, len(body))
        assert not [name for name in received if name.startswith("x-rerank-")]
        assert not [name for name in reply.headers if name.lower().startswith("x-rerank-")]


def test_a_chunked_body_is_sent_to_the_model_of_its_host(gateway: Any) -> None:
    seen = gateway.upstreams["echo"].seen
    before = len(seen)
    head = b"POST /v1/rerank HTTP/1.1\r\nhost: echo.test\r\ntransfer-encoding: chunked\r\n\r\n"
    reply = gateway.caller.raw(head, *(b"1\r\n%c\r\n" % byte for byte in NAMELESS), b"0\r\n\r\n")
    assert (reply.status, reply.json["length"]) == (200, len(NAMELESS))
    assert len(seen) == before + 1


@pytest.mark.parametrize(
    ("headers", "path", "body"),
    [
        pytest.param((), "/v1/rerank", b'{"model":"BAAI/echo:v2@prod"}', id="in the body"),
        pytest.param((("x-gpustack-model", "BAAI/echo:v2@prod"),), "/v1/rerank", NAMELESS, id="in a header"),
        pytest.param((), "/model/proxy/BAAI/echo:v2@prod/rerank", NAMELESS, id="in the path"),
    ],
)
def test_a_name_goes_before_the_host(
    caller: Any, headers: tuple[tuple[str, str], ...], path: str, body: bytes
) -> None:
    reply = caller.post(path, body, headers, host="idle.test")
    assert reply.status == 200
    assert ["x-rerank-model", "BAAI/echo:v2@prod"] in reply.json["headers"]


@pytest.mark.parametrize(
    "host",
    [
        "gateway.test",
        "other.echo.test",
        "echo.test.",
        "echo",
        "127.0.0.1",
        "[::1]:8080",
    ],
)
def test_a_host_without_a_model_leaves_the_request_without_one(caller: Any, host: str) -> None:
    reply = caller.post("/v1/rerank", NAMELESS, host=host)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "missing_model", "model")
    assert reply.error["message"].startswith("The request names no model. Name it in the body's `model`")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"model":null}', "missing_model", id="null"),
        pytest.param(b'{"model":""}', "missing_model", id="empty"),
        pytest.param(b'{"model":5}', "missing_model", id="a number"),
        pytest.param(b'{"model":"a b"}', "missing_model", id="no name"),
        pytest.param(b"[]", "missing_model", id="a list"),
        pytest.param(b"", "invalid_json", id="no body"),
        pytest.param(b"{", "invalid_json", id="cut"),
    ],
)
def test_a_host_mends_no_bad_name_and_no_bad_body(caller: Any, body: bytes, code: str) -> None:
    reply = caller.post("/v1/rerank", body, host="echo.test")
    assert (reply.status, reply.error["code"]) == (400, code)


@pytest.mark.parametrize(
    ("host", "status", "code", "retry_after"),
    [
        pytest.param("idle.test", 503, "model_not_ready", "2", id="no replica"),
        pytest.param("refused.test", 503, "replica_failed", None, id="nobody listens"),
        pytest.param("slow.test", 504, "timeout", None, id="no answer in time"),
    ],
)
def test_the_model_of_a_host_that_cannot_answer_gives_the_one_error_body(
    gateway: Any, host: str, status: int, code: str, retry_after: str | None
) -> None:
    reply = gateway.caller.post("/v1/rerank", NAMELESS, host=host)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["retry-after"] == retry_after
    assert f"`{host}`" in reply.error["message"]


def test_a_caller_cannot_choose_the_host_by_other_headers(gateway: Any) -> None:
    chosen = (("x-forwarded-host", "echo.test"), ("x-rerank-cluster", "h/echo.test"))
    assert gateway.caller.post("/v1/rerank", NAMELESS, chosen).error["code"] == "missing_model"


def test_a_body_of_a_host_may_have_the_limit_and_not_one_byte_more(gateway: Any) -> None:
    limit = gateway.settings.max_body_bytes
    for size, status in ((limit, 200), (limit + 1, 413)):
        body = b'{"query":"' + b"x" * (size - 12) + b'"}'
        assert gateway.caller.post("/v1/rerank", body, host="echo.test").status == status

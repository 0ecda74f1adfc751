"""Requests that break HTTP: refused in the one error body, and nothing of them reaches a model server."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest

BODY = b'{"model":"echo","query":"q"}'
LINE = b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\n"
SMUGGLED = b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 28\r\n\r\n" + BODY


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(
            LINE + b"content-length: 28\r\ncontent-length: 5\r\n\r\n" + BODY, 400, id="two different lengths"
        ),
        pytest.param(LINE + b"content-length: 28, 28\r\n\r\n" + BODY, 400, id="a list of lengths"),
        pytest.param(LINE + b"content-length: -1\r\n\r\n", 400, id="a negative length"),
        pytest.param(LINE + b"content-length: 1e3\r\n\r\n" + BODY, 400, id="a length that is no number"),
        pytest.param(
            LINE + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
            400,
            id="a length and chunks",
        ),
        pytest.param(
            LINE + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
            501,
            id="two transfer encodings",
        ),
        pytest.param(
            LINE + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501, id="an unknown transfer encoding"
        ),
        pytest.param(
            LINE + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, id="a chunk size that is no number"
        ),
        pytest.param(LINE + b"x-a: b\rx-rerank-cluster: m/echo\r\n\r\n", 400, id="a bare carriage return"),
        pytest.param(LINE + b"x-a: b\x00c\r\n\r\n", 400, id="NUL in a header"),
        pytest.param(LINE + b"x-gpustack-model : echo\r\n\r\n", 400, id="space before a colon"),
        pytest.param(LINE + b" folded: x\r\n\r\n", 400, id="a folded first header"),
        pytest.param(b"POST /v1/rerank HTTP/1.1\r\ncontent-length: 28\r\n\r\n" + BODY, 400, id="no host"),
        pytest.param(b"POST /v1/rerank\x00 HTTP/1.1\r\nhost: a\r\n\r\n", 400, id="NUL in the path"),
        pytest.param(b"POST /v1/rerank#x HTTP/1.1\r\nhost: a\r\n\r\n", 400, id="a fragment in the path"),
        pytest.param(b"POST /v1/rerank%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400, id="encoded NUL in the path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"GET /healthz HTTP/1.0\r\n\r\n", 426, id="HTTP/1.0"),
        pytest.param(LINE + b"x-a: " + b"b" * 40_000 + b"\r\n\r\n", 431, id="a long header"),
        pytest.param(LINE + b"x-a: b\r\n" * 150 + b"\r\n", 431, id="many headers"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404, id="the whole server's options"),
        pytest.param(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 404, id="a tunnel"),
    ],
)
def test_malformed_http_is_refused_in_the_one_error_body(
    gateway: Any, request_bytes: bytes, status: int
) -> None:
    before = len(gateway.upstreams["echo"].seen)
    reply = gateway.caller.raw(request_bytes)
    assert reply.status == status
    assert reply.error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert len(gateway.upstreams["echo"].seen) == before


def test_a_body_that_stops_halfway_is_given_up_in_time(
    impatient: Any, request_head: Callable[..., bytes]
) -> None:
    with ExitStack() as connections:
        waiting = [connections.enter_context(closing(impatient.caller.connect())) for _ in range(2)]
        for connection, named in zip(waiting, ((), (("x-gpustack-model", "echo"),)), strict=True):
            connection.sendall(
                request_head("POST", "/v1/rerank", (("content-length", "28"), *named)) + BODY[:9]
            )
        for connection in waiting:
            reply = impatient.caller.read(connection)
            assert (reply.status, reply.error["code"]) == (408, "invalid_request")
            assert "within 3 s" in reply.error["message"]


def test_a_caller_that_expects_100_continue_is_asked_for_its_body(
    gateway: Any, request_head: Callable[..., bytes]
) -> None:
    with closing(gateway.caller.connect()) as connection:
        head = request_head("POST", "/v1/rerank", (("content-length", "28"), ("expect", "100-continue")))
        connection.sendall(head)
        with connection.makefile("rb") as response:
            assert response.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert response.readline() == b"\r\n"
        connection.sendall(BODY)
        assert gateway.caller.read(connection).json["length"] == 28


def test_a_connection_serves_one_request_after_another(
    gateway: Any, request_head: Callable[..., bytes]
) -> None:
    head = request_head("POST", "/v1/rerank", (("content-length", "28"),))
    with closing(gateway.caller.connect()) as connection:
        for _ in range(3):
            connection.sendall(head + BODY)
            assert gateway.caller.read(connection).status == 200


def test_what_an_error_repeats_of_a_request_is_escaped(gateway: Any) -> None:
    reply = gateway.caller.ask("GET", '/nothing?a="b\\c%22%0a')
    assert reply.status == 404
    assert '/nothing?a="b\\c%22%0a' in reply.error["message"]


def test_the_access_log_has_a_json_line_a_request_and_no_text_of_bodies(gateway: Any) -> None:
    body = b'{"model":"echo","query":"secret words"}'
    request_id = "log-line-1"
    assert gateway.caller.post("/v1/rerank", body, (("x-request-id", request_id),)).status == 200
    gateway.caller.ask("GET", "/healthz")
    line = find_line(gateway, request_id)
    assert (line["status"], line["model"], line["path"]) == (200, "echo", "/v1/rerank")
    assert line["bytes_received"] == len(body)
    assert "secret" not in gateway.settings.access_log.read_text()


def test_the_requests_called_http2_arrive_as_http2(gateway: Any, http2_caller: Any) -> None:
    for caller, protocol in ((gateway.caller, "HTTP/1.1"), (http2_caller, "HTTP/2")):
        request_id = f"by-{protocol}"
        caller.post("/v1/rerank", BODY, (("x-request-id", request_id),))
        assert find_line(gateway, request_id)["protocol"] == protocol


def find_line(gateway: Any, request_id: str) -> dict:
    """Wait for Envoy to flush its log, which it does at most ten seconds later."""
    deadline = time.monotonic() + 120
    while True:
        whole, _, _ = gateway.settings.access_log.read_text().rpartition("\n")
        for line in whole.splitlines():
            if request_id in line:
                return json.loads(line)
        assert time.monotonic() < deadline, "the request never came to the access log"
        time.sleep(0.1)

"""Bytes that two HTTP parsers might split differently: refused, or exactly one request to the replica.

What counts is what the replica received. `test_malformed_http.py` has what Envoy plainly refuses.
"""

from contextlib import closing
from typing import Any

import pytest

BODY = b'{"model":"echo","query":"q"}'
HOST = b"host: a\r\n"
LINE = b"POST /v1/rerank HTTP/1.1\r\n" + HOST
LENGTH = b"content-length: 28\r\n"
SECOND = b"POST /rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 28\r\n\r\n" + BODY
CHUNKED = LINE + b"transfer-encoding: chunked\r\n"


def post(target: bytes) -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY


REFUSED = [
    pytest.param(LINE + LENGTH + LENGTH + b"\r\n" + BODY, id="the same length twice"),
    pytest.param(LINE + HOST + LENGTH + b"\r\n" + BODY, id="the same host twice"),
    pytest.param(LINE + b"host: b\r\n" + LENGTH + b"\r\n" + BODY, id="two hosts"),
    pytest.param(b"GET /v1/models HTTP/1.1\r\n" + HOST + HOST + b"\r\n", id="a host twice for the list"),
    pytest.param(LINE + b"content-length: +28\r\n\r\n" + BODY, id="a length with a sign"),
    pytest.param(LINE + b"content-length: 0x1c\r\n\r\n" + BODY, id="a hexadecimal length"),
    pytest.param(LINE + b"content-length: 2 8\r\n\r\n" + BODY, id="a length with a space in it"),
    pytest.param(LINE + b"content-length: 18446744073709551644\r\n\r\n" + BODY, id="a length beyond 64 bits"),
    pytest.param(CHUNKED + LENGTH + b"\r\n0\r\n\r\n" + SECOND, id="chunks, then a length"),
    pytest.param(
        LINE + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND, id="chunked not last"
    ),
    pytest.param(LINE + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SECOND, id="a vertical tab"),
    pytest.param(LINE + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND, id="space before a colon"),
    pytest.param(LINE + b"x\ra: b\r\n" + LENGTH + b"\r\n" + BODY, id="CR in a name"),
    pytest.param(LINE + b"x\x00a: b\r\n" + LENGTH + b"\r\n" + BODY, id="NUL in a name"),
    pytest.param(LINE + b"x\na: b\r\n" + LENGTH + b"\r\n" + BODY, id="LF in a name"),
    pytest.param(LINE + b": b\r\n" + LENGTH + b"\r\n" + BODY, id="no name"),
    pytest.param(LINE + b"x a: b\r\n" + LENGTH + b"\r\n" + BODY, id="a space in a name"),
    pytest.param(CHUNKED + b"\r\n-1c\r\n" + BODY + b"\r\n0\r\n\r\n", id="a negative chunk"),
    pytest.param(CHUNKED + b"\r\n0x1c\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk's size with 0x"),
    pytest.param(
        CHUNKED + b"\r\n1000000000000001c\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk beyond 64 bits"
    ),
    pytest.param(CHUNKED + b"\r\n1c\r\n" + BODY + b"xx0\r\n\r\n", id="a chunk longer than it says"),
    pytest.param(CHUNKED + b"\r\n\r\n1c\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk without a size"),
    pytest.param(post(b"/v1/rerank/%2e%2e/%2e%2e/metrics"), id="encoded dots to a private path"),
    pytest.param(post(b"/v1/rerank/%2e%2e%2f%2e%2e%2fmetrics"), id="encoded dots and slashes"),
    pytest.param(post(b"/v1/rerank/..%5c..%5cmetrics"), id="encoded backslashes"),
    pytest.param(post(b"/model/proxy/echo/../../../metrics"), id="dots above a model's path"),
    pytest.param(post(b"/model/proxy/echo/%252e%252e/metrics"), id="dots encoded twice"),
    pytest.param(post(b"http://a/metrics"), id="a private path in absolute form"),
    pytest.param(post(b"http://a/v1/rerank/../../metrics"), id="dots in absolute form"),
]

ONE = [
    pytest.param(
        b"POST  /v1/rerank HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY, "/v1/rerank", id="two spaces"
    ),
    pytest.param(LINE + b"host:\r\n" + LENGTH + b"\r\n" + BODY, "/v1/rerank", id="a host, and an empty one"),
    pytest.param(
        LINE + b"x-a: b\r\n\tfolded\r\n" + LENGTH + b"\r\n" + BODY, "/v1/rerank", id="a folded value"
    ),
    pytest.param(
        LINE + b"x-a: b\nx-rerank-cluster: m/idle\r\n" + LENGTH + b"\r\n" + BODY,
        "/v1/rerank",
        id="LF in a value",
    ),
    pytest.param(
        LINE.replace(b"\r\n", b"\n") + b"content-length: 28\n\n" + BODY, "/v1/rerank", id="LF alone"
    ),
    pytest.param(post(b"http://other.test/v1/rerank"), "/v1/rerank", id="absolute form"),
    pytest.param(post(b"/v1/x/../rerank"), "/v1/rerank", id="dots"),
    pytest.param(post(b"/v1/x/%2e%2E/rerank"), "/v1/rerank", id="encoded dots"),
    pytest.param(post(b"/v1\\rerank"), "/v1/rerank", id="a backslash"),
    pytest.param(
        CHUNKED + b"\r\n1c;a=b\r\n" + BODY + b"\r\n0\r\n\r\n", "/v1/rerank", id="a chunk's extension"
    ),
    pytest.param(
        CHUNKED + b"\r\n00001C\r\n" + BODY + b"\r\n0\r\n\r\n", "/v1/rerank", id="zeros before a size"
    ),
    pytest.param(
        CHUNKED + b"\r\n1c\r\n" + BODY + b"\r\n0\r\ncontent-length: 5\r\nx-rerank-cluster: m/idle\r\n\r\n",
        "/v1/rerank",
        id="trailers that pose as headers",
    ),
]


@pytest.mark.parametrize("sent", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_reaches_no_replica(gateway: Any, sent: bytes) -> None:
    seen = gateway.upstreams["echo"].seen
    before = len(seen)
    with closing(gateway.caller.connect()) as connection:
        connection.sendall(sent)
        reply = gateway.caller.read(connection)
        assert 400 <= reply.status < 500 or reply.status == 501
        assert reply.error["type"] in {"invalid_request_error", "server_error"}
        try:
            rest = connection.recv(1)
        except ConnectionResetError:
            rest = b""
        assert rest == b"", "what is behind a refused request is not answered"
    assert len(seen) == before


@pytest.mark.parametrize(("sent", "path"), ONE)
def test_what_is_let_through_is_exactly_one_request_and_the_next_begins_behind_it(
    gateway: Any, sent: bytes, path: str
) -> None:
    seen = gateway.upstreams["echo"].seen
    before = len(seen)
    with closing(gateway.caller.connect()) as connection:
        for part, received in ((sent, path), (SECOND, "/rerank")):
            connection.sendall(part)
            reply = gateway.caller.read(connection)
            assert (reply.status, reply.json["path"], reply.json["length"]) == (200, received, len(BODY))
    assert [(one.method, one.path, one.length) for one in seen[before:]] == [
        ("POST", path, len(BODY)),
        ("POST", "/rerank", len(BODY)),
    ]
    assert [one.headers.get_all("host") for one in seen[before + 1 :]] == [["a"]]
    assert all(len(one.headers.get_all("host")) == 1 for one in seen[before:])
    named = [value for one in seen[before:] for value in one.headers.get_all("x-rerank-model")]
    assert named == ["echo", "echo"]
    assert not any(one.headers.get_all("x-rerank-cluster") for one in seen[before:])

"""A table of requests and what they meet, over HTTP/1.1 and HTTP/2, through the real Envoy and agent."""

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rerank_api.faces import FACE_PATHS
from rerank_api.names import is_model_name

MIB = 1024 * 1024
LIMIT = 10 * MIB
TO_ECHO = (("X-GPUStack-Model", "echo"),)


def naming(model: str, size: int = 0) -> bytes:
    """Return a body that names a model, padded with text to a size in bytes."""
    body = f'{{"model":"{model}","query":"'.encode()
    return body + b"x" * max(0, size - len(body) - 2) + b'"}'


@pytest.mark.parametrize(
    ("path", "headers", "body", "model", "sent_to"),
    [
        pytest.param("/v1/rerank", (), naming("echo"), "echo", "/v1/rerank", id="by the body"),
        pytest.param("/rerank", (), naming("echo"), "echo", "/rerank", id="on the other path"),
        pytest.param(
            "/v1/rerank?a=b&c", (), naming("echo"), "echo", "/v1/rerank?a=b&c", id="with a query string"
        ),
        pytest.param(
            "/v1/rerank",
            (),
            b'{"model":"idle","\\u006dodel":"BAAI\\/echo:v2@prod"}',
            "BAAI/echo:v2@prod",
            "/v1/rerank",
            id="by the last model of the body",
        ),
        pytest.param("/v1/rerank", TO_ECHO, b"not JSON", "echo", "/v1/rerank", id="by GPUStack's header"),
        pytest.param(
            "/v1/rerank", TO_ECHO, naming("idle"), "echo", "/v1/rerank", id="by a header before the body"
        ),
        pytest.param(
            "/v1/rerank",
            (("x-gateway-model-name", "BAAI/echo:v2@prod"),),
            b"",
            "BAAI/echo:v2@prod",
            "/v1/rerank",
            id="by the Gateway API's header",
        ),
        pytest.param(
            "/v1/rerank",
            (*TO_ECHO, ("x-gpustack-model", "echo"), ("X-Gateway-Model-Name", "echo")),
            b"",
            "echo",
            "/v1/rerank",
            id="by headers that agree",
        ),
        pytest.param("/model/proxy/echo/v1/rerank", (), b"no", "echo", "/v1/rerank", id="by the path"),
        pytest.param(
            "/model/proxy/echo/rerank?x=/rerank", (), b"no", "echo", "/rerank?x=/rerank", id="query kept"
        ),
        pytest.param(
            "/model/proxy/BAAI/echo:v2@prod/rerank",
            (),
            b"no",
            "BAAI/echo:v2@prod",
            "/rerank",
            id="slash in a name",
        ),
        pytest.param(
            "/model/proxy/BAAI%2Fecho%3av2%40prod/v1/rerank",
            (),
            b"no",
            "BAAI/echo:v2@prod",
            "/v1/rerank",
            id="encoded name",
        ),
        pytest.param("/model/proxy/v1/v1/rerank", (), b"no", "v1", "/v1/rerank", id="the longest path wins"),
        pytest.param(
            "/model/proxy/BAAI/echo:v2@prod/cohere/v2/rerank",
            (),
            b"no",
            "BAAI/echo:v2@prod",
            "/cohere/v2/rerank",
            id="a dialect's prefix after the name",
        ),
        pytest.param(
            "/model/proxy/echo/rerank", TO_ECHO, b"no", "echo", "/rerank", id="path and header agree"
        ),
        pytest.param(
            "//v1/./x/..//rerank", (), naming("echo"), "echo", "/v1/rerank", id="a path to be resolved"
        ),
        pytest.param(
            "/v1/%72erank", (), naming("echo"), "echo", "/v1/rerank", id="needless percent-encoding"
        ),
        pytest.param(
            "/v1/rerank",
            (("content-encoding", "identity"),),
            naming("echo"),
            "echo",
            "/v1/rerank",
            id="identity",
        ),
        pytest.param(
            "/v1/rerank", (), naming("half-refused"), "half-refused", "/v1/rerank", id="one replica is away"
        ),
    ],
)
def test_a_request_reaches_its_model_on_the_path_that_the_server_has(
    caller: Any, path: str, headers: tuple, body: bytes, model: str, sent_to: str
) -> None:
    reply = caller.post(path, body, headers)
    assert reply.status == 200, reply.body
    received = {name.lower(): value for name, value in reply.json["headers"]}
    assert reply.json["path"] == sent_to
    assert reply.json["length"] == len(body)
    assert received["x-rerank-model"] == model
    assert "x-rerank-cluster" not in received


@pytest.mark.parametrize("path", FACE_PATHS)
def test_every_face_is_let_through_by_body_and_by_path(caller: Any, path: str) -> None:
    for sent, body in ((path, naming("echo")), (f"/model/proxy/echo{path}", b'{"query":"q","texts":["x"]}')):
        reply = caller.post(sent, body, (("Rerank-API", "tei"),))
        received = {name.lower(): value for name, value in reply.json["headers"]}
        assert (reply.status, reply.json["path"]) == (200, path)
        assert (received["x-rerank-model"], received["rerank-api"]) == ("echo", "tei")


@pytest.mark.parametrize(
    ("body", "code", "param", "says"),
    [
        pytest.param(b"", "invalid_json", None, "no body", id="no body"),
        pytest.param(b"{", "invalid_json", None, "at byte 1", id="cut"),
        pytest.param(b'{"model":"echo"} x', "invalid_json", None, "at byte 17", id="trailing bytes"),
        pytest.param(b'{"model":"\xff"}', "invalid_json", None, "at byte 10", id="not UTF-8"),
        pytest.param(b'["echo"]', "missing_model", "model", "no JSON object", id="a list"),
        pytest.param(b'{"query":"q"}', "missing_model", "model", "names no model", id="no model"),
        pytest.param(b'{"model":null}', "missing_model", "model", "is null", id="null"),
        pytest.param(b'{"model":5}', "missing_model", "model", "not a string", id="a number"),
        pytest.param(b'{"model":{"model":"echo"}}', "missing_model", "model", "not a string", id="an object"),
        pytest.param(b'{"model":""}', "missing_model", "model", "empty string", id="empty"),
        pytest.param(b'{"model":"a b"}', "missing_model", "model", "cannot be a model's name", id="a space"),
        pytest.param(
            b'{"model":"echo\\r\\nx: y"}', "missing_model", "model", "cannot be", id="a header in a name"
        ),
        pytest.param(b'{"model":"' + b"m" * 254 + b'"}', "missing_model", "model", "1 to 253", id="too long"),
        pytest.param(b'{"model":"../agent"}', "missing_model", "model", "begins with a dot", id="dots"),
        pytest.param(b'{"model":"none"}', "model_not_found", "model", "`none`", id="unknown"),
        pytest.param(
            b'{"model":"a%REQ(host)%"}', "missing_model", "model", "cannot be", id="a format of Envoy's"
        ),
    ],
)
def test_a_body_without_a_known_model_is_refused_with_a_sentence(
    caller: Any, body: bytes, code: str, param: str | None, says: str
) -> None:
    reply = caller.post("/v1/rerank", body)
    assert (reply.status, reply.error["code"]) == (404 if code == "model_not_found" else 400, code)
    assert reply.error["param"] == param
    assert says in reply.error["message"]


@pytest.mark.parametrize(
    ("path", "headers", "code", "says"),
    [
        pytest.param("/v1/rerank", (("x-gpustack-model", ""),), "missing_model", "header", id="empty header"),
        pytest.param("/v1/rerank", (("x-gpustack-model", "a,b"),), "missing_model", "header", id="a list"),
        pytest.param(
            "/v1/rerank", (("x-gpustack-model", "\xe9"),), "missing_model", "header", id="not ASCII"
        ),
        pytest.param(
            "/v1/rerank",
            (*TO_ECHO, ("X-Gateway-Model-Name", "idle")),
            "invalid_request",
            "two different models",
            id="headers that differ",
        ),
        pytest.param(
            "/v1/rerank",
            (*TO_ECHO, ("x-gpustack-model", "idle")),
            "invalid_request",
            "two different",
            id="twice",
        ),
        pytest.param(
            "/model/proxy/idle/rerank", TO_ECHO, "invalid_request", "two different", id="path and header"
        ),
        pytest.param("/model/proxy/v1/rerank", (), "missing_model", "The path", id="no name in the path"),
        pytest.param("/model/proxy/rerank", (), "missing_model", "The path", id="no name in the short path"),
        pytest.param(
            "/model/proxy/vllm/v1/rerank", (), "missing_model", "The path", id="a dialect and no name"
        ),
        pytest.param("/model/proxy/a%20b/rerank", (), "missing_model", "The path", id="encoded space"),
        pytest.param("/model/proxy/a%252Fb/rerank", (), "missing_model", "The path", id="encoded twice"),
        pytest.param(
            "/model/proxy/%2e%2e%2fagent/rerank", (), "missing_model", "The path", id="encoded dots"
        ),
    ],
)
def test_a_head_that_names_no_one_model_is_refused_with_a_sentence(
    caller: Any, path: str, headers: tuple, code: str, says: str
) -> None:
    reply = caller.post(path, naming("echo"), headers)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, None)
    assert says in reply.error["message"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/metrics",
            "/status",
            "/verify",
            "/livez",
            "/readyz",
            "/v1",
            "/v1/",
            "/v1/rerank/",
            "/v1/rerank;a",
            "/V1/rerank",
        ),
        *(
            "/v1%2Frerank",
            "/v1/rerank/../../metrics",
            "/v1/../metrics",
            "//metrics",
            "/%6detrics",
            "/rerank/..%2fmetrics",
        ),
        *(
            "/v1/rerank%2f..%2fmetrics",
            "/v1/modelsx",
            "/healthz/x",
            "/model/proxy",
            "/model/proxy/",
            "/model/proxy/echo",
        ),
        *(
            "/model/proxy/echo/metrics",
            "/model/proxy/echo/v1/rerank/",
            "/model/proxy/echo/v1/models",
            "/stats",
            "/docs",
            "/openapi.json",
            "/cohere",
            "/tei",
            "/vllm/metrics",
            "/infinity/models",
            "/v1/score/",
            "/v2/models",
        ),
    ],
)
@pytest.mark.parametrize("headers", [pytest.param((), id="bare"), pytest.param(TO_ECHO, id="with a header")])
def test_no_other_path_reaches_a_model_server(gateway: Any, path: str, headers: tuple) -> None:
    before = len(gateway.upstreams["echo"].seen)
    for method in ("GET", "POST", "DELETE"):
        reply = gateway.caller.ask(method, path, None if method == "GET" else naming("echo"), headers)
        assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert len(gateway.upstreams["echo"].seen) == before


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(
            pytest.param(m, "/v1/rerank", "POST", id=m)
            for m in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
        ),
        pytest.param("GET", "/model/proxy/echo/v1/rerank", "POST", id="GET below the model"),
        pytest.param("POST", "/v1/models", "GET", id="POST to the list of models"),
        pytest.param("DELETE", "/v1/models/echo", "GET", id="DELETE of a model"),
        pytest.param("POST", "/healthz", "GET", id="POST to the health"),
    ],
)
def test_another_method_is_refused_and_told_the_right_one(
    caller: Any, method: str, path: str, allowed: str
) -> None:
    reply = caller.ask(method, path)
    assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")
    assert reply.headers.get_all("allow") == [allowed]
    assert allowed in reply.error["message"]


def test_the_list_of_models_comes_from_the_agent(caller: Any) -> None:
    names = {model["id"] for model in caller.ask("GET", "/v1/models").json["data"]}
    assert {"echo", "idle", "BAAI/echo:v2@prod"} <= names
    for path in ("/v1/models/BAAI/echo:v2@prod", "/v1/models/BAAI%2Fecho:v2@prod"):
        assert caller.ask("GET", path).json["id"] == "BAAI/echo:v2@prod"
    assert caller.ask("GET", "/v1/models/none").error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("model", "status", "code", "retry_after"),
    [
        pytest.param("idle", 503, "model_not_ready", "2", id="no replica"),
        pytest.param("refused", 503, "replica_failed", None, id="nobody listens"),
        pytest.param("killer", 503, "replica_failed", None, id="the replica hangs up"),
        pytest.param("slow", 504, "timeout", None, id="no answer in time"),
    ],
)
def test_a_model_that_cannot_answer_gives_the_one_error_body(
    gateway: Any, impatient: Any, model: str, status: int, code: str, retry_after: str | None
) -> None:
    caller = (impatient if model == "slow" else gateway).caller
    reply = caller.post("/v1/rerank", naming(model))
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["retry-after"] == retry_after
    assert f"`{model}`" in reply.error["message"]
    assert "127.0.0.1" not in reply.body.decode()


def test_a_request_that_a_server_may_have_seen_is_not_sent_to_another(gateway: Any) -> None:
    servers = [gateway.upstreams[name] for name in ("killer-1", "killer-2")]
    before = sum(len(server.seen) for server in servers)
    assert gateway.caller.post("/v1/rerank", naming("killer")).error["code"] == "replica_failed"
    assert sum(len(server.seen) for server in servers) == before + 1


def test_an_error_of_a_model_server_passes_untouched_and_is_not_tried_again(gateway: Any) -> None:
    servers = [gateway.upstreams[name] for name in ("busy-1", "busy-2")]
    before = sum(len(server.seen) for server in servers)
    reply = gateway.caller.post(
        "/v1/rerank", naming("busy"), (("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3"))
    )
    assert (reply.status, reply.body) == (503, b"busy, in my own words")
    assert (reply.headers["content-type"], reply.headers["retry-after"]) == ("text/plain", "7")
    assert sum(len(server.seen) for server in servers) == before + 1


@pytest.mark.parametrize(
    "spoofed",
    [
        pytest.param((("x-rerank-cluster", "m/idle"),), id="cluster"),
        pytest.param((("X-Rerank-Cluster", "agent"), ("x-rerank-cluster", "ads")), id="cluster twice"),
        pytest.param(
            (("X-RERANK-MODEL", "idle"), ("x-rerank-model", "idle"), ("x-rerank-other", "x")), id="model"
        ),
    ],
)
def test_internal_headers_of_callers_are_dropped_and_those_of_servers_too(
    caller: Any, spoofed: tuple
) -> None:
    for reply in (
        caller.post("/v1/rerank", naming("echo"), spoofed),
        caller.post("/v1/rerank", b"", (*spoofed, *TO_ECHO)),
    ):
        assert reply.status == 200
        internal = [(n, v) for n, v in reply.json["headers"] if n.lower().startswith("x-rerank-")]
        assert internal == [("x-rerank-model", "echo")]
        assert reply.headers["x-own"] == "kept"
        assert not [name for name in reply.headers if name.lower().startswith("x-rerank-")]
    refused = caller.post("/v1/rerank", b"{}", spoofed)
    assert refused.error["code"] == "missing_model"


def test_every_answer_has_a_request_id_and_a_caller_may_choose_it(gateway: Any) -> None:
    chosen = (("x-request-id", "my-own-id-1"),)
    assert gateway.caller.post("/v1/rerank", naming("echo"), chosen).headers["x-request-id"] == "my-own-id-1"
    assert gateway.caller.post("/v1/rerank", b"{}", chosen).headers["x-request-id"] == "my-own-id-1"
    ids = {gateway.caller.ask("GET", "/v1/nothing").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert None not in ids


@pytest.mark.parametrize(
    "way", [pytest.param("post", id="length ahead"), pytest.param("post_chunked", id="chunked")]
)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/v1/rerank", (), id="scanned"),
        pytest.param("/v1/rerank", TO_ECHO, id="named by a header"),
        pytest.param("/model/proxy/echo/v1/rerank", (), id="named by the path"),
    ],
)
def test_a_body_may_have_the_limit_and_not_one_byte_more(
    caller: Any, path: str, headers: tuple, way: str
) -> None:
    send: Callable[..., Any] = getattr(caller, way)
    at_limit = send(path, naming("echo", LIMIT), headers)
    assert (at_limit.status, at_limit.json["length"]) == (200, LIMIT)
    above = send(path, naming("echo", LIMIT + 1), headers)
    assert (above.status, above.error["code"]) == (413, "request_too_large")
    assert str(LIMIT) in above.error["message"]


def test_a_name_in_chunks_of_any_size_is_found(gateway: Any) -> None:
    body = naming("BAAI/echo:v2@prod", 200)
    for size in (1, 2, 7, 64, 199):
        reply = gateway.caller.post_chunked("/v1/rerank", body, size=size)
        assert (reply.status, reply.json["length"]) == (200, 200)


def test_the_real_envoy_reads_thousands_of_bodies_as_orjson_reads_them(
    gateway: Any,
    orjson_verdict: Callable[[bytes], tuple[str, str | None]],
    json_bodies: Callable[[int, int], Iterator[tuple[str, bytes]]],
) -> None:
    seen = dict.fromkeys(("invalid_json", "missing_model", "model_not_found"), 0)
    for kind, body in json_bodies(7, 3000):
        problem, model = orjson_verdict(body)
        code = "invalid_json" if problem == "invalid_json" else "missing_model"
        if model is not None and is_model_name(model):
            code = "model_not_found"
        reply = gateway.caller.post("/v1/rerank", body)
        assert reply.error["code"] == code, (kind, body)
        if code == "model_not_found":
            assert f"`{model}`" in reply.error["message"]
        seen[code] += 1
    print(seen)
    assert min(seen.values()) >= 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("content-encoding", "gzip"),), id="gzip"),
        pytest.param((("Content-Encoding", "br, gzip"),), id="two codings"),
        pytest.param((("content-encoding", "identity"), ("content-encoding", "gzip")), id="two headers"),
        pytest.param((("content-encoding", "deflate"), *TO_ECHO), id="the model in a header"),
    ],
)
def test_a_compressed_body_is_refused_with_what_is_taken(caller: Any, headers: tuple) -> None:
    """RFC 9110, 15.5.16: 415, and Accept-Encoding says which codings would do."""
    reply = caller.post("/v1/rerank", gzip.compress(naming("echo")), headers)
    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
    assert reply.headers["accept-encoding"] == "identity"
    assert "send it uncompressed" in reply.error["message"]


def test_a_bomb_is_refused_before_it_is_there(gateway: Any, request_head: Any) -> None:
    head = request_head("POST", "/v1/rerank", (("content-encoding", "gzip"), ("content-length", "9000000")))
    assert gateway.caller.raw(head).status == 415

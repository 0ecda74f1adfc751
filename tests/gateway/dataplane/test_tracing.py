"""Spans of a real Envoy, as a collector receives them over OTLP: whose child is whose, and what they say."""

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rerank_api.keys import digest_of, make_key
from rerank_gateway.__main__ import main
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.models import Consumer
from rerank_gateway.tracing import Tracing
from tests.support.otlp import CLIENT, SERVER, Collector, collecting

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MARKER = "xylophone-quince"
METERED = json.dumps(
    {"model": "metered", "query": MARKER, "documents": [MARKER] * 3, "tokens": 1234}
).encode()
ECHO = json.dumps({"model": "echo", "query": MARKER}).encode()


def traced_by(flag: str, trace: str = TRACE) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{PARENT}-{flag}"),)


def of_request(request_id: str) -> Any:
    return lambda span: span.attributes.get("guid:x-request-id") == request_id


def received(reply: Any) -> dict[str, str]:
    """The headers that a replica got."""
    return {name.lower(): value for name, value in reply.json["headers"]}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def key() -> str:
    return make_key()


@pytest.fixture(scope="module")
def traced(collector: Collector, traced_gateway: Any, key: str) -> Iterator[Any]:
    """A gateway that asks for keys, and makes a span of every request."""
    consumer = Consumer("rag/search", (digest_of(key),), ("*",))
    with traced_gateway(Tracing(collector.url), consumer) as gateway:
        yield gateway


def test_a_request_is_a_server_span_in_its_callers_trace_with_a_client_span_that_the_replica_is_told_of(
    traced: Any, collector: Collector, key: str
) -> None:
    headers = (*traced_by("01"), ("x-api-key", key), ("x-request-id", "not-a-uuid-1"))
    reply = traced.caller.post(f"/v1/rerank?note={MARKER}", ECHO, headers)
    assert (reply.status, reply.headers["x-request-id"]) == (200, "not-a-uuid-1")
    version, trace, told, flags = received(reply)["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")

    [client] = collector.wait_for(lambda span: span.id == told)
    [server] = collector.wait_for(lambda span: span.id == client.parent)
    assert (server.trace, server.parent, server.name) == (TRACE, PARENT, "POST")
    assert (server.kind, client.kind) == (SERVER, CLIENT)
    assert server.service == "rerank-gateway"
    known = {"http.url": "/v1/rerank", "rerank.model": "echo", "rerank.consumer": "rag/search"}
    assert known.items() <= server.attributes.items()
    assert server.attributes["guid:x-request-id"] == "not-a-uuid-1"


def test_spans_say_what_an_answer_cost_and_nothing_of_texts_or_keys(
    traced: Any, collector: Collector, key: str
) -> None:
    for number, path in enumerate(("/v1/rerank", "/model/proxy/metered/v1/rerank")):
        headers = (("authorization", f"Bearer {key}"), ("x-request-id", f"cost-{number}"))
        assert traced.caller.post(f"{path}?q={MARKER}", METERED, headers).status == 200
        wanted = of_request(f"cost-{number}")
        [server] = collector.wait_for(wanted)
        cost = {"rerank.documents": "3", "rerank.tokens": "1234", "rerank.model": "metered"}
        assert cost.items() <= server.attributes.items()
        assert server.attributes["http.status_code"] == "200"
        assert server.attributes["http.url"] == "/v1/rerank"
    refused = (("authorization", f"Bearer {make_key()}"), ("x-request-id", "refused"))
    assert traced.caller.post(f"/v1/rerank?q={MARKER}", METERED, refused).status == 401
    [span] = collector.wait_for(of_request("refused"))
    assert span.attributes["http.status_code"] == "401"
    secrets = (MARKER, key, key[-20:], digest_of(key))
    assert not [secret for secret in secrets if any(secret.encode() in raw for raw in collector.raw)]


def test_a_request_without_a_trace_begins_one(traced: Any, collector: Collector, key: str) -> None:
    traces = set()
    for _ in range(2):
        reply = traced.caller.post("/v1/rerank", ECHO, (("x-api-key", key),))
        _, trace, told, flags = received(reply)["traceparent"].split("-")
        assert flags == "01"
        [client] = collector.wait_for(lambda span, told=told: span.id == told)
        [server] = collector.wait_for(lambda span, client=client: span.id == client.parent)
        assert (server.trace, server.parent) == (trace, "")
        traces.add(trace)
    assert len(traces) == 2


@pytest.fixture(scope="module")
def unsampled(collector: Collector, traced_gateway: Any) -> Iterator[Any]:
    """A gateway that makes spans only where callers ask for them."""
    with traced_gateway(Tracing(collector.url, sampling=0)) as gateway:
        yield gateway


def test_what_is_not_sampled_is_told_so_to_replicas_and_makes_no_span(
    unsampled: Any, collector: Collector
) -> None:
    asked = {"no-1": (), "no-2": traced_by("00"), "no-3": (("x-envoy-force-trace", "1"),)}
    for request_id, headers in asked.items():
        reply = unsampled.caller.post("/v1/rerank", ECHO, (*headers, ("x-request-id", request_id)))
        assert received(reply)["traceparent"].endswith("-00")
    headers = (*traced_by("01", "a" * 32), ("x-request-id", "yes"))
    assert unsampled.caller.post("/v1/rerank", ECHO, headers).status == 200
    [span] = collector.wait_for(of_request("yes"))
    assert (span.trace, span.parent) == ("a" * 32, PARENT)
    assert not [span for name in asked for span in collector.spans if of_request(name)(span)]


def test_a_collector_that_is_away_or_cannot_be_found_holds_nobody_up(traced_gateway: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for endpoint in (f"http://127.0.0.1:{port}", "http://collector.invalid:4318"):
        with traced_gateway(Tracing(endpoint)) as gateway:
            assert [gateway.caller.post("/v1/rerank", ECHO).status for _ in range(3)] == [200] * 3


def test_probes_of_health_make_no_spans(traced: Any, collector: Collector, key: str) -> None:
    probe = traced.caller.ask("GET", "/healthz", headers=(("x-request-id", "probe"),))
    assert probe.status == 200
    listed = (("x-request-id", "after-the-probe"), ("x-api-key", key))
    assert traced.caller.ask("GET", "/v1/models", headers=listed).status == 200
    collector.wait_for(of_request("after-the-probe"))
    assert not [span for span in collector.spans if of_request("probe")(span)]


WHERE = BootstrapSettings("127.0.0.1", 8080, Path("/run/rerank"))


def test_without_an_endpoint_envoy_knows_of_no_spans() -> None:
    text = json.dumps(bootstrap(WHERE))
    assert not [word for word in ("opentelemetry", '"tracing"', '"traces"', "layered") if word in text]


def test_the_arguments_reach_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("bootstrap", "--listen", "127.0.0.1:8080", "--socket-dir", "/run/rerank")
    endpoint = "http://otel-collector.observability:4318/base/"
    assert main([*given, "--tracing-endpoint", endpoint, "--tracing-sampling", "0.25"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == bootstrap(dataclasses.replace(WHERE, tracing=Tracing(endpoint, 0.25)))
    text = json.dumps(told)
    assert '"http://otel-collector.observability:4318/base/v1/traces"' in text
    assert '{"numerator": 2500, "denominator": "MILLION"}' in text


@pytest.mark.parametrize(
    ("endpoint", "sampling", "sentence"),
    [
        pytest.param("https://collector:4318", 1, "asks for TLS", id="TLS"),
        pytest.param("collector:4317", 1, "no http URL", id="no scheme"),
        pytest.param("http://", 1, "no http URL", id="no host"),
        pytest.param("http://a b:4318", 1, "no http URL", id="no host name"),
        pytest.param("http://collector:port", 1, "no URL", id="no port"),
        pytest.param("http://me:secret@collector:4318", 1, "more than host and path", id="a password"),
        pytest.param("http://collector:4318?a=b", 1, "more than host and path", id="a query"),
        pytest.param("http://collector:4318", 100.5, "no percentage", id="more than all"),
        pytest.param("http://collector:4318", float("nan"), "no percentage", id="no number"),
    ],
)
def test_what_cannot_be_a_collector_is_refused_in_words(
    endpoint: str, sampling: float, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Tracing(endpoint, sampling)
    given = ("bootstrap", "--listen", "127.0.0.1:8080", "--socket-dir", "/run/rerank")
    assert main([*given, "--tracing-endpoint", endpoint, "--tracing-sampling", str(sampling)]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bootstrap", "envoy"])
def test_a_share_of_spans_that_are_sent_nowhere_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (command, "--listen", "127.0.0.1:8080", "--socket-dir", str(tmp_path))
    assert main([*given, "--tracing-sampling", "50"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "name it with --tracing-endpoint" in told.err


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        pytest.param("http://collector", ("collector", 80), id="HTTP's own port"),
        pytest.param("http://10.0.0.1:4318/", ("10.0.0.1", 4318), id="an address"),
        pytest.param("http://[fd00::1]:4318", ("fd00::1", 4318), id="an address of version 6"),
    ],
)
def test_a_collector_is_found_by_host_and_port(endpoint: str, address: tuple[str, int]) -> None:
    tracing = Tracing(endpoint)
    assert tracing.address == address
    assert tracing.url == f"{endpoint.rstrip('/')}/v1/traces"

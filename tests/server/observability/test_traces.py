"""Spans of requests, as a collector receives them, and the standard variables that ask for them."""

import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from rerank_server.tracing import Choice, choose

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MARKER = "xylophone-quince"


def attributes(span: Any) -> dict[str, Any]:
    return {one["key"]: plain(one["value"]) for one in span["attributes"]}


def plain(value: dict[str, Any]) -> Any:
    """64-bit integers are strings in the JSON of protobuf."""
    ((kind, inner),) = value.items()
    return int(inner) if kind == "intValue" else inner


def when(span: Any) -> tuple[int, int]:
    return int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])


def test_a_request_is_a_span_in_its_callers_trace_with_a_child_for_each_part_of_the_work(
    start: Any, collector: Any
) -> None:
    server = start(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_SERVICE_NAME="reranker",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment=tests",
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    began = time.time_ns()
    body = {"query": MARKER, "documents": [MARKER, f"two {MARKER}"]}
    assert server.post("/v1/rerank", body, traceparent=f"00-{TRACE}-{PARENT}-01")[0] == 200
    spans = {span["name"]: span for span in collector.wait_for(4)}
    ended = time.time_ns()
    assert set(spans) == {"POST /v1/rerank", "tokenize", "queue", "compute"}
    root = spans.pop("POST /v1/rerank")
    assert (root["traceId"], root["parentSpanId"], root["kind"]) == (TRACE, PARENT, 2)
    known = attributes(root)
    assert known.pop("rerank.tokens") > 4
    assert known == {
        "http.request.method": "POST",
        "http.route": "/v1/rerank",
        "http.response.status_code": 200,
        "rerank.face": "jina",
        "rerank.model": "minilm",
        "rerank.documents": 2,
    }
    first, last = when(root)
    for child in spans.values():
        assert (child["traceId"], child["parentSpanId"]) == (root["traceId"], root["spanId"])
        assert first <= when(child)[0] <= when(child)[1] <= last
    assert when(spans["tokenize"])[1] <= when(spans["queue"])[0]
    assert when(spans["queue"])[1] <= when(spans["compute"])[0]
    a_second = 10**9  # two clocks are read, one after the other
    assert began - a_second <= first <= last <= ended + a_second
    resource = collector.resource()
    assert resource["service.name"] == "reranker"
    assert resource["deployment.environment"] == "tests"
    assert resource["service.version"]

    assert server.rerank(query="what is a panda", documents=[])[0] == 422
    assert server.request("GET", "/readyz")[0] == 200
    assert server.end() == 0
    refused = [
        span
        for span in collector.spans()
        if span["spanId"] != root["spanId"] and not span.get("parentSpanId")
    ]
    assert [(span["name"], attributes(span)["http.response.status_code"]) for span in refused] == [
        ("POST /v1/rerank", 422)
    ]
    assert all(MARKER.encode() not in raw for raw in collector.raw)


def test_a_collector_that_is_away_holds_nothing_up(start: Any) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        server = start(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{bound.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        assert server.rerank(query="what is a panda", documents=["a bear"])[0] == 200
        server.until(lambda _: "opentelemetry" in server.log.read_text())  # sending them has failed
        assert server.rerank(query="what is a panda", documents=["a bear"])[0] == 200
        assert server.end() == 0


def test_without_the_variables_neither_sdk_nor_exporters_are_imported() -> None:
    program = (
        "import sys, rerank_server.process\n"
        "from rerank_server.tracing import tracer_from\n"
        "assert tracer_from({}) is None\n"
        "sent = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(sent)])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


HERE = "http://collector:4318"


@pytest.mark.parametrize(
    ("environment", "exporters"),
    [
        pytest.param({}, (), id="nothing is said"),
        pytest.param({"OTEL_SERVICE_NAME": "a"}, (), id="a name alone asks for none"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, ("otlp",), id="an endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": HERE}, ("otlp",), id="an endpoint for traces"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, (), id="an empty endpoint"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",), id="the default endpoint"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp, console"}, ("otlp", "console"), id="two"),
        pytest.param({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, (), id="none"),
        pytest.param({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE}, (), id="disabled"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
            ("otlp",),
            id="the protocol that is spoken",
        ),
        pytest.param(
            {
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_ENDPOINT": HERE,
            },
            ("otlp",),
            id="another protocol for the rest",
        ),
    ],
)
def test_spans_are_made_where_the_variables_ask_for_them(
    environment: dict[str, str], exporters: tuple[str, ...]
) -> None:
    assert choose(environment) == Choice(exporters)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER names zipkin", id="exporter"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc",
            id="protocol",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
            "OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf",
            id="the other encoding",
        ),
    ],
)
def test_what_is_asked_for_in_vain_is_said(environment: dict[str, str], sentence: str) -> None:
    choice = choose(environment)
    assert choice.exporters == ()
    assert choice.objection is not None
    assert choice.objection.startswith(sentence)

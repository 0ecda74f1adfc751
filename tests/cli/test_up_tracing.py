"""`rerank up --tracing-endpoint`: one trace from the caller through the gateway to the server's own work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rerank_cli.errors import StartError
from rerank_cli.up import command
from rerank_cli.up.tracing import server_environment, tracing
from tests.support.otlp import Collector, Span, collecting

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TEXT = "panda bear"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def test_the_servers_span_is_a_child_of_the_gateways_in_the_callers_trace(
    tiny_folder: Path, collector: Collector, start_runner: Any
) -> None:
    runner = start_runner(
        tiny_folder,
        *("--tracing-endpoint", collector.url, "--tracing-sampling", "0"),
        cwd=tiny_folder,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    runner.wait_until_served("tiny")
    answer = httpx.post(
        f"{runner.url}/v1/rerank",
        json={"model": "tiny", "query": TEXT, "documents": [TEXT, f"a {TEXT}"]},
        headers={"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "of-the-caller"},
        timeout=120,
        trust_env=False,
    )
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "of-the-caller")

    def only(service: str, parent: str) -> Span:
        [found] = collector.wait_for(lambda span: (span.service, span.parent) == (service, parent))
        return found

    gateway = only("rerank-gateway", CALLER)
    attempt = only("rerank-gateway", gateway.id)
    server = only("rerank-server", attempt.id)
    collector.wait_for(lambda span: span.parent == server.id, 3)
    below = {span.name for span in collector.spans if span.parent == server.id}
    assert below == {"tokenize", "queue", "compute"}
    assert {span.trace for span in collector.spans} == {TRACE}, "nobody else asked for spans"
    for span in (gateway, server):
        said = {name: span.attributes[f"rerank.{name}"] for name in ("model", "documents", "tokens")}
        assert said == {
            "model": "tiny",
            "documents": "2",
            "tokens": str(answer.json()["usage"]["total_tokens"]),
        }
    assert not [raw for raw in collector.raw if TEXT.encode() in raw]


def test_an_endpoint_that_cannot_be_is_refused_before_anything_starts(tiny_folder: Path) -> None:
    with pytest.raises(StartError, match="asks for TLS"):
        command.up([tiny_folder], "127.0.0.1:0", None, None, spans=command.Spans("https://collector:4318"))


def test_a_share_of_spans_that_are_sent_nowhere_is_refused_before_anything_starts(tiny_folder: Path) -> None:
    with pytest.raises(StartError, match="name it with --tracing-endpoint"):
        command.up([tiny_folder], "127.0.0.1:0", None, None, spans=command.Spans(percent=50))


def test_without_an_endpoint_servers_are_told_nothing() -> None:
    assert tracing(None, None) is None
    assert server_environment(None) == {}

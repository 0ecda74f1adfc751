"""An OpenTelemetry collector for tests: OTLP over HTTP, in protobuf as Envoy's or in JSON as servers'."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SERVER, CLIENT = 2, 3
WAIT_S = 120.0
"""Many times the five seconds after which a server sends its spans, or the one second of Envoy."""


@dataclass(frozen=True)
class Span:
    """One span, with its ids in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    """`SERVER` or `CLIENT`, or another of OTLP's numbers."""
    attributes: dict[str, str]


@dataclass
class Collector:
    """What was received."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def wait_for(self, wanted: Callable[[Span], bool], count: int = 1) -> list[Span]:
        """Return the spans of a kind, once there are so many."""
        give_up = time.monotonic() + WAIT_S
        while True:
            found = [span for span in self.spans if wanted(span)]
            if len(found) >= count:
                return found
            if time.monotonic() > give_up:
                raise AssertionError(f"{len(found)} of {count} spans arrived, among {self.spans}")
            time.sleep(0.05)


@contextmanager
def collecting(host: str = "127.0.0.1") -> Iterator[Collector]:
    """Run a collector on one of this machine's addresses."""
    collector = Collector("")

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name that http.server calls
            raw = _body(self)
            known = self.path == "/v1/traces"
            if known:
                collector.raw.append(raw)
                collector.spans.extend(_spans(raw, self.headers["content-type"]))
            self.send_response(200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((host, 0), Receiver) as server:
        collector.url = f"http://{host}:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    """Read a body that says its length, or comes in chunks as Envoy's do."""
    if "content-length" in request.headers:
        return request.rfile.read(int(request.headers["content-length"]))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def _spans(raw: bytes, media_type: str) -> Iterator[Span]:
    if media_type == "application/json":
        return _from_json(json.loads(raw))
    assert media_type == "application/x-protobuf"
    return _from_protobuf(ExportTraceServiceRequest.FromString(raw))


def _from_json(request: Any) -> Iterator[Span]:
    for of_resource in request["resourceSpans"]:
        service = _values(of_resource["resource"])["service.name"]
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                yield Span(
                    service=service,
                    name=span["name"],
                    trace=span["traceId"],
                    id=span["spanId"],
                    parent=span.get("parentSpanId", ""),
                    kind=span["kind"],
                    attributes=_values(span),
                )


def _from_protobuf(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in request.resource_spans:
        service = _values(MessageToDict(of_resource.resource))["service.name"]
        # The classes that come with Envoy's have the name that OTLP gave the field of this number before 1.0.
        for of_scope in of_resource.instrumentation_library_spans:
            for span in of_scope.spans:
                yield Span(
                    service=service,
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    kind=span.kind,
                    attributes=_values(MessageToDict(span)),
                )


def _values(holder: dict[str, Any]) -> dict[str, str]:
    """Return attributes as texts: Envoy sends all as texts, and 64 bits wide numbers are texts in JSON."""
    return {one["key"]: str(next(iter(one["value"].values()))) for one in holder.get("attributes", ())}

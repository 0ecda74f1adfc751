"""The collector that a server process sends spans to."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.servers import WAIT_S


@dataclass
class Collector:
    """What an OTLP/HTTP collector has received."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Any]:
        """Return every span."""
        return [
            span
            for request in self.requests
            for of_resource in request["resourceSpans"]
            for of_scope in of_resource["scopeSpans"]
            for span in of_scope["spans"]
        ]

    def resource(self) -> dict[str, str]:
        """Return who has sent them."""
        attributes = self.requests[0]["resourceSpans"][0]["resource"]["attributes"]
        return {one["key"]: one["value"].get("stringValue") for one in attributes}

    def wait_for(self, count: int) -> list[Any]:
        """Wait until so many spans are there."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            if len(self.spans()) >= count:
                return self.spans()
            time.sleep(0.05)
        raise AssertionError(f"{len(self.spans())} of {count} spans arrived")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Receive spans as JSON over HTTP, as an OpenTelemetry collector does."""
    received = Collector("")

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/json"
            raw = self.rfile.read(int(self.headers["content-length"]))
            received.raw.append(raw)
            received.requests.append(json.loads(raw))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        yield received
        server.shutdown()
        thread.join()

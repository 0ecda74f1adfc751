"""A real Chromium before real gateways: one ranks with the quickstart's model, one does as it is told."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rerank_api.status import ModelState
from rerank_gateway import state_file
from rerank_gateway.models import Endpoint, ServedModel, View
from tests.browser import chromium
from tests.browser.chromium import Browser, Page
from tests.smoke import Runner
from tests.support.ports import free_port

PATIENCE_S = 120.0
MAGIC = "Answer: "
"""A query that begins with it is answered with the JSON behind it."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = chromium.find()
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name one in CHROMIUM")
    directory = Path(tempfile.mkdtemp(prefix="chromium-"))
    try:
        with chromium.running(program, directory) as browser:
            yield browser
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh tab, 1200 pixels wide; no script may fail in it and nothing may be refused to it."""
    opened = browser.page()
    opened.resize(1200, 900)
    opened.emulate("light")
    yield opened
    complaints = opened.complaints()
    opened.close()
    assert complaints == []


@pytest.fixture(scope="session")
def quickstart(browser: Browser) -> Iterator[str]:
    """The address of a `rerank up` that serves the quickstart's model."""
    runner = Runner()
    try:
        url = runner.wait_for(r"http://127\.0\.0\.1:\d+").group()
        runner.wait_for(r"(?m)^all-minilm-l6-v2: Ready")
        yield url
        assert runner.stop() == 0
    finally:
        if runner.process.poll() is None:
            runner.process.kill()
            runner.process.wait()


@dataclass
class Stage:
    """The real agent and Envoy before a model server that answers what a query says."""

    url: str
    _publish: Callable[..., None]
    endpoint: Endpoint
    keys: list[str | None] = field(default_factory=list)
    """The Authorization of each request that reached the model server."""

    def publish(self, *models: ServedModel) -> None:
        """Publish these, and wait until they are listed so."""
        self._publish(models)
        wanted = {model.name: (model.state.value, model.progress) for model in models}
        until(lambda: {e["id"]: (e["state"], e.get("progress")) for e in self.listed()} == wanted)

    def listed(self) -> list[dict]:
        with direct().open(f"{self.url}/v1/models", timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def model(
        self,
        name: str = "stage",
        state: ModelState = ModelState.READY,
        message: str = "It answers.",
        progress: float | None = None,
    ) -> ServedModel:
        endpoints = (self.endpoint,) if state is ModelState.READY else ()
        return ServedModel(name, name, state, message, endpoints, progress=progress)


@pytest.fixture(scope="session")
def _stage(browser: Browser) -> Iterator[Stage]:
    keys: list[str | None] = []
    with ExitStack() as held:
        directory = Path(tempfile.mkdtemp(prefix="gw-"))
        held.callback(shutil.rmtree, directory)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(keys))
        held.callback(server.server_close)
        held.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        port = free_port()
        state, sockets = directory / "state.json", ("--socket-dir", str(directory))
        state_file.write(state, View())
        held.enter_context(_process("agent", "--state-file", str(state), *sockets))
        held.enter_context(_process("envoy", "--listen", f"127.0.0.1:{port}", "--concurrency", "1", *sockets))
        stage = Stage(
            f"http://127.0.0.1:{port}",
            lambda models: state_file.write(state, View(models)),
            Endpoint("127.0.0.1", server.server_port),
            keys,
        )
        until(lambda: stage.listed() == [])
        yield stage


@pytest.fixture
def stage(_stage: Stage) -> Stage:
    """A gateway with one model, `stage`, that is ready."""
    _stage.keys.clear()
    _stage.publish(_stage.model())
    return _stage


@pytest.fixture
def below_a_prefix(stage: Stage) -> Iterator[str]:
    """The address of a proxy that serves the stage below a prefix, and nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _proxy("/below/", stage.url))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/below/"
    server.shutdown()
    server.server_close()


def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds; a refused connection and an error count as not yet."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < give_up, "it never came true"
        time.sleep(0.05)


def direct() -> urllib.request.OpenerDirector:
    """Return what asks loopback, and no proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _handler(keys: list[str | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            keys.append(self.headers["authorization"])
            count = len(asked["documents"])
            told = {"results": [{"index": i, "relevance_score": 1 - i / count} for i in range(count)]}
            status = 200
            if asked["query"].startswith(MAGIC):
                told = json.loads(asked["query"].removeprefix(MAGIC))
                status = told.pop("status", 200)
            body = json.dumps({"model": asked["model"], **told}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _proxy(prefix: str, url: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = urllib.request.Request(f"{url}/{self.path.removeprefix(prefix)}", body or None)
            with direct().open(request, timeout=PATIENCE_S) as answer:
                content = answer.read()
                self.send_response(answer.status)
                for name in ("content-type", "content-security-policy"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    Handler.do_POST = Handler.do_GET
    return Handler


@contextmanager
def _process(*arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "rerank_gateway", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as it:
        try:
            yield
        finally:
            it.kill()

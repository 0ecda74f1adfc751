"""How `rerank up` ends, and that it leaves nothing behind."""

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

READY_S = 240.0
LONG = [
    " ".join("panda" if number >> bit & 1 else "bear" for bit in range(8)) + " a panda is a bear" * 80
    for number in range(250)
]
"""Documents of which no two are the same: a server runs those only once."""


@pytest.fixture
def manifest(tmp_path: Path, write_manifest: Any, tiny_model: Path) -> Path:
    path: Path = write_manifest(tmp_path, "tiny", source={"file": {"path": str(tiny_model)}})
    return path


class LongRequest:
    """A request for the scores of many documents, which cannot be answered before its body is `completed`."""

    def __init__(self, runner: Any) -> None:
        self.outcome: list[Any] = []
        self.completed = threading.Event()
        self._url = f"{runner.url}/v1/rerank"
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def join(self) -> Any:
        """Complete the request, and return its answer, or its error."""
        self.completed.set()
        self._thread.join()
        return self.outcome[0]

    def _send(self) -> None:
        # Named in a header, so that the gateway passes on what it has of the body.
        headers = {"X-GPUStack-Model": "tiny"}
        try:
            answer = httpx.post(
                self._url, content=self._body(), headers=headers, timeout=READY_S, trust_env=False
            )
            self.outcome.append(answer)
        except httpx.HTTPError as error:
            self.outcome.append(error)

    def _body(self) -> Iterator[bytes]:
        body = json.dumps({"model": "tiny", "query": "what is a panda", "documents": LONG}).encode()
        yield body[:-1]
        self.completed.wait()
        yield body[-1:]


@contextlib.contextmanager
def long_request(runner: Any, wait_until: Any) -> Iterator[LongRequest]:
    """Have a request under way, and joined in the end."""
    request = LongRequest(runner)
    try:
        wait_until(lambda: runner.requests_under_way() > 0 or request.outcome, "the request is with Envoy")
        assert request.outcome == [], f"{request.outcome}; the runner said:\n{runner.output}"
        yield request
    finally:
        request.join()


def test_ctrl_c_finishes_what_is_under_way_and_leaves_nothing(
    manifest: Path, start_runner: Any, tmp_path: Path, is_alive: Any, wait_until: Any
) -> None:
    runner = start_runner(manifest, cwd=tmp_path)
    runner.wait_until_served("tiny")
    children, run_dir = runner.children(), runner.run_dir()
    with long_request(runner, wait_until) as request:
        runner.process.send_signal(signal.SIGINT)
        runner.wait_for("^SIGINT: draining")
        answer = request.join()
        assert runner.wait() == 0
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == len(LONG)
    assert len(children) == 3
    assert not any(is_alive(pid) for pid in children)
    assert not run_dir.exists()


def test_a_second_ctrl_c_does_not_wait_and_leaves_nothing(
    manifest: Path, start_runner: Any, tmp_path: Path, is_alive: Any, wait_until: Any
) -> None:
    runner = start_runner(manifest, cwd=tmp_path)
    runner.wait_until_served("tiny")
    children, run_dir = runner.children(), runner.run_dir()
    with long_request(runner, wait_until) as request:
        runner.process.send_signal(signal.SIGINT)
        runner.wait_for("^SIGINT: draining")
        assert runner.end(signal.SIGINT) == 1
    assert "rerank: Stopped before every request was finished." in runner.output
    assert "Traceback" not in runner.output
    assert isinstance(request.join(), httpx.HTTPError)
    assert not any(is_alive(pid) for pid in children)
    assert not run_dir.exists()


def test_a_killed_runner_takes_its_children_along_and_the_next_one_clears_its_directory(
    manifest: Path, start_runner: Any, tmp_path: Path, is_alive: Any, wait_until: Any
) -> None:
    temporary = {"TMPDIR": str(tmp_path)}
    first = start_runner(manifest, cwd=tmp_path, **temporary)
    wait_until(lambda: len(first.children()) == 3 and "envoy.json" in str(first.children()), "three children")
    children, run_dir = first.children(), first.run_dir()
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not any(is_alive(pid) for pid in children), "the children are gone")
    assert run_dir.exists()
    second = start_runner(manifest, cwd=tmp_path, **temporary)
    wait_until(lambda: not run_dir.exists(), "the directory of the first is gone")
    wait_until(second.children, "its own children")
    assert second.end() == 0

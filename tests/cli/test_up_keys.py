"""Keys in a running `rerank up`, with a real server, agent and Envoy: asked for, made, replaced, revoked."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

RERANK = Path(sys.executable).with_name("rerank")
BODY = {"model": "tiny", "query": "a panda", "documents": ["a bear", "hi"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_manifest: Any, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("keyed")
    write_manifest(folder, "tiny", source={"file": {"path": str(tiny_model)}})
    write_manifest(folder, "idle", source={"file": {"path": str(tiny_model)}}, replicas=0)
    return folder


@pytest.fixture(scope="module")
def key_command(folder: Path) -> Callable[..., str]:
    """Run `rerank key …` on a file among the manifests."""

    def run(*arguments: str) -> str:
        command = [RERANK, "key", *arguments, "--file", folder / "consumers.yaml"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return run


@pytest.fixture(scope="module")
def running(folder: Path, start_runner: Any) -> Iterator[Any]:
    """A runner that begins without a consumer: nobody needs a key."""
    runner = start_runner(folder, cwd=folder)
    runner.wait_until_served("tiny")
    yield runner
    runner.end()


def status(running: Any, key: str | None = None, path: str = "/v1/rerank") -> int | str:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        if path == "/v1/rerank":
            answer = httpx.post(running.url + path, json=BODY, headers=headers, timeout=60, trust_env=False)
        else:
            answer = httpx.get(running.url + path, headers=headers, timeout=60, trust_env=False)
    except httpx.HTTPError as error:
        return repr(error)
    return answer.status_code


def test_keys_are_asked_for_once_there_is_a_consumer_and_follow_the_files_from_then_on(
    running: Any, folder: Path, key_command: Callable[..., str], wait_until: Any
) -> None:
    assert status(running) == 200

    key = key_command("create", "search", "--model", "tiny")
    wait_until(lambda: status(running) == 401 and status(running, key) == 200, "keys are asked for")
    assert status(running, key, "/healthz") == 200
    assert status(running, key, "/v1/models/tiny") == 200
    assert status(running, key, "/v1/models/idle") == 404
    running.wait_for("the gateway starts anew, and asks for keys from then on")

    newer = key_command("rotate", "search")
    wait_until(lambda: status(running, newer) == 200, "the new key counts")
    assert status(running, key) == 200
    key_command("revoke", "search", "--older")
    wait_until(lambda: status(running, key) == 401, "the old key counts no more")
    assert status(running, newer) == 200

    rank = [RERANK, "query", "a panda", "a bear", "--model", "tiny", "--url", running.url]
    asked = subprocess.run(
        rank, capture_output=True, text=True, check=False, env={**os.environ, "RERANK_API_KEY": newer}
    )
    assert asked.returncode == 0, asked.stderr
    without = {name: value for name, value in os.environ.items() if name != "RERANK_API_KEY"}
    asked = subprocess.run(rank, capture_output=True, text=True, check=False, env=without)
    assert asked.returncode == 1
    assert "RERANK_API_KEY" in asked.stderr

    for child in running.run_dir().iterdir():
        if child.is_file():
            assert newer not in child.read_text()
    assert newer not in running.output

    key_command("revoke", "search")
    wait_until(lambda: status(running, newer) == 401, "nobody is let in")
    assert status(running) == 401  # closed, though no consumer is left


def test_a_runner_that_is_given_a_consumer_asks_for_keys_from_the_first_request_on(
    tmp_path: Path, write_manifest: Any, tiny_model: Path, start_runner: Any
) -> None:
    write_manifest(tmp_path, "tiny", source={"file": {"path": str(tiny_model)}})
    command = [RERANK, "key", "create", "app", "--file", tmp_path / "consumers.yaml"]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    runner = start_runner(tmp_path, cwd=tmp_path)
    assert "It asks for keys." in runner.wait_for("^The gateway answers on .*").group()
    assert status(runner) == 401
    assert status(runner, key, "/v1/models") == 200
    runner.end()


def test_the_limits_of_a_consumer_in_a_file_are_kept_and_followed(
    tmp_path: Path, write_manifest: Any, tiny_model: Path, start_runner: Any, wait_until: Any
) -> None:
    write_manifest(tmp_path, "tiny", source={"file": {"path": str(tiny_model)}})
    consumers = tmp_path / "consumers.yaml"
    command = [RERANK, "key", "create", "app", "--file", consumers]
    key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    written = consumers.read_text()
    assert written.count("spec:\n") == 1
    consumers.write_text(written.replace("spec:\n", "spec:\n  limits: {requestsPerMinute: 3}\n"))

    runner = start_runner(tmp_path, cwd=tmp_path)
    wait_until(lambda: status(runner) == 401, "the gateway answers")
    headers = {"Authorization": f"Bearer {key}"}

    def ask() -> httpx.Response:
        return httpx.get(f"{runner.url}/v1/models", headers=headers, timeout=60, trust_env=False)

    began = time.monotonic()
    assert [ask().status_code for _ in range(3)] == [200] * 3
    more = 0
    while (refused := ask()).status_code == 200:
        assert more <= (time.monotonic() - began) / 20  # one every 20 s comes back
        more += 1
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 20

    consumers.write_text(written)
    wait_until(lambda: all(status(runner, key, "/v1/models") == 200 for _ in range(8)), "the limit is gone")
    runner.end()

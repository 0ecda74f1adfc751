"""Replicas that hang, reset, talk nonsense or die, and callers that hold connections: others go unharmed."""

import http.client
import json
import os
import resource
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import takewhile
from typing import Any

import pytest

NIGHTLY = os.environ.get("RERANK_NIGHTLY") == "1"
"""Set for ten times as much, or half of it, where `make test` would take too long."""
IDLE = 10_000 if NIGHTLY else 2_000
SLOW = 1_000 if NIGHTLY else 200
SLOW_S = 5

Behaviour = Callable[[socketserver.StreamRequestHandler], None]


def steady(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def hang(replica: socketserver.StreamRequestHandler) -> None:
    replica.rfile.read(1)  # until the gateway gives up


def reset(replica: socketserver.StreamRequestHandler) -> None:
    replica.connection.setsockopt(socketserver.socket.SOL_SOCKET, socketserver.socket.SO_LINGER, LINGER_0)
    raise ConnectionAbortedError


def garbage(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b"\x00\xff\x16\x03 220 smtp ready\r\n\r\n" * 9)
    raise ConnectionAbortedError


def half_a_head(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    raise ConnectionAbortedError


def half_a_body(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"results": [')
    raise ConnectionAbortedError


def half_the_chunks(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nd\r\n{"results": [\r\n')
    raise ConnectionAbortedError


def two_lengths(replica: socketserver.StreamRequestHandler) -> None:
    replica.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc")


LINGER_0 = struct.pack("ii", 1, 0)
BEHAVIOURS: dict[str, Behaviour] = {
    behave.__name__: behave
    for behave in (steady, hang, reset, garbage, half_a_head, half_a_body, half_the_chunks, two_lengths)
}


class Replica(socketserver.ThreadingTCPServer):
    """A model server's place that counts requests, and then does what it is told."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behave: Behaviour) -> None:
        self.received = 0
        replica = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    while head := b"".join(takewhile(bytes.strip, self.rfile)):  # it ends with the connection
                        fields = head.lower().split(b"content-length:")
                        self.rfile.read(int(fields[1].split()[0]) if len(fields) > 1 else 0)
                        replica.received += 1
                        behave(self)
                except ConnectionError:
                    pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def replicas() -> Iterator[dict[str, Replica]]:
    with ExitStack() as running:
        made = {name: running.enter_context(Replica(behave)) for name, behave in BEHAVIOURS.items()}
        for replica in made.values():
            threading.Thread(target=replica.serve_forever, args=(0.05,), daemon=True).start()
            running.callback(replica.shutdown)
        yield made


@pytest.fixture(scope="module")
def faulty(gateway_before: Any) -> Iterator[tuple[Any, dict[str, Replica]]]:
    with (
        replicas() as made,
        gateway_before(
            {name: replica.server_address[1] for name, replica in made.items()}, request_timeout_s=15.0
        ) as gateway,
    ):
        yield gateway, made


def naming(model: str) -> bytes:
    return json.dumps({"model": model, "query": "q"}).encode()


@contextmanager
def others(gateway: Any) -> Iterator[Counter[object]]:
    """Ask another model all the while; yield what came of it."""
    seen: Counter[object] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                reply = gateway.caller.post("/v1/rerank", naming("steady"))
                seen[reply.status, reply.body] += 1
            except (OSError, http.client.HTTPException) as error:
                seen[repr(error)] += 1
            over.wait(0.01)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        over.set()
        for client in clients:
            client.join()
        print(f"meanwhile others: {dict(seen)}")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        pytest.param("hang", 504, "timeout", id="hangs after it took the request"),
        pytest.param("reset", 503, "replica_failed", id="resets the connection"),
        pytest.param("garbage", 503, "replica_failed", id="answers with what is no HTTP"),
        pytest.param("half_a_head", 503, "replica_failed", id="dies in the head of its answer"),
        pytest.param("two_lengths", 503, "replica_failed", id="gives two lengths"),
    ],
)
def test_a_replica_that_fails_before_it_answers_is_told_in_the_error_body(
    faulty: tuple[Any, dict[str, Replica]], model: str, status: int, code: str, wait_for: Callable[..., Any]
) -> None:
    gateway, made = faulty
    with others(gateway) as seen:
        reply = gateway.caller.post("/v1/rerank", naming(model))
    assert (reply.status, reply.error["code"]) == (status, code)
    assert model in reply.error["message"]
    wait_for(lambda: made[model].received > 0)
    assert made[model].received == 1, "a request that a replica has seen is not handed to another"
    assert set(seen) == {(200, b"ok")}


def test_a_replica_may_have_less_time_than_the_request_and_no_other_is_tried_then(
    gateway_before: Any, wait_for: Callable[..., Any]
) -> None:
    with replicas() as made:
        ports = {"hang": made["hang"].server_address[1]}
        with gateway_before(ports, request_timeout_s=60.0, try_timeout_s=2.0) as gateway:
            reply = gateway.caller.post("/v1/rerank", naming("hang"))
        assert (reply.status, reply.error["code"]) == (504, "timeout")
        assert "did not answer within 2 s" in reply.error["message"]
        wait_for(lambda: made["hang"].received > 0)
        assert made["hang"].received == 1


@pytest.mark.parametrize("model", ["half_a_body", "half_the_chunks"])
def test_an_answer_whose_replica_dies_within_it_is_cut_off_and_never_looks_whole(
    faulty: tuple[Any, dict[str, Replica]], model: str
) -> None:
    gateway, made = faulty
    with others(gateway) as seen, pytest.raises(http.client.IncompleteRead):
        gateway.caller.post("/v1/rerank", naming(model))
    assert made[model].received == 1
    assert set(seen) == {(200, b"ok")}


@pytest.fixture(scope="module")
def patient(gateway_before: Any) -> Iterator[Any]:
    """A gateway that waits long for callers, and takes as many as there are."""
    needed = IDLE + 2 * SLOW + 1_000  # descriptors, in this process and in Envoy
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:  # Envoy, started from here, has the same limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    with replicas() as made:
        ports = {"steady": made["steady"].server_address[1]}
        with gateway_before(ports, receive_timeout_s=120.0, max_connections=2 * IDLE) as gateway:
            yield gateway
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (soft, max(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )


def open_connections(gateway: Any) -> int:
    line = gateway.administration(r"/stats?filter=^http\.gateway\.downstream_cx_active$")
    return int(line.rpartition(": ")[2])


def test_idle_connections_harm_nobody(patient: Any, wait_for: Callable[..., Any]) -> None:
    with ExitStack() as held:
        idle = [held.enter_context(closing(patient.caller.connect())) for _ in range(IDLE)]
        wait_for(lambda: open_connections(patient) >= IDLE)
        with others(patient) as seen:
            wait_for(lambda: sum(seen.values()) >= 100)
        assert set(seen) == {(200, b"ok")}
        idle[-1].sendall(b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 18\r\n\r\n")
        idle[-1].sendall(b'{"model":"steady"}')
        assert patient.caller.read(idle[-1]).body == b"ok"
    wait_for(lambda: open_connections(patient) < 100)


def test_callers_that_send_a_byte_a_second_harm_nobody_and_are_answered(
    patient: Any, wait_for: Callable[..., Any]
) -> None:
    body = b'{"model":"steady"}'
    with ExitStack() as held, others(patient) as seen:
        slow = [held.enter_context(closing(patient.caller.connect())) for _ in range(SLOW)]
        for connection in slow:
            connection.sendall(b"POST /v1/rerank HTTP/1.1\r\nhost: a\r\ncontent-length: 18\r\n\r\n")
        for sent in range(SLOW_S):
            for connection in slow:
                connection.sendall(body[sent : sent + 1])
            time.sleep(1)
        wait_for(lambda: sum(seen.values()) >= 100)
        for connection in slow:
            connection.sendall(body[SLOW_S:])
        assert {patient.caller.read(connection).body for connection in slow} == {b"ok"}
    assert set(seen) == {(200, b"ok")}

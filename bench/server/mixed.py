"""Small requests beside a client that sends large ones back to back: who waits, what is lost, what it takes.

The small requests are the large one cut in pieces, so that documents per second compare like with like.
"""

import itertools
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, versions
from bench.load import Client, Target
from bench.proc import MB, forget_peak, peak, resident
from bench.processes import CPU_ONLY, clean_environment
from bench.server import models
from bench.server.own_server import NAME, serving
from bench.server.scale import Scale
from bench.workload import Request, make_requests, parts

SMALL_DOCUMENTS = 3
ALONE_REQUESTS = 40
WAIT_BAR = 2.0
THROUGHPUT_BAR = 0.9
WEIGHTS_TIMES = 1.5
PEAK_MB = 300.0


@dataclass(frozen=True)
class Round:
    """One round of the three loads."""

    small_alone: float
    """Median seconds of a small request."""
    small_beside: float
    large_alone: float
    """Documents per second."""
    both: float
    slowest_beside: float


def small_beside_large(build: Path, scale: Scale) -> list[Figure]:
    """Measure latency, throughput and memory of one server under the mixed load."""
    checkpoint = models.minilm(build)
    [large] = make_requests(models.vocabulary(), count=1, documents=scale.large_documents)
    small = parts(large, SMALL_DOCUMENTS)
    bare = _bare_torch()
    with serving(checkpoint, build) as server:
        at_ready = resident(server.pid)
        forget_peak(server.pid)
        rounds = [
            _round(server.target, large, small, scale.large_requests) for _ in range(scale.mixed_rounds)
        ]
        highest = peak(server.pid)
    return [
        *_fairness(rounds, scale),
        *_memory(models.weight_bytes(checkpoint), bare, at_ready, highest),
    ]


def _round(target: Target, large: Request, small: list[Request], count: int) -> Round:
    client = Client(target)
    bodies = itertools.cycle([request.body(NAME) for request in small])
    whole = large.body(NAME)
    alone = [client.send(next(bodies)) for _ in range(ALONE_REQUESTS)]
    seconds = sum(client.send(whole) for _ in range(count))
    documents = count * len(large.documents)
    beside: list[float] = []
    started = time.perf_counter()
    with _Repeating(target, whole, count) as sender:
        while sender.is_alive():
            beside.append(client.send(next(bodies)))
    took = time.perf_counter() - started
    client.close()
    return Round(
        small_alone=statistics.median(alone),
        small_beside=statistics.median(beside),
        large_alone=documents / seconds,
        both=(documents + SMALL_DOCUMENTS * len(beside)) / took,
        slowest_beside=max(beside),
    )


class _Repeating(threading.Thread):
    """Sends one body a number of times, back to back."""

    def __init__(self, target: Target, body: bytes, count: int) -> None:
        super().__init__()
        self._target, self._body, self._count = target, body, count
        self._failure: BaseException | None = None

    def __enter__(self) -> "_Repeating":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        if self._failure is not None:
            raise self._failure

    def run(self) -> None:
        client = Client(self._target)
        try:
            for _ in range(self._count):
                client.send(self._body)
        except BaseException as failure:  # noqa: BLE001  # raised again where the thread is joined
            self._failure = failure
        finally:
            client.close()


def _fairness(rounds: list[Round], scale: Scale) -> list[Figure]:
    used = versions("torch", "fastapi", "uvicorn")

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(of(each) for each in rounds)

    loads = f"{SMALL_DOCUMENTS}-document requests beside {scale.large_documents}-document ones"
    alone = f"alone {1000 * median(lambda each: each.small_alone):.0f} ms"
    best = f"large ones alone: {median(lambda each: each.large_alone):.0f} documents/s"
    wait = median(lambda each: each.small_beside / each.small_alone)
    share = median(lambda each: each.both / each.large_alone)
    slowest = median(lambda each: each.slowest_beside / each.small_alone)
    return [
        Figure(f"{loads}: p50", wait, "x", WAIT_BAR, "lower", alone, used),
        Figure(f"{loads}: slowest", slowest, "x", None, "lower", alone, used),
        Figure(f"{loads}: throughput", share, "x", THROUGHPUT_BAR, "higher", best, used),
    ]


def _memory(weights: float, bare: float, at_ready: float, highest: float) -> list[Figure]:
    used = versions("torch")
    allowed = WEIGHTS_TIMES * weights
    beside = f"{WEIGHTS_TIMES:g} times the weights is {allowed / MB:.0f} MB, a bare torch {bare / MB:.0f} MB"
    return [
        Figure(
            "memory at Ready above a bare `import torch`, over 1.5 times the weights",
            (at_ready - bare) / allowed,
            "x",
            1.0,
            "lower",
            beside,
            used,
            f"{at_ready / MB:.0f} MB in all",
        ),
        Figure(
            "peak of memory under the mixed load, above that bound",
            (highest - bare - allowed) / MB,
            "MB",
            PEAK_MB,
            "lower",
            beside,
            used,
            f"{highest / MB:.0f} MB in all",
        ),
    ]


def _bare_torch() -> float:
    """Return the bytes that a process has in memory once it has imported torch, the median of three."""
    code = "import torch; from bench.proc import resident; print(resident())"
    environment = clean_environment(**CPU_ONLY)
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(3)
    ]
    return statistics.median(float(run.stdout) for run in runs)

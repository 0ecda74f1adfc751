"""Servers beside one another: 8 clients, 20 documents, all of them answering the same requests in turn."""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path

from bench.agreement import kendall_tau
from bench.figures import Figure, failed, versions
from bench.load import Client, Target, seconds_for
from bench.proc import CpuTime, cpu_time
from bench.processes import CPU_ONLY, StartError, free_port, installed, peer_python, running
from bench.server import models
from bench.server.own_server import NAME, Served, serving
from bench.server.scale import Scale
from bench.workload import make_requests

CLIENTS = 8
DOCUMENTS = 20
NAIVE, INFINITY = "naive", "infinity"
TELEMETRY_OFF = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
FAILURES = (StartError, subprocess.CalledProcessError, OSError, RuntimeError, HTTPException)
"""What may go wrong with one server while the others are measured."""
HTTP_BAR = 5.0
"""Percent."""


@dataclass(frozen=True)
class Bar:
    """What one of our servers is to be worth beside a peer."""

    dtype: str
    peer: str
    times: float
    place_of: str = ""
    """A peer that is not here, and whose place this one takes."""


TEI = "text-embeddings-inference"
BARS = (
    Bar("float32", NAIVE, 4.5),
    Bar("bfloat16", NAIVE, 6.0),
    Bar("float32", INFINITY, 3.5),
    Bar("bfloat16", INFINITY, 5.0),
    Bar("float32", NAIVE, 4.3, TEI),
    Bar("bfloat16", NAIVE, 6.7, TEI),
)
OURS = ("float32", "bfloat16")
PEERS = {NAIVE: "FastAPI around predict of sentence-transformers", INFINITY: "infinity"}


@dataclass
class Subject:
    """A running server, and what was measured of it."""

    server: Served
    versions: dict[str, str]
    rates: list[float] = field(default_factory=list)
    """Requests per second, a round."""
    used: list[CpuTime] = field(default_factory=list)
    """CPU time, a round."""
    seconds: list[float] = field(default_factory=list)
    """On the clock, a round."""
    scores: tuple[float, ...] = ()
    """Of the documents of the first request."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return statistics.median(self.rates)


def beside_peers(build: Path, scale: Scale) -> list[Figure]:
    """Return requests/s as multiples of the peers', and HTTP's share of our own CPU time."""
    checkpoint = models.minilm(build)
    requests = make_requests(models.vocabulary(), count=scale.served_requests, documents=DOCUMENTS)
    bodies = [request.body(NAME) for request in requests]
    starting: dict[str, Callable[[Path, Path], contextlib.AbstractContextManager[Subject]]] = {
        **{dtype: partial(_own, dtype=dtype) for dtype in OURS},
        NAIVE: _naive,
        INFINITY: _infinity,
    }
    subjects: dict[str, Subject] = {}
    lost: dict[str, Exception] = {}
    with contextlib.ExitStack() as stack:
        for name, start in starting.items():
            try:
                subjects[name] = stack.enter_context(start(checkpoint, build))
                subjects[name].scores = _scores(subjects[name].server.target, bodies[0])
                seconds_for(subjects[name].server.target, bodies[:CLIENTS], CLIENTS)
            except FAILURES as error:
                lost[name] = error
        for number in range(scale.served_rounds):
            for name in list(subjects)[:: 1 if number % 2 else -1]:
                try:
                    _round(subjects[name], bodies)
                except FAILURES as error:
                    lost[name] = error
            for name in lost:
                subjects.pop(name, None)
    for name, why in lost.items():
        print(f"{name}: {why}", file=sys.stderr)
    return [
        *_ratios(subjects),
        *_absolute(subjects),
        *_http_shares(subjects),
        *(failed(f"served by {name}", why) for name, why in lost.items()),
    ]


def _scores(target: Target, body: bytes) -> tuple[float, ...]:
    client = Client(target)
    with contextlib.closing(client):
        results = json.loads(client.ask(body))["results"]
    return tuple(each["relevance_score"] for each in sorted(results, key=lambda each: each["index"]))


def _round(subject: Subject, bodies: Sequence[bytes]) -> None:
    before = cpu_time(subject.server.pid)
    seconds = seconds_for(subject.server.target, bodies, CLIENTS)
    subject.seconds.append(seconds)
    subject.rates.append(len(bodies) / seconds)
    subject.used.append(cpu_time(subject.server.pid) - before)


def _ratios(subjects: Mapping[str, Subject]) -> list[Figure]:
    figures = []
    for bar in BARS:
        if bar.dtype not in subjects or bar.peer not in subjects:
            continue
        ours, peer = subjects[bar.dtype], subjects[bar.peer]
        ratio = statistics.median(a / b for a, b in zip(ours.rates, peer.rates, strict=True))
        name = f"served, {DOCUMENTS} documents, {CLIENTS} clients, {bar.dtype}, against {bar.peer}"
        if bar.place_of:
            name += f" in place of {bar.place_of}"
        used = {**ours.versions, **{f"peer's {key}": value for key, value in peer.versions.items()}}
        figures.append(Figure(name, ratio, "x", bar.times, "higher", PEERS[bar.peer], used))
    return figures


def _absolute(subjects: Mapping[str, Subject]) -> list[Figure]:
    return [
        Figure(
            f"served by {'us, ' if name in OURS else ''}{name}",
            subject.rate,
            "requests/s",
            None,
            "higher",
            f"{sum(each.total for each in subject.used) / sum(subject.seconds):.2f} cores used",
            subject.versions,
            _agreement(subject, subjects.get(NAIVE)),
        )
        for name, subject in subjects.items()
    ]


def _agreement(subject: Subject, reference: Subject | None) -> str:
    """Say whether it answers the same: how one request is ranked beside the naive endpoint."""
    if reference is None or reference is subject:
        return ""
    return f"Kendall's tau with naive {kendall_tau([subject.scores], [reference.scores]):.3f}"


def _http_shares(subjects: Mapping[str, Subject]) -> list[Figure]:
    """Return the event loop's share of our CPU time: all of HTTP and JSON runs on it, and nothing else."""
    return [
        Figure(
            f"HTTP and JSON, {DOCUMENTS} documents, {name}",
            100 * sum(each.main for each in used) / sum(each.total for each in used),
            "% of CPU time",
            HTTP_BAR,
            "lower",
            "the event loop's thread beside the whole process",
            subjects[name].versions,
        )
        for name in OURS
        if name in subjects and (used := subjects[name].used)
    ]


@contextlib.contextmanager
def _own(checkpoint: Path, build: Path, dtype: str) -> Iterator[Subject]:
    with serving(checkpoint, build, dtype) as server:
        yield Subject(server, versions("torch", "fastapi", "uvicorn"))


@contextlib.contextmanager
def _naive(checkpoint: Path, build: Path) -> Iterator[Subject]:
    python, port = peer_python("sentence-transformers", build), free_port()
    script = Path(__file__).parents[1] / "peers" / "naive_server.py"
    command = [str(python), str(script), "cross-encoder", str(checkpoint.absolute()), str(port)]
    used = installed(python, "torch", "transformers", "sentence-transformers", "fastapi")
    with running(command, build / "naive.log", port=port, ready="/readyz", environment=CPU_ONLY) as process:
        yield Subject(Served(Target(port), process.pid), used)


@contextlib.contextmanager
def _infinity(checkpoint: Path, build: Path) -> Iterator[Subject]:
    python, port = peer_python("infinity", build), free_port()
    command = [str(python.parent / "infinity_emb"), "v2", "--model-id", str(checkpoint.absolute())]
    command += ["--served-model-name", NAME, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    used = installed(python, "torch", "transformers", "sentence-transformers", "infinity-emb")
    environment = {**CPU_ONLY, **TELEMETRY_OFF}
    log = build / "infinity.log"
    with running(command, log, port=port, ready="/health", environment=environment) as process:
        yield Subject(Served(Target(port, "/rerank"), process.pid), used)

"""Our library beside `CrossEncoder.predict` at its defaults: one thread, CPU time, the same texts."""

import contextlib
import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.agreement import kendall_tau, largest_difference
from bench.figures import Figure, versions
from bench.processes import peer_python
from bench.server import models
from bench.server.scale import Scale
from bench.server.workers import Round, Worker, alternate, own, times_faster, worker
from bench.workload import make_requests

REQUESTS = 2
"""A round, of different texts."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint, and what is expected of it."""

    name: str
    checkpoint: Path
    documents: int
    bars: dict[str, float]
    """By type of the weights."""


def minilm(build: Path, scale: Scale) -> list[Figure]:
    """Measure MiniLM-L6's shape."""
    bars = {"float32": 3.5, "bfloat16": 5.5}
    return _compare(Subject("MiniLM-L6", models.minilm(build), scale.minilm_documents, bars), build, scale)


def xlm_r(build: Path, scale: Scale) -> list[Figure]:
    """Measure XLM-R base's shape."""
    bars = {"float32": 2.9, "bfloat16": 5.5}
    return _compare(Subject("XLM-R base", models.xlm_r(build), scale.xlm_r_documents, bars), build, scale)


def _compare(subject: Subject, build: Path, scale: Scale) -> list[Figure]:
    requests = make_requests(models.vocabulary(), count=REQUESTS, documents=subject.documents)
    predict = [str(peer_python("sentence-transformers", build)), "-m", "bench.peers.predict"]
    with contextlib.ExitStack() as stack:
        workers = {
            dtype: stack.enter_context(worker(own(subject.checkpoint, dtype=dtype))) for dtype in subject.bars
        }
        peer = stack.enter_context(worker([*predict, str(subject.checkpoint.absolute())]))
        taken = alternate({**workers, "peer": peer}, requests, scale.library_rounds)
    return [
        figure
        for dtype in subject.bars
        for figure in _figures(subject, dtype, workers[dtype], taken[dtype], peer, taken["peer"])
    ]


def _figures(
    subject: Subject, dtype: str, worker: Worker, ours: list[Round], peer: Worker, theirs: list[Round]
) -> list[Figure]:
    used = {**versions("torch", "tokenizers"), **{f"peer's {k}": v for k, v in peer.about.items()}}
    name = f"{subject.name}, {subject.documents} documents, {dtype}"
    beside = f"predict of sentence-transformers {peer.about['sentence-transformers']}, fp32"
    note = f"our engine: {worker.about['engine']}"
    scores, reference = ours[0].scores, theirs[0].scores
    difference, tau = largest_difference(scores, reference), kendall_tau(scores, reference)
    ratio = times_faster(ours, theirs)
    spread = f"scores deviate by {statistics.pstdev(itertools.chain(*reference)):.2g}"
    return [
        Figure(f"{name}: speed", ratio, "x", subject.bars[dtype], "higher", beside, used, note),
        Figure(f"{name}: max |Δ| of scores", difference, "", None, "lower", spread, used),
        Figure(f"{name}: Kendall's tau", tau, "", None, "higher", "", used),
    ]

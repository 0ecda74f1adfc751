"""A causal reranker: the shared prefix computed once, beside every row padded and the last token read."""

import contextlib
from pathlib import Path

from bench.agreement import kendall_tau, largest_difference
from bench.figures import Figure, versions
from bench.processes import peer_python
from bench.server import models
from bench.server.scale import Scale
from bench.server.workers import alternate, own, times_faster, worker
from bench.workload import make_requests

BAR = 1.8
NAMES = {"peer": "predict", "padded": "padded"}


def shared_prefix(build: Path, scale: Scale) -> list[Figure]:
    """Compare our causal engine with our padded one and with sentence-transformers' `predict`."""
    checkpoint = models.qwen3(build)
    requests = make_requests(models.vocabulary(), count=1, documents=scale.causal_documents)
    predict = [str(peer_python("sentence-transformers", build)), "-m", "bench.peers.predict"]
    with contextlib.ExitStack() as stack:
        commands = {
            "ours": own(checkpoint, engine="causal"),
            "padded": own(checkpoint, engine="padded"),
            "peer": [*predict, str(checkpoint.absolute())],
        }
        workers = {name: stack.enter_context(worker(command)) for name, command in commands.items()}
        taken = alternate(workers, requests, scale.causal_rounds)
    about = workers["peer"].about
    used = {**versions("torch", "transformers"), **{f"peer's {k}": v for k, v in about.items()}}
    beside = {
        "peer": f"predict of sentence-transformers {about['sentence-transformers']}: padded, last token",
        "padded": "our own padded engine",
    }
    ours = taken["ours"]
    figures = []
    for other, what in beside.items():
        name = f"causal of 0.1B, {scale.causal_documents} documents, float32, against {NAMES[other]}"
        theirs = taken[other]
        difference = largest_difference(ours[0].scores, theirs[0].scores)
        tau = kendall_tau(ours[0].scores, theirs[0].scores)
        figures += [
            Figure(f"{name}: speed", times_faster(ours, theirs), "x", BAR, "higher", what, used),
            Figure(f"{name}: max |Δ| of scores", difference, "", None, "lower", what, used),
            Figure(f"{name}: Kendall's tau", tau, "", None, "higher", what, used),
        ]
    return figures

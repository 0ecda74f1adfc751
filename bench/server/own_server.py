"""Our server as it is started for a measurement."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.load import Target
from bench.processes import CPU_ONLY, free_port, running

NAME = "bench"


@dataclass(frozen=True)
class Served:
    """A server that takes traffic."""

    target: Target
    pid: int


def command(checkpoint: Path, build: Path, port: int, dtype: str = "float32") -> list[str]:
    """Write a manifest and return the command that serves it."""
    manifest = build / f"{checkpoint.name}-{dtype}.json"
    manifest.write_text(
        json.dumps(
            {
                "apiVersion": "rerank.dev/v1alpha1",
                "kind": "RerankModel",
                "metadata": {"name": NAME},
                "spec": {
                    "source": {"file": {"path": str(checkpoint.absolute())}},
                    "scoring": {"dtype": dtype},
                },
            }
        ),
        "utf-8",
    )
    return [sys.executable, "-m", "rerank_server", "--manifest", str(manifest), "--port", str(port)]


@contextlib.contextmanager
def serving(checkpoint: Path, build: Path, dtype: str = "float32") -> Iterator[Served]:
    """Run a server of our own until it is ready, and stop it afterwards."""
    port = free_port()
    log = build / f"server-{checkpoint.name}-{dtype}.log"
    line = command(checkpoint, build, port, dtype)
    with running(line, log, port=port, ready="/readyz", environment=CPU_ONLY) as process:
        yield Served(Target(port), process.pid)

"""How long a server takes from nothing to Ready, beside the least that anything with torch takes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Figure, versions
from bench.processes import CPU_ONLY, answers, clean_environment, free_port, running
from bench.server import models
from bench.server.own_server import command
from bench.server.scale import Scale

BAR = 1.3
POLL_S = 0.01
GIVE_UP_S = 120.0


def to_ready(build: Path, scale: Scale) -> list[Figure]:
    """Alternate both, after one start of each that fills the file cache."""
    checkpoint = models.minilm(build)
    bare, ready = [], []
    for number in range(scale.starts + 1):
        times = (_bare_import(), _start(checkpoint, build))
        if number:
            bare.append(times[0])
            ready.append(times[1])
    ratio = statistics.median(own / least for own, least in zip(ready, bare, strict=True))
    used = versions("torch", "transformers", "fastapi")
    least = f"`import torch` in a new process: {statistics.median(bare):.2f} s"
    return [
        Figure("process start to Ready, MiniLM-L6", ratio, "x", BAR, "lower", least, used),
        Figure("process start to Ready", statistics.median(ready), "s", None, "lower", "", used),
    ]


def _bare_import() -> float:
    """Return the seconds from the start of Python to the end of `import torch`."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", "import torch; print(flush=True)"],
        stdout=subprocess.PIPE,
        env=clean_environment(**CPU_ONLY),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - started


def _start(checkpoint: Path, build: Path) -> float:
    """Return the seconds from the start of the server to the first 200 of /readyz."""
    port = free_port()
    line = command(checkpoint, build, port)
    started = time.perf_counter()
    with running(line, build / "start.log", environment=CPU_ONLY) as process:
        while not answers(port, "/readyz"):
            if process.poll() is not None or time.perf_counter() - started > GIVE_UP_S:
                raise RuntimeError(f"the server did not become ready: {build / 'start.log'} says why")
            time.sleep(POLL_S)
        return time.perf_counter() - started

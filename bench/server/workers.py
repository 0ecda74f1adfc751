"""Two or more ways to score the same texts, in alternating rounds, by CPU time."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.processes import CPU_ONLY, StartError, clean_environment
from bench.workload import Request

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Round:
    """What one round of one worker took."""

    cpu: float
    wall: float
    scores: tuple[tuple[float, ...], ...]
    """Raw, a tuple a request."""


class Worker:
    """A process that speaks the protocol of `bench.peers.rounds`."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors
        self.about: dict[str, str] = self._answer()
        """Versions and the engine, as the worker says."""

    def round(self, requests: Sequence[Request]) -> Round:
        """Score the requests. Raises `StartError` where the process has ended."""
        asked = {"requests": [{"query": each.query, "documents": each.documents} for each in requests]}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        answer = self._answer()
        return Round(answer["cpu"], answer["wall"], tuple(map(tuple, answer["scores"])))

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = "\n".join(self._errors.read().splitlines()[-8:])
        raise StartError(f"{self._process.args!r} ended with {self._process.returncode}:\n{said}")


@contextlib.contextmanager
def worker(command: Sequence[str]) -> Iterator[Worker]:
    """Run a worker on one thread; `command` begins with its interpreter."""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=clean_environment(**CPU_ONLY, **ONE_THREAD),
        ) as process,
    ):
        try:
            yield Worker(process, errors)
        finally:
            process.kill()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # of a request that the worker did not live to read
                process.stdin.close()


def own(checkpoint: Path, *, dtype: str = "float32", engine: str = "auto", family: str = "auto") -> list[str]:
    """Return the command of our own worker."""
    return [
        *(sys.executable, "-m", "bench.server.own_worker", str(checkpoint.absolute())),
        *("--dtype", dtype, "--engine", engine, "--family", family),
    ]


def alternate(
    workers: Mapping[str, Worker], requests: Sequence[Request], rounds: int
) -> dict[str, list[Round]]:
    """Run every worker in turn, `rounds` times, after one round to warm up; every other round backwards."""
    taken: dict[str, list[Round]] = {name: [] for name in workers}
    for each in workers.values():
        each.round(requests[:1])
    for number in range(rounds):
        for name in list(workers)[:: 1 if number % 2 else -1]:
            taken[name].append(workers[name].round(requests))
    return taken


def times_faster(ours: Sequence[Round], peer: Sequence[Round]) -> float:
    """Return the median over the rounds of the peer's CPU time over ours."""
    return statistics.median(theirs.cpu / own.cpu for own, theirs in zip(ours, peer, strict=True))

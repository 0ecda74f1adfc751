"""Threads that run batches: how many of how many torch threads each, and what happens when one dies."""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rerank_server.engine.interface import Engine, Row
from rerank_server.engine.threads import compute_with

log = logging.getLogger(__name__)

BUSY_WINDOW_S = 60.0
DEATHS = 5
DEATHS_WITHIN_S = 60.0
"""A worker that dies is replaced, but no more than so often in that time."""
ROUNDS = 2
"""Batches that each worker runs while it is measured, after a first one that is not."""


@dataclass(frozen=True)
class Staffing:
    """How a machine's cores are used."""

    workers: int = 1
    """Threads that run batches side by side."""
    threads: int | None = None
    """Threads of torch that each of them computes with; None leaves torch as it is."""

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        if self.threads is None:
            return workers
        return f"{workers} of {self.threads} thread{'s' * (self.threads > 1)}"


def staffings(cores: int, workers: int | None = None) -> list[Staffing]:
    """Return the ways to use so many cores: a worker a core, one for all, and one in between.

    `workers` is somebody's choice, and leaves one way.
    """
    if workers is not None:
        return [Staffing(workers, max(1, cores // workers))]
    halfway = 1 << (cores.bit_length() // 2)
    counts = {cores, 1} | ({halfway} if cores >= 8 and cores % halfway == 0 else set())
    return [Staffing(count, cores // count) for count in sorted(counts, reverse=True)]


def fastest(measured: Sequence[tuple[Staffing, float]]) -> Staffing:
    """Return the staffing with the most tokens per second; more workers where it is within 5 %.

    Several workers compute several requests at once, so that a small one waits for less.
    """
    best = max(speed for _, speed in measured)
    return max(
        (staffing for staffing, speed in measured if speed >= 0.95 * best),
        key=lambda staffing: staffing.workers,
    )


def measure(engine: Engine, staffing: Staffing, rows: Sequence[Row]) -> float:
    """Return the tokens per second that `staffing` computes, where every batch is `rows`.

    Raises what the engine raises.
    """
    gate = threading.Barrier(staffing.workers + 1)
    failures: list[Exception] = []

    def work() -> None:
        try:
            if staffing.threads is not None:
                compute_with(staffing.threads)
            engine.run(rows)
            gate.wait()
            for _ in range(ROUNDS):
                engine.run(rows)
        except Exception as error:  # noqa: BLE001  # raised again below
            failures.append(error)
            gate.abort()

    threads = [
        threading.Thread(target=work, name=f"measure-{number}", daemon=True)
        for number in range(staffing.workers)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        gate.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    if failures:
        raise next((error for error in failures if not _is_broken(error)), failures[0])
    tokens = sum(len(row.ids) for row in rows)
    return staffing.workers * ROUNDS * tokens / max(time.monotonic() - began, 1e-9)


def _is_broken(error: Exception) -> bool:
    return isinstance(error, threading.BrokenBarrierError)


class Speed:
    """Tokens per second of all workers together, over the last busy minute."""

    def __init__(self, workers: int, value: float | None = None) -> None:
        self.workers = workers
        self.value = value
        self._batches: deque[tuple[int, float]] = deque()
        self._tokens = 0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a batch, and forget those that were before the last busy minute of all workers."""
        self._batches.append((tokens, seconds))
        self._tokens += tokens
        self._seconds += seconds
        while len(self._batches) > 1 and self._seconds - self._batches[0][1] >= BUSY_WINDOW_S * self.workers:
            old_tokens, old_seconds = self._batches.popleft()
            self._tokens -= old_tokens
            self._seconds -= old_seconds
        if self._seconds > 0:
            self.value = self.workers * self._tokens / self._seconds


class Worker:
    """One thread of a crew."""

    def __init__(self, staffing: Staffing, number: int) -> None:
        self.staffing = staffing
        self.number = number
        self.retired = False
        """Told to end after the batch that it is running."""


class Crew:
    """Workers that all do the same until there is nothing left to do; one that dies is replaced."""

    def __init__(
        self,
        work: Callable[[Worker], None],
        bury: Callable[[Worker], None],
        give_up: Callable[[], None],
    ) -> None:
        """`work` returns when there is nothing left to do, ever; `bury` is called on the thread of a worker
        whose `work` raised; `give_up` when too many have died for another to be started.
        """
        self._work = work
        self._bury = bury
        self._give_up = give_up
        self._lock = threading.Lock()
        self._workers: dict[Worker, threading.Thread] = {}
        self._deaths: deque[float] = deque()
        self.staffing = Staffing(0)

    def staff(self, staffing: Staffing) -> None:
        """Start workers as `staffing` says; those that are there end once they are asked what to do next."""
        with self._lock:
            self.staffing = staffing
            for worker in self._workers:
                worker.retired = True
            for number in range(staffing.workers):
                self._start(Worker(staffing, number))

    def join(self) -> None:
        """Wait until every worker has ended."""
        while True:
            with self._lock:
                threads = list(self._workers.values())
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _start(self, worker: Worker) -> None:
        thread = threading.Thread(
            target=self._run, args=(worker,), name=f"model-{worker.number}", daemon=True
        )
        self._workers[worker] = thread
        thread.start()

    def _run(self, worker: Worker) -> None:
        try:
            if worker.staffing.threads is not None:
                compute_with(worker.staffing.threads)
            self._work(worker)
        except BaseException:
            log.exception("a worker of the model ended")
            self._bury(worker)
            self._replace(worker)
        finally:
            with self._lock:
                self._workers.pop(worker)

    def _replace(self, worker: Worker) -> None:
        now = time.monotonic()
        try:
            with self._lock:
                while self._deaths and now - self._deaths[0] > DEATHS_WITHIN_S:
                    self._deaths.popleft()
                self._deaths.append(now)
                if len(self._deaths) <= DEATHS:
                    if not worker.retired:
                        self._start(Worker(worker.staffing, worker.number))
                    return
        except RuntimeError:
            log.exception("no further thread could be started")
        self._give_up()

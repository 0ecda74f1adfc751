"""The queue: workers take batches from the rows of all requests that wait.

A batch is formed when a worker is free, never by a timer. Which rows it holds is decided by
`rerank_server.engine.batches.plan`, and nowhere else.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rerank_server.admission import Size
from rerank_server.engine.batches import Budgets, Waiting, plan
from rerank_server.engine.interface import Engine, Row
from rerank_server.errors import ClosedError, ComputeError, ServerError
from rerank_server.jobs import Computed, Job, Part, halves
from rerank_server.workers import Crew, Staffing, Worker

log = logging.getLogger(__name__)

BUSY_WINDOW_S = 60.0
HURRY_S = 1.0
"""For so long after a small request has come, another one is expected."""
SHUTTING_DOWN = "The server is shutting down: send the request to another replica."
WORKER_ENDED = (
    "The model's thread ended while it computed this request: the server's log says why. Try again."
)
WORKERS_ENDED = "The model's threads keep ending on an error that the server's log shows: restart the server."


@dataclass(frozen=True)
class BatchReport:
    """What one batch was, for metrics. Times are in seconds."""

    rows: int
    tokens: int
    """Token ids, without padding."""
    padded_tokens: int
    """Positions that were computed."""
    seconds: float


Observe = Callable[[BatchReport], None]


class Batcher:
    """Runs rows of many callers on one engine, several batches at once.

    Budgets are what batches aim at, in tokens without padding. A longer row is a batch of its own, so that no
    row can wait for ever, however small the aim.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        budgets: Budgets,
        staffing: Staffing | None = None,
        observe: Observe | None = None,
    ) -> None:
        """Start the workers. `observe` is called on a worker's thread after every batch."""
        if min(budgets.full, budgets.mixed, budgets.least) < 1:
            raise ValueError(f"{budgets}: batches must aim at one token at least")
        self._engine = engine
        self._budgets = budgets
        self._observe = observe
        # Every request that is not answered, in order of arrival, waiting or running.
        self._jobs: dict[Job, None] = {}
        self._running: dict[Worker, list[Part]] = {}
        self._queued = dict.fromkeys(Size, 0)
        self._changed = threading.Condition()
        self._closed: str | None = None
        self._idle = 0
        self._credit = 0
        self._small_came = float("-inf")
        self._speed = _Speed(1)
        self._crew = Crew(self._work, self._bury, self._give_up)
        self.staff(staffing or Staffing())

    @property
    def staffing(self) -> Staffing:
        """Return how many workers there are, of how many threads."""
        return self._crew.staffing

    @property
    def queued(self) -> dict[Size, int]:
        """Return the tokens that wait for a batch, by the size of their requests."""
        with self._changed:
            return dict(self._queued)

    @property
    def tokens_per_second(self) -> float | None:
        """Return what all workers compute together, over the last busy minute; None before any batch."""
        return self._speed.value

    def staff(self, staffing: Staffing, tokens_per_second: float | None = None) -> None:
        """Let other workers take the next batches; those that are running are finished.

        `tokens_per_second` is what they are known to compute together, until more is seen.
        """
        with self._changed:
            self._speed = _Speed(staffing.workers, tokens_per_second)
            self._crew.staff(staffing)
            self._changed.notify_all()

    async def run(self, rows: Sequence[Row], size: Size = Size.SMALL) -> Computed:
        """Return an array a row, in the order of `rows`, of which there is at least one.

        Raises `ComputeError` where the model fails on these rows, `ClosedError` after `close`. A caller that
        is cancelled takes its rows out of the queue.
        """
        job = Job(rows, size, time.monotonic())
        with self._changed:
            if self._closed is not None:
                raise ClosedError(self._closed)
            self._jobs[job] = None
            self._queued[size] += job.tokens
            if job.tokens <= self._budgets.full:
                self._small_came = job.submitted
            self._changed.notify(-(-job.tokens // self._budgets.least))
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            self._withdraw(job)

    def close(self) -> None:
        """Take no more rows, finish those that wait, and end the workers."""
        with self._changed:
            self._closed = self._closed or SHUTTING_DOWN
            self._changed.notify_all()
        self._crew.join()

    def _withdraw(self, job: Job) -> None:
        with self._changed:
            if job in self._jobs:
                del self._jobs[job]
                self._queued[job.size] -= job.tokens

    def _fail(self, jobs: Sequence[Job], error: ServerError) -> None:
        for job in jobs:
            self._withdraw(job)
            if not job.future.done():
                job.future.set_exception(error)

    def _work(self, worker: Worker) -> None:
        while parts := self._next_batch(worker):
            self._run(parts)
            with self._changed:
                del self._running[worker]

    def _bury(self, worker: Worker) -> None:
        """A worker died: fail the requests whose rows it was running, and no others."""
        with self._changed:
            parts = self._running.pop(worker, [])
        self._fail([part.job for part in parts], ComputeError(WORKER_ENDED))

    def _give_up(self) -> None:
        with self._changed:
            self._closed = WORKERS_ENDED
            orphans = list(self._jobs)
            self._changed.notify_all()
        self._fail(orphans, ComputeError(WORKERS_ENDED))

    def _next_batch(self, worker: Worker) -> list[Part]:
        """Wait for rows and take some; nothing means that there will be none for this worker."""
        with self._changed:
            while True:
                if worker.retired:
                    self._changed.notify()  # whoever woke this worker meant one that goes on
                    return []
                if jobs := [job for job in self._jobs if job.waits]:
                    break
                if self._closed is not None:
                    return []
                self._idle += 1
                try:
                    self._changed.wait()
                finally:
                    self._idle -= 1
            now = time.monotonic()
            batch = plan(
                [Waiting(job.lengths, job.started, job.tokens) for job in jobs],
                self._budgets,
                workers=self._crew.staffing.workers,
                idle=1 + self._idle,
                hurried=now - self._small_came < HURRY_S,
                credit=self._credit,
            )
            self._credit = batch.credit
            parts = [job.start(count) for job, count in zip(jobs, batch.counts, strict=True) if count]
            for part in parts:
                self._queued[part.job.size] -= part.tokens
                if part.start == 0:
                    part.job.begun = now
            self._running[worker] = parts
            return parts

    def _run(self, parts: Sequence[Part]) -> None:
        """Run a batch. If it fails, run each request's part by itself, so that only the culprit's fails."""
        try:
            self._compute(parts)
        except Exception as error:
            if _out_of_memory(error) and (smaller := halves(parts)):
                log.warning("a batch of %d tokens did not fit: %s", sum(part.tokens for part in parts), error)
                self._budgets = self._budgets.halved()
                for half in smaller:
                    self._run(half)
                return
            log.exception("a batch of %d requests failed", len(parts))
            if len(parts) == 1:
                self._fail([parts[0].job], _compute_error(error))
                return
            for part in parts:
                self._run([part])

    def _compute(self, parts: Sequence[Part]) -> None:
        rows = [row for part in parts for row in part.rows]
        began = time.monotonic()
        vectors = self._engine.run(rows)
        now = time.monotonic()
        lengths = [len(row.ids) for row in rows]
        first = 0
        for part in parts:
            count = part.end - part.start
            with self._changed:
                computed = part.job.keep(part, vectors[first : first + count], now)
            if computed is not None and not part.job.future.done():
                part.job.future.set_result(computed)
            first += count
        self._report(
            BatchReport(
                rows=len(rows),
                tokens=sum(lengths),
                padded_tokens=self._engine.positions(lengths),
                seconds=now - began,
            )
        )

    def _report(self, report: BatchReport) -> None:
        """Have a batch measured; whatever goes wrong with that concerns no request."""
        with self._changed:
            self._speed.add(report.tokens, report.seconds)
        if self._observe is None:
            return
        try:
            self._observe(report)
        except Exception:
            log.exception("a batch could not be measured")


class _Speed:
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


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _compute_error(error: Exception) -> ComputeError:
    failure = ComputeError(f"The model failed on this request: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

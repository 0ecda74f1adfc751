"""The queue: workers take batches from the rows of all requests that wait.

A batch is formed when a worker is free, never by a timer. Which rows it holds is decided by
`rerank_server.engine.batches.plan`, and nowhere else.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rerank_server.admission import Size
from rerank_server.engine.batches import Aim, Budgets, Fit, Waiting, plan
from rerank_server.engine.failures import out_of_memory
from rerank_server.engine.interface import Engine, Outputs, Row
from rerank_server.engine.threads import compute_with
from rerank_server.errors import ClosedError, ComputeError, ServerError
from rerank_server.jobs import Computed, Job, Part, halves
from rerank_server.workers import Crew, Speed, Staffing, Worker

log = logging.getLogger(__name__)

HURRY_S = 1.0
"""For so long after a small request has come, another one is expected."""
SHUTTING_DOWN = "The server is shutting down: send the request to another replica."
WORKER_ENDED = (
    "The model's thread ended while it computed this request: the server's log says why. Try again."
)
WORKERS_ENDED = "The model's threads keep ending on an error that the server's log shows: restart the server."
ENGINE_BROKEN = (
    "The model fails on everything since an error that the server's log shows: restart the server."
)


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
        self._aim = Aim(budgets)
        self._proven: Row | None = None
        """The last row that was computed, by which a failed batch is told from an engine that is broken."""
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
        self._speed = Speed(1)
        self._crew = Crew(self._work, self._bury, lambda: self._give_up(WORKERS_ENDED))
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
            self._speed = Speed(staffing.workers, tokens_per_second)
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
            budgets = self._aim.budgets
            if job.tokens <= budgets.full:
                self._small_came = job.submitted
            self._changed.notify(-(-job.tokens // budgets.least))
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            self._withdraw(job)

    def run_apart(self, rows: Sequence[Row]) -> Outputs:
        """Compute these rows at once, on the calling thread, in one call of the engine that has no others.

        Raises `ComputeError` where the model fails on them, `ClosedError` after `close`, and another
        `ServerError` where memory does not suffice beside the batches that are running.
        """
        with self._changed:
            if self._closed is not None:
                raise ClosedError(self._closed)
        if self.staffing.threads is not None:
            compute_with(self.staffing.threads)
        try:
            return self._engine.run(rows)
        except Exception as error:
            if out_of_memory(error):
                raise ServerError(f"Memory does not suffice for {len(rows)} more rows: {error}") from error
            log.exception("rows that ran apart failed")
            if self._is_broken():
                self._give_up(ENGINE_BROKEN)
                raise ClosedError(ENGINE_BROKEN) from error
            raise _compute_error(error) from error

    def close(self, *, finish: bool = True) -> None:
        """Take no more rows and end the workers; those that wait are finished, or fail with `ClosedError`."""
        with self._changed:
            self._closed = self._closed or SHUTTING_DOWN
            unwanted = [] if finish else list(self._jobs)
            self._changed.notify_all()
        self._fail(unwanted, ClosedError(SHUTTING_DOWN))
        self._crew.join()

    def _withdraw(self, job: Job) -> None:
        with self._changed:
            if job in self._jobs:
                del self._jobs[job]
                self._queued[job.size] -= job.tokens

    def _fail(self, jobs: Sequence[Job], error: ServerError) -> None:
        for job in jobs:
            # Under the lock: another worker may fail on another part of the same request.
            with self._changed:
                self._withdraw(job)
                if not job.future.done():
                    job.future.set_exception(error)

    def _work(self, worker: Worker) -> None:
        while taken := self._next_batch(worker):
            parts, tried = taken
            fit = self._run(parts)
            with self._changed:
                self._learn(fit, tried)
                del self._running[worker]

    def _learn(self, fit: Fit, tried: Budgets) -> None:
        before = self._aim.budgets.full
        self._aim = self._aim.after(fit, tried)
        if (now := self._aim.budgets.full) != before:
            log.info("batches aim at %d tokens from now on, no longer at %d", now, before)

    def _bury(self, worker: Worker) -> None:
        """A worker died: fail the requests whose rows it was running, and no others."""
        with self._changed:
            parts = self._running.pop(worker, [])
        self._fail([part.job for part in parts], ComputeError(WORKER_ENDED))

    def _give_up(self, why: str) -> None:
        """Take no more rows and fail those that are there: the process must be started anew."""
        with self._changed:
            self._closed = why
            orphans = list(self._jobs)
            self._changed.notify_all()
        self._fail(orphans, ComputeError(why))

    def _next_batch(self, worker: Worker) -> tuple[list[Part], Budgets] | None:
        """Wait for rows and take some, by the budgets of now; None: there will be none for this worker."""
        with self._changed:
            while True:
                if worker.retired:
                    self._changed.notify()  # whoever woke this worker meant one that goes on
                    return None
                if jobs := [job for job in self._jobs if job.waits]:
                    break
                if self._closed is not None:
                    return None
                self._idle += 1
                try:
                    self._changed.wait()
                finally:
                    self._idle -= 1
            now = time.monotonic()
            budgets = self._aim.budgets
            batch = plan(
                [Waiting(job.lengths, job.started, job.tokens) for job in jobs],
                budgets,
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
            return parts, budgets

    def _run(self, parts: Sequence[Part]) -> Fit:
        """Run a batch, in halves where memory does not suffice for it; say how it fitted."""
        try:
            self._compute(parts)
        except Exception as error:
            smaller = halves(parts) if out_of_memory(error) else []
            if not smaller:
                log.exception("a batch of %d requests failed", len(parts))
                return self._blame(parts, error)
            log.warning("a batch of %d tokens did not fit: %s", sum(part.tokens for part in parts), error)
        else:
            return Fit.WHOLE
        # Outside of the handler: the error holds on to the memory of the batch.
        return max(Fit.IN_PARTS, *(self._run(half) for half in smaller))

    def _blame(self, parts: Sequence[Part], error: Exception) -> Fit:
        """A batch failed: run each request's part by itself, so that only the culprit's fails.

        Where the engine itself is broken nothing is run any more.
        """
        if not out_of_memory(error) and self._is_broken():
            self._give_up(ENGINE_BROKEN)
        elif len(parts) > 1:
            return max(self._run([part]) for part in parts)
        else:
            self._fail([parts[0].job], _compute_error(error))
        return Fit.UNKNOWN

    def _is_broken(self) -> bool:
        """Say whether the engine fails even on a row that it has computed before.

        After an illegal access, a failed assertion or a fault of its memory a GPU computes nothing more for
        this process.
        """
        with self._changed:
            proven = self._proven
        if proven is None:
            return False
        try:
            self._engine.run([proven])
        except Exception as error:
            log.exception("the engine fails on a row that it has computed before")
            return not out_of_memory(error)
        return False

    def _compute(self, parts: Sequence[Part]) -> None:
        rows = [row for part in parts for row in part.rows]
        began = time.monotonic()
        vectors = self._engine.run(rows)
        now = time.monotonic()
        lengths = [len(row.ids) for row in rows]
        first = 0
        with self._changed:
            self._proven = rows[-1]
            for part in parts:
                count = part.end - part.start
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


def _compute_error(error: Exception) -> ComputeError:
    failure = ComputeError(f"The model failed on this request: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

"""One thread owns the model; the rows of all requests share its batches.

A batch is formed when the thread is free, never by a timer. Which rows it holds is decided by
`rerank_server.engine.batches.take`, and nowhere else.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from rerank_server.engine.batches import Waiting, take
from rerank_server.engine.interface import Engine, Outputs, Row
from rerank_server.errors import ClosedError, ComputeError, ServerError

log = logging.getLogger(__name__)

BUSY_WINDOW_S = 60.0
SHUTTING_DOWN = "The server is shutting down: send the request to another replica."
THREAD_ENDED = "The model's thread ended on an error that the server's log shows: restart the server."


@dataclass(frozen=True)
class BatchReport:
    """What one batch was, for metrics. Times are in seconds."""

    rows: int
    tokens: int
    """Token ids, without padding."""
    padded_tokens: int
    """Positions that were computed."""
    seconds: float
    queue_seconds: tuple[float, ...]
    """How long each request waited whose first rows are in this batch."""


Observe = Callable[[BatchReport], None]


class _Job:
    """The rows of one request, longest first, and what has come back for them."""

    def __init__(self, rows: Sequence[Row], now: float) -> None:
        self.places = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        self.rows = [rows[place] for place in self.places]
        self.lengths = [len(row.ids) for row in self.rows]
        self.submitted = now
        self.started = 0
        self.finished = 0
        self.tokens = sum(self.lengths)
        self.outputs: Outputs = [np.empty(0, dtype=np.float32)] * len(rows)
        self.future: Future[Outputs] = Future()
        # From here on the future cannot be cancelled, so the worker may settle it at any time.
        self.future.set_running_or_notify_cancel()

    def start(self, count: int) -> "_Part":
        """Take the next `count` rows out of the queue."""
        part = _Part(self, self.started, self.started + count)
        self.started = part.end
        self.tokens -= part.tokens
        return part

    def deliver(self, part: "_Part", vectors: Outputs) -> None:
        """Keep the vectors of a part, and settle the future with the last of them."""
        for place, vector in zip(self.places[part.start : part.end], vectors, strict=True):
            self.outputs[place] = vector
        self.finished += part.end - part.start
        if self.finished == len(self.rows) and not self.future.done():
            self.future.set_result(self.outputs)

    def fail(self, error: ServerError) -> None:
        """Settle the future with an error, unless it is settled."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(frozen=True)
class _Part:
    """The rows `start` to `end` of a request, which run together."""

    job: _Job
    start: int
    end: int

    @property
    def rows(self) -> list[Row]:
        return self.job.rows[self.start : self.end]

    @property
    def tokens(self) -> int:
        return sum(self.job.lengths[self.start : self.end])


class Batcher:
    """Runs rows of many callers on one engine.

    `batch_tokens` is what a batch aims at, in tokens without padding. A longer row is a batch of its own, so
    that no row can wait for ever, however small the aim.
    """

    def __init__(self, engine: Engine, *, batch_tokens: int, observe: Observe | None = None) -> None:
        """Start the worker. `observe` is called on its thread after every batch."""
        if batch_tokens < 1:
            raise ValueError(f"batch_tokens is {batch_tokens}: it must be at least 1")
        self._engine = engine
        self._batch_tokens = batch_tokens
        self._observe = observe
        # Every request that is not answered, in order of arrival, waiting or running.
        self._jobs: dict[_Job, None] = {}
        self._changed = threading.Condition()
        self._closed: str | None = None
        self._speed = _Speed()
        self._worker = threading.Thread(target=self._work, name="model", daemon=True)
        self._worker.start()

    @property
    def queued_tokens(self) -> int:
        """Return the tokens that wait for a batch."""
        with self._changed:
            return sum(job.tokens for job in self._jobs)

    @property
    def tokens_per_second(self) -> float | None:
        """Return the tokens per busy second, over the last busy minute; None before the first batch."""
        return self._speed.value

    async def run(self, rows: Sequence[Row]) -> Outputs:
        """Return an array a row, in the order of `rows`, of which there is at least one.

        Raises `ComputeError` where the model fails on these rows, `ClosedError` after `close`. A caller that
        is cancelled takes its rows out of the queue.
        """
        job = _Job(rows, time.monotonic())
        with self._changed:
            if self._closed is not None:
                raise ClosedError(self._closed)
            self._jobs[job] = None
            self._changed.notify()
        try:
            return await asyncio.wrap_future(job.future)
        finally:
            self._withdraw(job)

    def close(self) -> None:
        """Take no more rows, finish those that wait, and end the worker."""
        with self._changed:
            self._closed = SHUTTING_DOWN
            self._changed.notify()
        self._worker.join()

    def _withdraw(self, job: _Job) -> None:
        with self._changed:
            self._jobs.pop(job, None)

    def _work(self) -> None:
        try:
            while parts := self._next_batch():
                self._run(parts)
        except BaseException:
            log.exception("the model's thread ended")
            with self._changed:
                self._closed = THREAD_ENDED
                orphans = list(self._jobs)
            for job in orphans:
                job.fail(ComputeError(THREAD_ENDED))

    def _next_batch(self) -> list[_Part]:
        """Wait for rows and take some; nothing means that the batcher is closed and the queue empty."""
        with self._changed:
            while not (jobs := [job for job in self._jobs if job.started < len(job.rows)]):
                if self._closed is not None:
                    return []
                self._changed.wait()
            counts = take([Waiting(job.lengths, job.started, job.tokens) for job in jobs], self._batch_tokens)
            return [job.start(count) for job, count in zip(jobs, counts, strict=True) if count]

    def _run(self, parts: Sequence[_Part]) -> None:
        """Run a batch. If it fails, run each request's part by itself, so that only the culprit's fails."""
        try:
            self._compute(parts)
        except Exception as error:
            log.exception("a batch of %d requests failed", len(parts))
            if len(parts) == 1:
                self._withdraw(parts[0].job)
                parts[0].job.fail(_compute_error(error))
                return
            for part in parts:
                self._run([part])

    def _compute(self, parts: Sequence[_Part]) -> None:
        rows = [row for part in parts for row in part.rows]
        began = time.monotonic()
        vectors = self._engine.run(rows)
        seconds = time.monotonic() - began
        lengths = [len(row.ids) for row in rows]
        self._speed.add(sum(lengths), seconds)
        self._report(
            BatchReport(
                rows=len(rows),
                tokens=sum(lengths),
                padded_tokens=self._engine.positions(lengths),
                seconds=seconds,
                queue_seconds=tuple(began - part.job.submitted for part in parts if part.start == 0),
            )
        )
        first = 0
        for part in parts:
            count = part.end - part.start
            part.job.deliver(part, vectors[first : first + count])
            first += count

    def _report(self, report: BatchReport) -> None:
        """Have a batch measured; whatever goes wrong with that concerns no request."""
        if self._observe is None:
            return
        try:
            self._observe(report)
        except Exception:
            log.exception("a batch could not be measured")


class _Speed:
    """Tokens per second over the last busy minute."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._batches: deque[tuple[int, float]] = deque()
        self._tokens = 0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a batch, and forget those that were before the last busy minute."""
        self._batches.append((tokens, seconds))
        self._tokens += tokens
        self._seconds += seconds
        while len(self._batches) > 1 and self._seconds - self._batches[0][1] >= BUSY_WINDOW_S:
            old_tokens, old_seconds = self._batches.popleft()
            self._tokens -= old_tokens
            self._seconds -= old_seconds
        self.value = self._tokens / self._seconds if self._seconds > 0 else self.value


def _compute_error(error: Exception) -> ComputeError:
    failure = ComputeError(f"The model failed on this request: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

"""The rows of one request on their way through batches. No locks: `rerank_server.batching` holds one."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from rerank_server.admission import Size
from rerank_server.engine.interface import Outputs, Row


@dataclass(frozen=True)
class Computed:
    """What came back for one request. Times are in seconds."""

    outputs: Outputs
    """In the order of its rows."""
    queue_seconds: float
    """Until the first of its rows was begun."""
    compute_seconds: float
    """From then on until the last was done, turns of other requests included."""


class Job:
    """The rows of one request, longest first, and what has come back for them."""

    def __init__(self, rows: Sequence[Row], size: Size, now: float) -> None:
        self.places = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        self.rows = [rows[place] for place in self.places]
        self.lengths = [len(row.ids) for row in self.rows]
        self.size = size
        self.submitted = self.begun = now
        self.started = 0
        self.finished = 0
        self.tokens = sum(self.lengths)
        self.outputs: Outputs = [np.empty(0, dtype=np.float32)] * len(rows)
        self.future: Future[Computed] = Future()
        # From here on the future cannot be cancelled, so a worker may settle it at any time.
        self.future.set_running_or_notify_cancel()

    @property
    def waits(self) -> bool:
        """Say whether rows are left that no worker has taken."""
        return self.started < len(self.rows)

    def start(self, count: int) -> "Part":
        """Take the next `count` rows out of the queue."""
        part = Part(self, self.started, self.started + count)
        self.started = part.end
        self.tokens -= part.tokens
        return part

    def keep(self, part: "Part", vectors: Outputs, now: float) -> Computed | None:
        """Keep the vectors of a part; return everything with the last of them."""
        for place, vector in zip(self.places[part.start : part.end], vectors, strict=True):
            self.outputs[place] = vector
        self.finished += part.end - part.start
        if self.finished < len(self.rows):
            return None
        return Computed(self.outputs, self.begun - self.submitted, now - self.begun)


@dataclass(frozen=True)
class Part:
    """The rows `start` to `end` of a request, which run together."""

    job: Job
    start: int
    end: int

    @property
    def rows(self) -> list[Row]:
        """The rows themselves."""
        return self.job.rows[self.start : self.end]

    @property
    def tokens(self) -> int:
        """Their tokens, without padding."""
        return sum(self.job.lengths[self.start : self.end])


def halves(parts: Sequence[Part]) -> list[list[Part]]:
    """Cut a batch in two, by requests or by the rows of a lone one; nothing where it is a lone row."""
    if len(parts) > 1:
        return [list(parts[: len(parts) // 2]), list(parts[len(parts) // 2 :])]
    [part] = parts
    middle = (part.start + part.end) // 2
    if middle == part.start:
        return []
    return [[Part(part.job, part.start, middle)], [Part(part.job, middle, part.end)]]

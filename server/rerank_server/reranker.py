"""The request path: a query and documents in, scores out."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from rerank_server.admission import (
    LARGE_BATCHES,
    Demand,
    Estimate,
    Limits,
    Load,
    Refusal,
    Size,
    default_tokens,
)
from rerank_server.batching import SHUTTING_DOWN, Batcher, BatchReport
from rerank_server.daemons import in_daemon_thread
from rerank_server.encoding import Encoder
from rerank_server.engine.batches import Budgets
from rerank_server.engine.interface import Vectors
from rerank_server.engine.threads import usable_cores
from rerank_server.errors import ClosedError, ComputeError, InputError, OverloadedError
from rerank_server.families.interface import Cut, Truncate
from rerank_server.families.scales import Scale, logistic
from rerank_server.ledger import Ledger, Share
from rerank_server.load import CPU_BATCH_TOKENS, Activation, LoadedModel
from rerank_server.observation import note_step
from rerank_server.warming import measure_cores, measure_queue
from rerank_server.workers import Staffing, staffings

log = logging.getLogger(__name__)

CPU_BUDGETS = Budgets(full=CPU_BATCH_TOKENS, mixed=256, least=64)
MEASURED_TOKENS = CPU_BUDGETS.mixed // 2
"""Of the batches by which ways to use the cores are compared: enough to tell, little to wait for."""
GPU_WORKERS = 2
"""One prepares its batch while the other's is computed."""


@dataclass(frozen=True)
class RequestReport:
    """What one request was, and how long it took. Times are in seconds."""

    size: Size
    tokenize_seconds: float
    """From its admission until all of its rows are there, turns of other requests included."""
    queue_seconds: float
    """From then on until the first of its rows is begun."""
    compute_seconds: float
    """From then on until the last is done, turns of other requests included."""


@dataclass(frozen=True)
class Scores:
    """The scores of one request's documents."""

    values: tuple[float, ...]
    """Activated, in the order of the documents."""
    order: tuple[int, ...]
    """Indices of the documents by raw score, best first, ties by index."""
    tokens: int
    """Every token id that the model ran for this request, special tokens included, padding not."""
    report: RequestReport | None = None
    """How long it took; None where there was nothing to compute."""


@dataclass(frozen=True)
class RawScores:
    """What the model itself said of one request's documents."""

    values: Vectors
    """Logits or similarities, fp32, [documents]."""
    tokens: int
    report: RequestReport | None = None


Report: TypeAlias = BatchReport | RequestReport | Refusal
"""A batch was run, a request computed, or one not let in."""
Observe: TypeAlias = Callable[[Report], None]


class Reranker:
    """A loaded model at work: texts on tokenizer threads, rows on workers, callers on the event loop."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        observe: Observe | None = None,
        limits: Limits | None = None,
        cores: int | None = None,
    ) -> None:
        """Start the threads: a worker with all `cores` until `warm_up` has measured what is faster.

        `observe` is called after every batch, on a worker's thread, and after every request. `limits` None
        bounds nothing.
        """
        self.loaded = loaded
        self._observe = observe or _tell_nobody
        self._cores = cores or usable_cores()
        on_cpu = loaded.engine.device == "cpu"
        self._batcher = Batcher(
            loaded.engine,
            budgets=CPU_BUDGETS if on_cpu else Budgets.fixed(loaded.batch_tokens),
            staffing=Staffing(1, self._cores) if on_cpu else Staffing(GPU_WORKERS),
            observe=self._observe,
        )
        self._encoder = Encoder(loaded.ranker, loaded.max_length)
        self._estimate = Estimate(loaded.max_length)
        self._ledger = Ledger(
            limits or Limits(LARGE_BATCHES * loaded.batch_tokens),
            lambda: self._batcher.queued,
            lambda: self._batcher.tokens_per_second,
        )
        self._closed = False

    @property
    def closed(self) -> bool:
        """Say whether it was closed on purpose, which is no failure of the model."""
        return self._closed

    @property
    def load(self) -> Load:
        """Return what is admitted and not answered, with the tokens that wait."""
        return self._ledger.load

    @property
    def queued_tokens(self) -> int:
        """Return the tokens that wait for a batch, estimated for requests that are being tokenized."""
        return sum(self.load.tokens.values())

    @property
    def staffing(self) -> Staffing:
        """Return how many workers compute, and with how many threads each."""
        return self._batcher.staffing

    @property
    def tokens_per_second(self) -> float | None:
        """Return what all workers compute together, over the last busy minute; None before any batch."""
        return self._batcher.tokens_per_second

    @contextlib.contextmanager
    def admit(self, queries: Sequence[tuple[str, Sequence[str]]]) -> Iterator[list[Share]]:
        """Let a request with all of its queries, each with its documents, in until the block ends.

        Each is scored with its own of the shares that this gives. Raises `OverloadedError` where the queue is
        full, `ClosedError` after `close`: nothing was done for any of them then.
        """
        if self._closed:
            raise ClosedError(SHUTTING_DOWN)
        demands = [
            Demand(self._estimate.tokens(query, documents), len(query) + sum(map(len, documents)))
            for query, documents in queries
        ]
        with contextlib.ExitStack() as stack:
            try:
                shares = stack.enter_context(self._ledger.admit(demands))
            except OverloadedError as error:
                self._observe(error.refusal)
                raise
            yield shares

    async def score(
        self,
        query: str,
        documents: Sequence[str],
        *,
        share: Share | None = None,
        truncate: Truncate | None = None,
        max_document_tokens: int | None = None,
        max_row_tokens: int | None = None,
        activation: Activation | None = None,
        instruction: str | None = None,
    ) -> Scores:
        """Score every document against the query.

        `share` is its part in a request that `admit` let in; without it this is a request of its own.
        `truncate` None does as the manifest says; `max_document_tokens` cuts each document to that many of
        its own tokens first, `max_row_tokens` to what fits into a row of that many beside the query;
        `activation` and `instruction` stand in for the manifest's. Raises `InputError`
        where the request cannot be scored as it is, `OverloadedError` where the queue is full, `ComputeError`
        where the model fails on it, `ClosedError` after `close`. A caller that is cancelled leaves the queue.
        """
        if max_document_tokens is not None and max_document_tokens < 1:
            raise InputError(
                f"`max_document_tokens` is {max_document_tokens}: it must be at least 1.",
                "max_document_tokens",
            )
        cut = Cut(truncate or self.loaded.options.truncate, max_document_tokens, max_row_tokens)
        raw = await self.raw_scores(query, documents, cut, instruction, share)
        shown = activate(raw.values, activation or self.loaded.options.activation, self.loaded.scale)
        return Scores(
            values=tuple(shown.tolist()),
            order=best_first(raw.values),
            tokens=raw.tokens,
            report=raw.report,
        )

    async def raw_scores(
        self,
        query: str,
        documents: Sequence[str],
        cut: Cut,
        instruction: str | None = None,
        share: Share | None = None,
    ) -> RawScores:
        """Return the scores before activation and sorting. Raises as `score` does."""
        if self._closed:
            raise ClosedError(SHUTTING_DOWN)
        if not documents:
            return RawScores(np.empty(0, dtype=np.float32), 0)
        if instruction is not None and not self.loaded.ranker.takes_instruction:
            raise InputError(
                f"`instruction` is set, and models of the family {self.loaded.family} take none: leave it "
                "out.",
                "instruction",
            )
        if share is not None:
            return await self._compute(share, query, documents, cut, instruction)
        with self.admit([(query, documents)]) as [alone]:
            return await self._compute(alone, query, documents, cut, instruction)

    async def _compute(
        self, share: Share, query: str, documents: Sequence[str], cut: Cut, instruction: str | None
    ) -> RawScores:
        began = time.monotonic()
        entry = share.entry
        encoded = await self._encoder.encode(query, documents, cut, instruction, entry.size)
        self._estimate.learn(encoded.sample)
        tokenized = time.monotonic()
        note_step("tokenize", began, tokenized)
        self._ledger.counted(share, encoded.distinct_tokens, encoded.tokens)
        size = entry.size
        computed = await self._batcher.run(encoded.distinct, size)
        ended = time.monotonic()
        note_step("queue", tokenized, ended - computed.compute_seconds)
        note_step("compute", ended - computed.compute_seconds, ended)
        report = RequestReport(size, tokenized - began, computed.queue_seconds, computed.compute_seconds)
        self._observe(report)
        outputs = [computed.outputs[place] for place in encoded.places]
        values = await self._encoder.compare(outputs, encoded.rows, size)
        _require_finite(values)
        return RawScores(values, encoded.tokens, report)

    async def raw_scores_apart(self, query: str, documents: Sequence[str], cut: Cut) -> Vectors:
        """Return the raw scores of documents that no others are computed with, however many wait.

        They do not queue: the engine has them in one call, beside its batches. So two ways to compute a score
        can be compared, which would be what the queue makes of them otherwise. Raises as `score` does, and
        `ServerError` where memory does not suffice.
        """
        with self.admit([(query, documents)]) as [share]:
            size = share.entry.size
            encoded = await self._encoder.encode(query, documents, cut, None, size)
            computed = await in_daemon_thread(partial(self._batcher.run_apart, encoded.distinct))
            outputs = [computed[place] for place in encoded.places]
            values = await self._encoder.compare(outputs, encoded.rows, size)
        _require_finite(values)
        return values

    async def warm_up(self, workers: int | None = None, queue_tokens: int | None = None) -> None:
        """Measure how the cores are used best, and let that many workers compute from then on.

        Sets the bound of the queue to `queue_tokens`, else by the speed that was measured; `workers` is
        somebody's choice. Raises what the engine raises.
        """
        if self.loaded.engine.device == "cpu":
            staffing, speed = await in_daemon_thread(
                lambda: measure_cores(self.loaded, staffings(self._cores, workers), MEASURED_TOKENS)
            )
        else:
            staffing = Staffing(workers or GPU_WORKERS)
            speed = await measure_queue(self.loaded, self._batcher, staffing)
        self._batcher.staff(staffing, speed)
        limits = self._ledger.limits
        tokens = queue_tokens or default_tokens(speed, limits.large_from)
        self._ledger.limits = dataclasses.replace(limits, tokens=tokens)
        log.info("%s; %s tokens of small requests may wait, and of large ones", self.staffing, tokens)

    def close(self, *, finish: bool = True) -> None:
        """Take no more requests and end the threads; those that wait are finished, or fail."""
        self._closed = True
        self._batcher.close(finish=finish)
        self._encoder.close()


def activate(raw: Vectors, activation: Activation, scale: Scale = logistic) -> Vectors:
    """Map raw scores to what callers see, in fp32: themselves, or what the family's `scale` makes of them."""
    return raw if activation == "none" else scale(raw)


def best_first(raw: Vectors) -> tuple[int, ...]:
    """Return indices by descending raw score, ties by index; activation may round different scores to one."""
    return tuple(np.argsort(-raw, kind="stable").tolist())


def _require_finite(values: Vectors) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ComputeError(
            f"The model's score of documents[{wrong[0]}] is {values[wrong[0]]}, which is no number: "
            "try scoring.dtype float32; if that does not help, the weights are damaged."
        )


def _tell_nobody(_: Report) -> None:
    pass

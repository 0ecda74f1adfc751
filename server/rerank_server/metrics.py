"""What a server counts and measures, for Prometheus.

Times are in seconds. No label ever holds text of a query or a document.
"""

import functools
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from rerank_api.status import ServerState
from rerank_server.admission import Full, Load, Refusal, Size
from rerank_server.batching import BatchReport
from rerank_server.reranker import Report, RequestReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS = (64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_SHARES = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class Metrics:
    """The instruments of one server process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "rerank_requests", "Requests answered.", ["face", "status"], registry=self.registry
        )
        self._pairs = Counter(
            "rerank_pairs",
            "Pairs of a query and a document that were asked for, by what came of their request.",
            ["face", "outcome"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "rerank_tokens",
            "Token ids of pairs that were tokenized, by what came of their request.",
            ["face", "outcome"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "rerank_rejected",
            "Requests that were not let into the queue, by the bound that they ran into.",
            ["reason"],
            registry=self.registry,
        )
        for full in Full:
            self._rejected.labels(full.value)
        self._request_seconds = Histogram(
            "rerank_request_seconds",
            "From a request's headers to its answer.",
            ["face"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._queue_seconds = Histogram(
            "rerank_queue_seconds",
            "From the end of a request's tokenization to the first batch that holds a row of it.",
            ["size"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokenize_seconds = Histogram(
            "rerank_tokenize_seconds",
            "From a request's admission until all of its texts are tokenized.",
            ["size"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._compute_seconds = Histogram(
            "rerank_compute_seconds",
            "From the start of a request's first batch to the end of its last.",
            ["size"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batch_seconds = Histogram(
            "rerank_batch_seconds", "Computing one batch.", buckets=_SECONDS, registry=self.registry
        )
        self._batch_tokens = Histogram(
            "rerank_batch_tokens",
            "Token ids in a batch, without padding.",
            buckets=_TOKENS,
            registry=self.registry,
        )
        self._batch_fill = Histogram(
            "rerank_batch_fill",
            "Share of a batch's computed positions that are tokens and not padding.",
            buckets=_SHARES,
            registry=self.registry,
        )
        self._queued = Gauge(
            "rerank_queued_tokens", "Token ids that wait for a batch.", ["size"], registry=self.registry
        )
        self._in_flight = Gauge(
            "rerank_requests_in_flight", "Requests let in and not answered yet.", registry=self.registry
        )
        self._workers = Gauge(
            "rerank_workers", "Threads that compute batches side by side.", registry=self.registry
        )
        self._state = Gauge(
            "rerank_state", "1 for the state that the server is in.", ["state"], registry=self.registry
        )

    def follow(
        self, state: Callable[[], ServerState], load: Callable[[], Load], workers: Callable[[], int]
    ) -> None:
        """Read these whenever the metrics are asked for."""
        for size in Size:
            self._queued.labels(size.value).set_function(functools.partial(_queued, load, size))
        self._in_flight.set_function(lambda: load().requests)
        self._workers.set_function(workers)
        for each in ServerState:
            self._state.labels(each.value).set_function(functools.partial(_is, state, each))

    def answered(self, face: str, status: int, seconds: float) -> None:
        """Count one answer, good or bad."""
        self._requests.labels(face, str(status)).inc()
        self._request_seconds.labels(face).observe(seconds)

    def ranked(self, face: str, outcome: str, pairs: int, tokens: int) -> None:
        """Count what a request asked for, with what came of it: `ok`, or a word of
        `rerank_server.serving.outcome`.
        """
        self._pairs.labels(face, outcome).inc(pairs)
        self._tokens.labels(face, outcome).inc(tokens)

    def observe(self, report: Report) -> None:
        """Measure a batch or a request; called on any thread."""
        match report:
            case BatchReport():
                self._batch_seconds.observe(report.seconds)
                self._batch_tokens.observe(report.tokens)
                self._batch_fill.observe(report.tokens / report.padded_tokens)
            case RequestReport():
                self._tokenize_seconds.labels(report.size.value).observe(report.tokenize_seconds)
                self._queue_seconds.labels(report.size.value).observe(report.queue_seconds)
                self._compute_seconds.labels(report.size.value).observe(report.compute_seconds)
            case Refusal():
                self._rejected.labels(report.full.value).inc()


def _queued(load: Callable[[], Load], size: Size) -> float:
    return float(load().tokens.get(size, 0))


def _is(state: Callable[[], ServerState], one: ServerState) -> float:
    return float(state() is one)

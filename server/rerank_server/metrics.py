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
from rerank_server.batching import BatchReport

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
        self._documents = Counter("rerank_documents", "Documents scored.", ["face"], registry=self.registry)
        self._tokens = Counter(
            "rerank_tokens", "Token ids run by the model.", ["face"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "rerank_request_seconds",
            "From a request's headers to its answer.",
            ["face"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._queue_seconds = Histogram(
            "rerank_queue_seconds",
            "From a request's admission to the first batch that holds a row of it.",
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
        self._queued = Gauge("rerank_queued_tokens", "Token ids waiting for a batch.", registry=self.registry)
        self._state = Gauge(
            "rerank_state", "1 for the state that the server is in.", ["state"], registry=self.registry
        )

    def follow(self, state: Callable[[], ServerState], queued_tokens: Callable[[], int]) -> None:
        """Read these whenever the metrics are asked for."""
        self._queued.set_function(queued_tokens)
        for each in ServerState:
            self._state.labels(each.value).set_function(functools.partial(_is, state, each))

    def answered(self, face: str, status: int, seconds: float) -> None:
        """Count one answer, good or bad."""
        self._requests.labels(face, str(status)).inc()
        self._request_seconds.labels(face).observe(seconds)

    def ranked(self, face: str, documents: int, tokens: int) -> None:
        """Count the work behind one good answer."""
        self._documents.labels(face).inc(documents)
        self._tokens.labels(face).inc(tokens)

    def observe_batch(self, report: BatchReport) -> None:
        """Measure one batch; called on the worker's thread."""
        self._batch_seconds.observe(report.seconds)
        self._batch_tokens.observe(report.tokens)
        self._batch_fill.observe(report.tokens / report.padded_tokens)
        for seconds in report.queue_seconds:
            self._queue_seconds.observe(seconds)


def _is(state: Callable[[], ServerState], one: ServerState) -> float:
    return float(state() is one)

"""What the agent tells Prometheus: requests, documents and tokens of each consumer and model, and when the
certificate ends."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rerank_gateway.expiry import Expiry
from rerank_gateway.metering import Ledger

METRICS_PATH = "/metrics"


class Usage(Collector):
    """Reads the ledger at each scrape."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters. Their labels are bounded: known consumers, names, RerankModels, six classes."""
        requests = CounterMetricFamily(
            "rerank_gateway_requests",
            "Requests answered, by class of status.",
            labels=["consumer", "model", "served_by", "status"],
        )
        for account, count in self._ledger.requests().items():
            labels = [account.consumer, account.model, account.served_by, account.status]
            requests.add_metric(labels, count)
        labels = ["consumer", "model", "served_by"]
        documents = CounterMetricFamily("rerank_gateway_documents", "Documents ranked.", labels=labels)
        tokens = CounterMetricFamily("rerank_gateway_tokens", "Token ids that models ran.", labels=labels)
        for user, ranked, ran in self._ledger.used():
            documents.add_metric([*user], ranked)
            tokens.add_metric([*user], ran)
        yield from (requests, documents, tokens)


class Certificate(Collector):
    """Says when the certificate ends, where there is one."""

    def __init__(self, expiry: Expiry) -> None:
        self._expiry = expiry

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        if self._expiry.at is not None:
            yield GaugeMetricFamily(
                "rerank_gateway_certificate_expiry_timestamp_seconds",
                "When the TLS certificate that callers see expires, in seconds since 1970.",
                value=self._expiry.at,
            )


def route(ledger: Ledger, expiry: Expiry) -> Route:
    """Return the path at which both are told, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(Usage(ledger))
    registry.register(Certificate(expiry))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Route(METRICS_PATH, metrics)

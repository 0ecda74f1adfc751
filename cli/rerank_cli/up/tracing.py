"""Spans of requests on one machine: the gateway's and the servers' go to the same collector."""

from collections.abc import Mapping

from rerank_cli.errors import StartError
from rerank_gateway.tracing import Tracing, asked_for


def tracing(endpoint: str | None, sampling: float | None) -> Tracing | None:
    """Read what the command line says; None makes no spans. Raises `StartError` with what is wrong."""
    try:
        return asked_for(endpoint, sampling)
    except ValueError as error:
        raise StartError(f"There are no spans to be had so: {error}.") from error


def server_environment(wanted: Tracing | None) -> Mapping[str, str]:
    """Return the variables by which servers send spans, those of the gateway's traces and their own."""
    if wanted is None:
        return {}
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": wanted.url,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{wanted.sampling / 100:g}",
    }

"""OpenTelemetry spans of requests, where the standard OTEL_ variables ask for them; else nothing is imported.

A request is a server span, in the trace that its `traceparent` names, with a child for each part of the work:
`tokenize`, `queue`, `compute`.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rerank_server.observation import Facts

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

SERVICE = "rerank-server"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/json"
"""The encoding that is spoken. Not protobuf: its Python package has files in common with Envoy's messages."""

EXPORTERS = ("otlp", "console")
SERVER_ERROR = 500


@dataclass(frozen=True)
class Choice:
    """Where spans go."""

    exporters: tuple[str, ...] = ()
    """Of `EXPORTERS`; none means that no spans are made."""
    objection: str | None = None
    """What is asked for and cannot be done, in a sentence."""


def choose(environment: Mapping[str, str]) -> Choice:
    """Read the standard variables: spans are made where an exporter or an endpoint is named."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Choice()
    given = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if not given and not any(environment.get(name, "").strip() for name in ENDPOINTS):
        return Choice()
    named = tuple(name.strip().lower() for name in (given or "otlp").split(","))
    if "none" in named:
        return Choice()
    unknown = [name for name in named if name not in EXPORTERS]
    if unknown:
        return Choice(
            objection=f"OTEL_TRACES_EXPORTER names {', '.join(unknown)}: no spans are made. Write otlp, "
            "console or none."
        )
    protocol = next((environment[name].strip() for name in PROTOCOLS if environment.get(name)), PROTOCOL)
    if "otlp" in named and protocol != PROTOCOL:
        return Choice(
            objection=f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}: no spans are made. Set it to {PROTOCOL}, "
            "and the endpoint to the collector's port for HTTP, 4318 by default."
        )
    return Choice(tuple(dict.fromkeys(named)))


def tracer_from(environment: Mapping[str, str]) -> "RequestTracer | None":
    """Return a tracer where the variables ask for one, and log what they ask for in vain.

    OpenTelemetry's SDK reads the rest of the variables (endpoint, headers, sampler, resource) by itself, from
    the process's own environment.
    """
    choice = choose(environment)
    if choice.objection is not None:
        log.warning(choice.objection)
    if not choice.exporters:
        return None
    return RequestTracer([_exporter(name) for name in choice.exporters])


class RequestTracer:
    """Makes spans of requests; an observer of `rerank_server.observation`."""

    def __init__(self, exporters: "list[SpanExporter]") -> None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = _provider()
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rerank_server")
        self._spans: dict[int, tuple[Span, int]] = {}

    def begun(self, facts: Facts) -> None:
        """Start a request's span."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        zero = _zero_of_the_monotonic_clock()
        span = self._tracer.start_span(
            f"{facts.method} {facts.path}",
            extract(facts.headers),
            SpanKind.SERVER,
            {"http.request.method": facts.method, "http.route": facts.path},
            start_time=_wall_clock(facts.began, zero),
        )
        facts.trace_id = f"{span.get_span_context().trace_id:032x}"
        self._spans[id(facts)] = span, zero

    def ended(self, facts: Facts) -> None:
        """End it, with what has become known."""
        from opentelemetry.trace import StatusCode, set_span_in_context

        span, zero = self._spans.pop(id(facts))
        known = {
            "http.response.status_code": facts.status,
            "rerank.face": facts.face,
            "rerank.model": facts.model,
            "rerank.documents": facts.documents or None,
            "rerank.tokens": facts.tokens or None,
        }
        span.set_attributes({name: value for name, value in known.items() if value is not None})
        if facts.status >= SERVER_ERROR:
            span.set_attribute("error.type", str(facts.status))
            span.set_status(StatusCode.ERROR)
        context = set_span_in_context(span)
        for step in facts.steps:
            child = self._tracer.start_span(step.name, context, start_time=_wall_clock(step.began, zero))
            child.end(_wall_clock(step.ended, zero))
        span.end(_wall_clock(facts.ended, zero))

    def close(self) -> None:
        """Send what has not been sent; takes at most as long as OTEL_EXPORTER_OTLP_TIMEOUT says."""
        self._provider.shutdown()


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _provider() -> "TracerProvider":
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    from rerank_api import __version__

    ours = Resource.create({"service.name": SERVICE, "service.version": __version__})
    # What the variables say of the service stands over what we say.
    return TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)


def _zero_of_the_monotonic_clock() -> int:
    """Return when it began, in nanoseconds since 1970.

    Read once a request: between two readings the thread may have to wait, or somebody set the clock, and a
    part of the work would seem to begin before the request.
    """
    return time.time_ns() - time.monotonic_ns()


def _wall_clock(monotonic: float, zero: int) -> int:
    """Return nanoseconds since 1970 for a moment of the monotonic clock, which spans are not told in."""
    return zero + round(monotonic * 1e9)

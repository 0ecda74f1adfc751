"""Envoy's access log over gRPC: what the agent hears of each request, on the socket that ADS is on.

Messages: envoy.service.accesslog.v3.StreamAccessLogsMessage, envoy.data.accesslog.v3.HTTPAccessLogEntry.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf.struct_pb2 import Value

from rerank_api.faces import MODEL_HEADER
from rerank_gateway.auth import CONSUMER_METADATA, RBAC_METADATA
from rerank_gateway.limits import OWES_NOTHING, RATE_LIMITED, REFUSAL_METADATA
from rerank_gateway.metering import Use
from rerank_gateway.usage import DOCUMENTS, FIRST_WORD_BEFORE_S, NAMESPACE, SERVED_BY, STILL_S, TOKENS

# The generated classes carry no type information: to the type checker these are Any.
Entry: TypeAlias = accesslog_pb2.HTTPAccessLogEntry
Metadata: TypeAlias = base_pb2.Metadata
Message: TypeAlias = als_pb2.StreamAccessLogsMessage
Response: TypeAlias = als_pb2.StreamAccessLogsResponse

_MOST_OF_AN_ANSWER = 2**31
"""Documents, or tokens: far more than an answer within the limits can have. What says more counts nothing."""

_SERVICE = "envoy.service.accesslog.v3.AccessLogService"


class AccessLogs:
    """Hands what any number of Envoys tell to `took`, on the event loop."""

    def __init__(self, took: Callable[[Sequence[Use]], None]) -> None:
        self._took = took
        self._ended = asyncio.Event()

    def service(self) -> grpc.GenericRpcHandler:
        """Return the service, for a gRPC server."""
        method = grpc.stream_unary_rpc_method_handler(
            self._stream,
            request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"StreamAccessLogs": method})

    def end(self) -> None:
        """End every stream: Envoys never would."""
        self._ended.set()

    async def _stream(
        self, messages: AsyncIterator[Message], _: "grpc.aio.ServicerContext[Message, Response]"
    ) -> Response:
        reading = asyncio.create_task(self._read(messages))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            ended.cancel()
        return als_pb2.StreamAccessLogsResponse()

    async def _read(self, messages: AsyncIterator[Message]) -> None:
        async for message in messages:
            self._took([use_of(entry) for entry in message.http_logs.log_entry])


def use_of(entry: Entry) -> Use:
    """Read what counts in one entry.

    Of a request that takes longer than `STILL_S` Envoy tells while it goes on, and with the first such word
    it counts. No word says whether it is the first, but how long the request has taken does.
    """
    metadata = entry.common_properties.metadata
    ended = entry.common_properties.access_log_type == accesslog_pb2.DownstreamEnd
    lasted_s = entry.common_properties.duration.ToTimedelta().total_seconds()
    return Use(
        consumer=_consumer(metadata),
        model=entry.request.request_headers.get(MODEL_HEADER, ""),
        host=entry.request.authority,
        status=entry.response.response_code.value,
        documents=_count(metadata, DOCUMENTS),
        tokens=_count(metadata, TOKENS) if ended else 0,
        served_by=entry.common_properties.custom_tags.get(SERVED_BY, ""),
        sent=entry.common_properties.upstream_remote_address.HasField("socket_address"),
        ended=ended,
        counts=lasted_s < (STILL_S if ended else FIRST_WORD_BEFORE_S) and not _is_refused(entry),
    )


def _is_refused(entry: Entry) -> bool:
    """Say whether a limit has refused the request."""
    debt = _value(entry.common_properties.metadata, RBAC_METADATA, REFUSAL_METADATA)
    owes = debt is not None and debt.string_value != OWES_NOTHING
    return owes or entry.response.response_code_details == RATE_LIMITED


def _consumer(metadata: Metadata) -> str:
    value = _value(metadata, RBAC_METADATA, CONSUMER_METADATA)
    return "" if value is None else str(value.string_value)


def _count(metadata: Metadata, key: str) -> int:
    """Read what a server says that it has counted; it may say anything."""
    value = _value(metadata, NAMESPACE, key)
    if value is None or not 0 <= value.number_value <= _MOST_OF_AN_ANSWER:
        return 0
    return int(value.number_value)


def _value(metadata: Metadata, namespace: str, key: str) -> Value | None:
    if namespace not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[namespace].fields
    value: Value | None = fields.get(key)
    return value

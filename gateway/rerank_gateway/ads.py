"""Envoy's configuration over gRPC: one delta ADS stream for each Envoy, on a unix socket."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any

from rerank_gateway.clusters import name_cluster
from rerank_gateway.delta import DeltaStream, Refusal, Request, Response
from rerank_gateway.errors import SocketError
from rerank_gateway.publication import Publication
from rerank_gateway.resources import LOAD_ASSIGNMENT_TYPE
from rerank_gateway.sockets import claim, private_sockets

DeltaRequest: TypeAlias = discovery_pb2.DeltaDiscoveryRequest
DeltaResponse: TypeAlias = discovery_pb2.DeltaDiscoveryResponse

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_LARGEST_REQUEST = 64 << 20  # a reconnecting Envoy lists everything that it has
_GRACE_S = 1.0  # a stream whose client takes nothing any more is cut off after this

log = logging.getLogger(__name__)


class AdsServer:
    """Serves the publication to any number of Envoys; a stream waits until there is a first snapshot."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._server: grpc.aio.Server | None = None
        self._stopping = False
        self._logged: dict[tuple[str, str], str] = {}
        self._streams: set[DeltaStream] = set()
        self.refused: Counter[str] = Counter()
        """Resources that an Envoy refused, by type URL."""

    async def start(self, path: Path, *beside: grpc.GenericRpcHandler) -> None:
        """Listen on the unix socket, for other services too. Raises SocketError if that cannot be done."""
        claim(path)
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LARGEST_REQUEST)])
        method = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        handlers = {"DeltaAggregatedResources": method}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers), *beside))
        try:
            with private_sockets():
                server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise SocketError(f"cannot listen on {path}: {error}") from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End every stream and stop listening. Envoy keeps what it has."""
        if self._server is None:
            return
        self._stopping = True
        self._publication.wake()
        await self._server.stop(grace=_GRACE_S)
        self._server = None

    def is_routed(self, model: str) -> bool:
        """Say whether every Envoy that is connected sends this public name's requests where they belong."""
        return self._have_taken(name_cluster(model))

    def is_taken(self, cluster: str) -> bool:
        """Say whether every Envoy, and at least one, has acknowledged a cluster's newest endpoints."""
        return bool(self._streams) and self._have_taken(cluster)

    def _have_taken(self, cluster: str) -> bool:
        if self._publication.snapshot is not None:
            for stream in self._streams:
                stream.publish(self._publication.snapshot)  # its own turn may come only after this question
        return all(stream.has_taken(LOAD_ASSIGNMENT_TYPE, cluster) for stream in self._streams)

    async def _stream(
        self,
        requests: AsyncIterator[DeltaRequest],
        context: "grpc.aio.ServicerContext[DeltaRequest, DeltaResponse]",
    ) -> None:
        with self._publication.listening() as news:
            while self._publication.snapshot is None and not self._stopping:
                await news.wait()
                news.clear()
            if self._publication.snapshot is None:
                return
            stream = DeltaStream(self._publication.snapshot)
            self._streams.add(stream)
            reader = asyncio.create_task(self._read(requests, stream, news))
            try:
                while not reader.done() and not self._stopping:
                    news.clear()
                    stream.publish(self._publication.snapshot)
                    while (response := stream.response()) is not None:
                        await context.write(_encode(response))
                    await news.wait()
                if reader.done():
                    reader.result()
            finally:
                reader.cancel()
                self._streams.discard(stream)

    async def _read(
        self, requests: AsyncIterator[DeltaRequest], stream: DeltaStream, news: asyncio.Event
    ) -> None:
        try:
            async for message in requests:
                for refusal in stream.request(_decode(message)):
                    self._note(refusal)
                self._publication.wake()  # the stream, and who waits for what was acknowledged just now
        finally:
            news.set()

    def _note(self, refusal: Refusal) -> None:
        """Log a refusal once for each version, however many Envoys repeat it."""
        self.refused[refusal.type_url] += 1
        key = (refusal.type_url, refusal.name)
        if self._logged.get(key) == refusal.version:
            return
        self._logged[key] = refusal.version
        log.error(
            "Envoy refused %s %r, and goes on with what it had of it: %s",
            refusal.type_url.rpartition(".")[2],
            refusal.name,
            " ".join(refusal.reason.split()),
        )


def _decode(message: DeltaRequest) -> Request:
    error = None
    if message.HasField("error_detail"):
        error = message.error_detail.message or f"no reason given, code {message.error_detail.code}"
    return Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=error,
    )


def _encode(response: Response) -> DeltaResponse:
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.type_url,
        nonce=response.nonce,
        resources=[
            discovery_pb2.Resource(
                name=name,
                version=resource.version,
                resource=Any(type_url=response.type_url, value=resource.body),
            )
            for name, resource in response.resources.items()
        ],
        removed_resources=response.removed,
    )

"""The other replicas of this gateway, from the EndpointSlices of a Service that has them all."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.objects import SERVICE_LABEL, Key
from rerank_gateway.kubernetes.reflector import DEFAULT_PACE, Api, Pace, Reflector
from rerank_gateway.models import Endpoint


class KubernetesPeers:
    """Follows one Service's EndpointSlices, as `exchange.PeerSource` asks."""

    def __init__(self, api: Api, namespace: str, service: str, pace: Pace = DEFAULT_PACE) -> None:
        self._api = api
        self._namespace = namespace
        self._service = service
        self._pace = pace

    async def peers(self) -> AsyncGenerator[frozenset[Endpoint], None]:
        """Yield all replicas once they are listed, and whenever that changes."""
        slices = _Slices()
        reflector = Reflector(
            self._api,
            f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices",
            objects.peer_slice,
            slices,
            label=f"{SERVICE_LABEL}={self._service}",
            pace=self._pace,
        )
        following = asyncio.create_task(reflector.run())
        following.add_done_callback(lambda _: slices.changed.set())
        try:
            while True:
                await slices.changed.wait()
                slices.changed.clear()
                if following.done():
                    following.result()  # a defect: what a reflector can name it outlives
                yield slices.endpoints()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


class _Slices:
    """What the reflector has told."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._slices: dict[Key, tuple[Endpoint, ...]] = {}

    def endpoints(self) -> frozenset[Endpoint]:
        return frozenset(endpoint for each in self._slices.values() for endpoint in each)

    def put(self, key: Key, new: tuple[Endpoint, ...] | None) -> None:
        self._slices.pop(key, None)
        if new is not None:
            self._slices[key] = new
        self.changed.set()

    def replace(self, objects: Mapping[Key, tuple[Endpoint, ...]]) -> None:
        self._slices = dict(objects)
        self.changed.set()

"""The agent's source in a cluster: views of RerankModels with their EndpointSlices, and of who may call."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rerank_api.names import MODEL_LABEL
from rerank_api.resource import GROUP, VERSION
from rerank_gateway.kubernetes import objects
from rerank_gateway.kubernetes.objects import Key
from rerank_gateway.kubernetes.reflector import DEFAULT_PACE, Api, Pace, Reflector
from rerank_gateway.kubernetes.world import Table, World
from rerank_gateway.models import View

T = TypeVar("T")

log = logging.getLogger(__name__)

_BURST_S = 0.01
"""How long further changes are waited for before they are told."""
_WORDS_S = 1.0
"""How long after a view nothing but words of models, as of a download's progress, are told: each view is a
pass over all models."""
_IDLE_SHARE = 3.0
"""Of the time that a view takes to be made and taken, how much more passes before the next."""


class KubernetesSource:
    """Follows a whole cluster, or some namespaces of it, as `Source` asks.

    `consumers_in` is the namespace of RerankConsumers and of the Secrets with their keys: one, because who
    reads Secrets should read few. None where nobody is asked for a key.
    """

    def __init__(
        self,
        api: Api,
        namespaces: tuple[str, ...] = (),
        pace: Pace = DEFAULT_PACE,
        consumers_in: str | None = None,
    ) -> None:
        self._api = api
        self._namespaces: tuple[str | None, ...] = tuple(dict.fromkeys(namespaces)) or (None,)
        self._consumers_in = consumers_in
        self._pace = pace

    async def views(self) -> AsyncGenerator[View, None]:
        """Yield the first view once every list is complete, then one after each burst of changes."""
        world, changed = World(), asyncio.Event()
        reflectors: list[Reflector[Any]] = [
            reflector
            for namespace in self._namespaces
            for reflector in self._reflectors(world, namespace, changed.set)
        ]
        if self._consumers_in is not None:
            reflectors += self._reflectors_of_keys(world, self._consumers_in, changed.set)
        following = [asyncio.create_task(reflector.run()) for reflector in reflectors]
        for task in following:
            task.add_done_callback(lambda _: changed.set())
        try:
            told, next_at, words_at, complaints = False, 0.0, 0.0, frozenset[str]()
            while True:
                await _wait(changed, words_at if world.changed and told else None)
                await asyncio.sleep(max(_BURST_S, next_at - time.monotonic()))
                changed.clear()
                for task in following:
                    if task.done():
                        task.result()  # a defect: what a reflector can name it outlives
                due = world.pressing or (world.changed and time.monotonic() >= words_at)
                if (due or not told) and all(reflector.listed for reflector in reflectors):
                    told, began = True, time.monotonic()
                    complaints = _complain(world.unusable(), complaints)
                    yield world.view()
                    next_at = time.monotonic() + (time.monotonic() - began) * _IDLE_SHARE
                    words_at = time.monotonic() + _WORDS_S
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)

    def _reflectors(
        self, world: World, namespace: str | None, changed: Callable[[], None]
    ) -> tuple[Reflector[objects.Model], Reflector[objects.Slice]]:
        below = "" if namespace is None else f"namespaces/{namespace}/"
        return (
            Reflector(
                self._api,
                f"/apis/{GROUP}/{VERSION}/{below}rerankmodels",
                objects.model,
                _Part(world.models, namespace, changed),
                pace=self._pace,
            ),
            Reflector(
                self._api,
                f"/apis/discovery.k8s.io/v1/{below}endpointslices",
                objects.endpoint_slice,
                _Part(world.slices, namespace, changed),
                label=MODEL_LABEL,
                pace=self._pace,
            ),
        )

    def _reflectors_of_keys(
        self, world: World, namespace: str, changed: Callable[[], None]
    ) -> tuple[Reflector[objects.Consumer], Reflector[objects.KeySecret]]:
        return (
            Reflector(
                self._api,
                f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/rerankconsumers",
                objects.consumer,
                _Part(world.consumers, namespace, changed),
                pace=self._pace,
            ),
            Reflector(
                self._api,
                f"/api/v1/namespaces/{namespace}/secrets",
                objects.key_secret,
                _Part(world.secrets, namespace, changed),
                field="type=Opaque",  # releases of Helm, certificates and tokens are not even fetched
                pace=self._pace,
            ),
        )


async def _wait(changed: asyncio.Event, until: float | None) -> None:
    """Wait for a change, or for a moment of the monotonic clock."""
    limit = None if until is None else max(0.0, until - time.monotonic())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), limit)


def _complain(now: tuple[str, ...], before: frozenset[str]) -> frozenset[str]:
    """Log what keeps keys from counting, each once for as long as it stays so."""
    for sentence in now:
        if sentence not in before:
            log.warning("%s", sentence)
    return frozenset(now)


@dataclass(frozen=True)
class _Part(Generic[T]):
    """What one reflector knows of a table: one namespace, or all; says when it has told something."""

    table: Table[T]
    namespace: str | None
    changed: Callable[[], None]

    def put(self, key: Key, new: T | None) -> None:
        self.table.put(key, new)
        self.changed()

    def replace(self, objects: Mapping[Key, T]) -> None:
        self.table.replace(self.namespace, objects)
        self.changed()

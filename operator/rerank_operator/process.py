"""The operator's process: the watches, the Lease, the workers, and lists that put right what watches miss."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import kopf

from rerank_operator.cluster import Cluster
from rerank_operator.errors import EndingError, OperatorError, RestoredError
from rerank_operator.handlers import framework_settings, label_selector, registry, watched
from rerank_operator.keys import Key, Manifest
from rerank_operator.leader import Candidate, lead
from rerank_operator.reconcile import Reconciler
from rerank_operator.reports import Reports
from rerank_operator.settings import Settings
from rerank_operator.work_queue import WorkQueue
from rerank_operator.world import World

WORKERS = 16
RESYNC_S = 600.0
"""All lists are read again this often: kopf's watches miss what is deleted while they are disconnected."""
SETTLE_S = 5.0
"""The same, this long after a watch had to list anew."""

LIST_AGAIN_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Where:
    """Where the operator runs and listens."""

    namespace: str
    """The Lease's."""
    instance: str
    health: str
    """Address of the liveness endpoint, as `0.0.0.0:8081`."""

    @classmethod
    def of_environment(cls, health: str) -> "Where":
        """Read what the pod is told of itself."""
        return cls(
            namespace=os.environ.get("POD_NAMESPACE", "default"),
            instance=os.environ.get("POD_NAME", socket.gethostname()),
            health=health,
        )


async def run(settings: Settings, where: Where) -> None:
    """Run until SIGTERM. Raises where a part fails: the process then ends, and is started again."""
    async with _connections() as (cluster, http):
        operator = Operator(settings, cluster, http, where)
        watching = asyncio.create_task(operator.watch())
        leading = asyncio.create_task(
            lead(cluster, Candidate(where.namespace, where.instance), operator.work)
        )
        try:
            done, _ = await asyncio.wait((watching, leading), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # On SIGTERM kopf ends, and cancels every task that has begun since it was started.
                if not task.cancelled():
                    task.result()
        finally:
            for task in (leading, watching):
                task.cancel()
            await asyncio.gather(leading, watching, return_exceptions=True)


@contextlib.asynccontextmanager
async def _connections() -> AsyncIterator[tuple[Cluster, httpx.AsyncClient]]:
    cluster = await Cluster.connect(connections=WORKERS * 2)
    try:
        # Pods are asked directly, never through a proxy.
        async with httpx.AsyncClient(trust_env=False) as http:
            yield cluster, http
    finally:
        await cluster.close()


def _now() -> datetime:
    """Return the time as Kubernetes writes it, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


class Operator:
    """What the watches and the workers share."""

    def __init__(self, settings: Settings, cluster: Cluster, http: httpx.AsyncClient, where: Where) -> None:
        self._settings = settings
        self._cluster = cluster
        self._where = where
        self._world = World()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._reports = Reports(http, self._queue.add)
        self._listed_anew = asyncio.Event()
        self._reconciler = Reconciler(self._world, cluster, self._reports, settings, where.instance, _now)

    async def watch(self) -> None:
        """Hear of every change, whether leading or not."""
        await kopf.operator(
            registry=registry(self._settings, self._heard),
            settings=framework_settings(self._settings),
            standalone=True,
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            liveness_endpoint=f"http://{self._where.health}/healthz",
        )

    async def work(self) -> None:
        """Bring every model to what its manifest says, from now on."""
        await self._first_lists()
        for key in self._world.models():
            self._queue.add(key)
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._resync())
                for _ in range(WORKERS):
                    parts.create_task(self._worker())
        finally:
            self._reports.stop()

    def _heard(self, event: str | None, manifest: Manifest) -> None:
        concerned = self._world.remove(manifest) if event == "DELETED" else self._world.put(manifest)
        for key in concerned:
            self._queue.add(key)
        if event is None:
            self._listed_anew.set()

    async def _worker(self) -> None:
        while True:
            key = await self._queue.take()
            try:
                again_after = await self._reconciler.reconcile(key)
            except EndingError:
                self._queue.done(key)
            except OperatorError as error:
                log.warning("%s: %s; trying again in %.1f s", key, error, self._queue.failed(key))
            except asyncio.CancelledError:
                self._queue.failed(key)
                raise
            except Exception:  # the process's one net: one model's defect must not hold the others up
                log.exception("%s: unexpected; trying again in %.1f s", key, self._queue.failed(key))
            else:
                self._queue.done(key, again_after)

    async def _resync(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listed_anew.wait(), RESYNC_S)
                await asyncio.sleep(SETTLE_S)
            # Before they are read: what a watch lists anew while they are may be missing in them.
            self._listed_anew.clear()
            try:
                await self._read_lists()
            except RestoredError:
                raise
            except OperatorError as error:
                log.warning("%s; the watches go on", error)
                self._listed_anew.set()
                await asyncio.sleep(SETTLE_S)

    async def _first_lists(self) -> None:
        """Read every object, however often it takes: an API server that has just begun refuses some kinds."""
        while True:
            try:
                return await self._read_lists()
            except RestoredError:
                raise
            except OperatorError as error:
                log.warning("%s; trying again in %.0f s", error, LIST_AGAIN_S)
                await asyncio.sleep(LIST_AGAIN_S)

    async def _read_lists(self) -> None:
        """Read every object anew, and have what differs from what was known looked at."""
        for kind in watched(self._settings):
            found: list[Manifest] = []
            versions: list[int] = []
            for namespace in self._settings.namespaces or (None,):
                items, version = await self._cluster.list(kind, namespace, label_selector(kind))
                found += items
                versions.append(version)
            for key in self._world.replace(kind, found, min(versions)):
                self._queue.add(key)
        self._reports.forget_others(self._world.pod_uids())

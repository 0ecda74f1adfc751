"""Who of several operators acts: the one that holds the Lease."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kubernetes.aio import client
from kubernetes.aio.leaderelection import electionconfig, leaderelection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from rerank_operator.cluster import Cluster, translated
from rerank_operator.errors import ClusterError

LEASE = "rerank-operator"
LEASE_S = 15
"""After this without a renewal another candidate takes over."""
RENEW_S = 6
"""For so long a leader tries to renew before it stops acting by itself. By then nobody else may act, so what
the library adds fits in too: a pause before the first try, one after the last, and a last try that hangs."""
RETRY_S = 2
ANSWER_S = 4.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """Who wants to lead, and where the Lease is."""

    namespace: str
    identity: str


async def lead(cluster: Cluster, candidate: Candidate, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work whenever, and only while, this candidate holds the Lease.

    Ends by being cancelled, and then gives the Lease back, or by what the work raises.
    """
    while True:
        lock = _Lock(LEASE, candidate.namespace, candidate.identity, cluster.api)
        gained = asyncio.Event()
        try:
            await _first(_campaign(lock, gained), _after(gained, work))
        finally:
            if gained.is_set():
                log.warning("%s does not lead any more", candidate.identity)
                await lock.release()


async def _campaign(lock: "_Lock", gained: asyncio.Event) -> None:
    """Wait for the Lease, say that it is gained, renew it; return when it is lost."""

    async def begin() -> None:
        log.info("%s leads", lock.identity)
        gained.set()

    settings = electionconfig.Config(
        lock,
        lease_duration=LEASE_S,
        renew_deadline=RENEW_S,
        retry_period=RETRY_S,
        onstarted_leading=begin,
        onstopped_leading=_nothing,
    )
    await leaderelection.LeaderElection(settings).run()


async def _after(gained: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    await gained.wait()
    await work()


async def _nothing() -> None:
    pass


async def _first(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, and end the others; raises what it raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Lock(LeaseLock):
    """The library's lock, for which an API server that cannot be reached, or hangs, is a refusal and not the
    end of the campaign."""

    async def get(self, name: str, namespace: str) -> Any:
        try:
            return await _bounded("read the Lease", lambda: super(_Lock, self).get(name, namespace))
        except ClusterError as error:
            return False, error

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # The library's own asks for a pretty answer, in a way that its client refuses.
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record)
        )

        async def create() -> bool:
            await self.api_instance.create_namespaced_lease(namespace, lease)
            return True

        return await self._said(create)

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._said(lambda: super(_Lock, self).update(name, namespace, updated_record))

    async def release(self) -> None:
        """Have the next candidate wait no longer than it must."""
        with contextlib.suppress(ClusterError):
            lease = await _bounded(
                "read the Lease", lambda: self.api_instance.read_namespaced_lease(self.name, self.namespace)
            )
            if lease.spec is not None and lease.spec.holder_identity == self.identity:
                lease.spec.holder_identity = ""
                await _bounded(
                    "release the Lease",
                    lambda: self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease),
                )

    async def _said(self, request: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return bool(await _bounded("write the Lease", request))
        except ClusterError as error:
            log.warning("%s", error)
            return False


async def _bounded(what: str, request: Callable[[], Awaitable[Any]]) -> Any:
    async def soon() -> Any:
        async with asyncio.timeout(ANSWER_S):
            return await request()

    return await translated(what, soon)

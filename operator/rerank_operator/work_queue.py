"""Keys that want work: one worker a key at a time, growing pauses after failures, visits by appointment."""

import asyncio
import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 120.0

K = TypeVar("K", bound=Hashable)


def pause_after(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row: doubling, up to two minutes."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)


class WorkQueue(Generic[K]):
    """A set of keys that are due, in the order in which they became so.

    A key that is added while it waits is there once. One that is added while it is worked on comes again when
    that is done. All methods belong to one event loop.
    """

    def __init__(self) -> None:
        self._due: dict[K, None] = {}
        self._taken: set[K] = set()
        self._failures: dict[K, int] = {}
        self._appointments: list[tuple[float, int, K]] = []
        self._appointed: dict[K, float] = {}
        self._order = itertools.count()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, key: K) -> None:
        """Have a key worked on as soon as a worker is free, also within a pause after a failure."""
        self._due[key] = None
        self._news.set()

    def add_at(self, key: K, when: float) -> None:
        """Have a key worked on at a time of the event loop's clock. Of two appointments the earlier stays."""
        if key in self._appointed and self._appointed[key] <= when:
            return
        self._appointed[key] = when
        heapq.heappush(self._appointments, (when, next(self._order), key))
        self._news.set()

    async def take(self) -> K:
        """Wait for a key that nobody works on, and take it."""
        while True:
            now = asyncio.get_running_loop().time()
            self._keep_appointments(now)
            key = next((key for key in self._due if key not in self._taken), None)
            if key is not None:
                del self._due[key]
                self._appointed.pop(key, None)
                self._taken.add(key)
                return key
            self._news.clear()
            next_at = self._appointments[0][0] if self._appointments else None
            try:
                async with asyncio.timeout_at(next_at):
                    await self._news.wait()
            except TimeoutError:
                continue

    def done(self, key: K, again_after: float | None = None) -> None:
        """Give a key back that went well; optionally have it worked on again after some seconds."""
        self._failures.pop(key, None)
        self._give_back(key, again_after)

    def failed(self, key: K) -> float:
        """Give a key back that did not go well; return the seconds after which it is tried again."""
        self._failures[key] = self._failures.get(key, 0) + 1
        pause = pause_after(self._failures[key])
        self._give_back(key, pause)
        return pause

    def _give_back(self, key: K, again_after: float | None) -> None:
        self._taken.discard(key)
        if again_after is not None:
            self.add_at(key, asyncio.get_running_loop().time() + again_after)
        self._news.set()

    def _keep_appointments(self, now: float) -> None:
        while self._appointments and self._appointments[0][0] <= now:
            when, _, key = heapq.heappop(self._appointments)
            if self._appointed.get(key) == when:
                del self._appointed[key]
                self._due[key] = None
